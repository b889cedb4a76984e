"""The page: whole with and without optional files, offline, and deaf to markup in names."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup
from report_results import SCORES, STRUCTURES, entry, helix, page_of, score, write_results

from cvae_protein.config.settings import ReportSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.labels import is_within, label_order
from cvae_protein.core.structure import Backbone
from cvae_protein.dataset.leak_audit import AUDIT_COLUMNS, tm_bin
from cvae_protein.report import figures
from cvae_protein.report.class_cards import cards, disagreements
from cvae_protein.report.figures import as_tsv, plot, safe, variant_colours
from cvae_protein.report.gallery import STEP, pack, superpose
from cvae_protein.report.leaderboard import leaderboard, show, tiles
from cvae_protein.report.page import render
from cvae_protein.report.results import Results
from cvae_protein.report.sections import _curve, training
from cvae_protein.score.metrics import diversity, physical_validity
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Collects what a browser would run or load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")
        for name, value in attrs:
            self.handlers += [name] if name.startswith("on") else []
            self.ids += [value or ""] if name == "id" and tag in ("section", "a", "div") else []
            if name in ("src", "srcset", "xlink:href", "href", "data", "action", "poster") and tag != "a":
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._script = False


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without their drawing, which is most of the work, where a test looks at the text of a page alone."""
    monkeypatch.setattr(figures, "svg", lambda figure, alt: Markup('<svg role="img"></svg>'))


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("hostile")
    return page_of(root, write_results(root, prefix=HOSTILE))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("plain")
    variants = write_results(root, seeds=("0", "1"))
    return root, page_of(root, variants, ("0", "1"))


def test_every_section_is_filled(plain: tuple[Path, str]) -> None:
    text = plain[1]
    assert 'class="missing">No ' not in text.replace("This browser offers no WebGL", "")
    for caption in ("Ramachandran density", "Posterior means", "KL divergence", "CA distance maps", "Training curves"):
        assert f'aria-label="{caption}' in text
    assert re.search(r'class="best"[^>]*title="concat: ', text)


def test_the_contents_lead_to_sections(plain: tuple[Path, str]) -> None:
    anchors = re.findall(r'<a href="#(\w+)"', plain[1])
    assert anchors
    assert set(anchors) <= set(Page(plain[1]).ids)


def test_the_same_results_give_the_same_page(plain: tuple[Path, str]) -> None:
    root, text = plain
    assert page_of(root, ["pca", "concat"], ("0", "1")) == text


def test_the_page_loads_nothing(plain: tuple[Path, str]) -> None:
    page = Page(plain[1])
    assert all(address.startswith(("data:", "#")) for address in page.loads)
    assert not {"link", "iframe", "object", "embed", "img"} & set(page.tags)
    assert "connect-src 'none'" in plain[1]
    assert not re.search(r"url\((?!#)|@import", "".join(re.findall(r"<style>.*?</style>", plain[1], re.DOTALL)))


def test_classes_are_shown_with_their_names(plain: tuple[Path, str]) -> None:
    assert "<td>1 some fold</td>" in plain[1]


def test_markup_in_names_stays_text(hostile_page: str) -> None:
    page = Page(hostile_page)
    assert HOSTILE not in hostile_page
    assert not page.handlers
    assert len(page.scripts) == 4  # gallery data, 3Dmol, gallery, tables
    assert not any("alert(1)" in script for script in page.scripts[1:])
    items = json.loads(page.scripts[0])["items"]
    assert items["concat"]["1"][0]["sample"]["id"] == f"{HOSTILE}concat-1-0"


def test_the_whole_score_table_can_be_downloaded(hostile_page: str, plain: tuple[Path, str]) -> None:
    found = re.search(r'download="scores.tsv" href="data:text/tab-separated-values;base64,([^"]+)"', plain[1])
    assert found
    assert base64.b64decode(found[1]) == (plain[0] / "scores.tsv").read_bytes()
    assert "invented_metric" not in re.sub(r"base64,[^\"]+", "", hostile_page)


@pytest.mark.parametrize(
    "absent", ["samples", "models", "scores", "scores.tsv", "domains.h5", "splits.tsv", "rejected.tsv", "samples/pca"]
)
def test_an_absent_piece_leaves_a_sentence(tmp_path: Path, undrawn: None, absent: str) -> None:
    write_results(tmp_path)
    (tmp_path / absent).rename(tmp_path / "away")
    text = page_of(tmp_path, ["pca", "concat"])
    assert text.rstrip().endswith("</html>")
    assert 'class="missing"' in text or absent in ("rejected.tsv", "domains.h5")


def test_an_empty_folder_gives_a_page(tmp_path: Path) -> None:
    text = page_of(tmp_path, ["pca"])
    assert text.count('<p class="missing">') >= 6
    assert "3Dmol" not in "".join(Page(text).scripts)


def test_rungs_are_told_apart(tmp_path: Path, undrawn: None) -> None:
    variants = write_results(tmp_path)
    rung = {"d0": "new_member", "d1": "new_topology"}
    splits = [row | {"rung": rung.get(row["domain_id"], "")} for row in read_table(tmp_path / "splits.tsv")]
    write_table(tmp_path / "splits.tsv", list(splits[0]), splits)
    audited = [
        dict.fromkeys(AUDIT_COLUMNS, "") | {"domain_id": name, "split": "test", "bin": "tm_to_0.5", "rung": step}
        for name, step in rung.items()
    ]
    write_table(tmp_path / "leak_audit.tsv", AUDIT_COLUMNS, audited)
    rows = read_table(tmp_path / "scores.tsv")
    rows += [score("concat", "0", "backbone_rmsd", 1.11, "low") | {"fold": "new_member"}]
    rows += [score("concat", "0", "backbone_rmsd", 6.66, "low") | {"fold": "new_topology"}]
    write_table(tmp_path / "scores.tsv", SCORES, rows)
    text = " ".join(page_of(tmp_path, variants).split())
    said = "domains that training lacks: 1 new members of its superfamilies, 1 of new topologies"
    assert said in text
    part = text.split("How far held-out is held out")[1].split("</section>")[0]
    assert re.search(r'new member</td><td class="num">1</td><td class="num">1.11</td>', part)
    assert re.search(r'new topology</td><td class="num">1</td><td class="num">6.66</td>', part)
    assert "new superfamily" not in part


def test_the_audit_is_shown_with_errors_by_nearness(tmp_path: Path, undrawn: None) -> None:
    variants = write_results(tmp_path)
    assert "How far held-out is held out" not in page_of(tmp_path, variants)
    near = [("0.9", "0.95"), ("0.6", "0.2"), ("0.4", "0.1"), ("0.3", "")]
    audited = [
        dict.fromkeys(AUDIT_COLUMNS, "")
        | {"domain_id": f"d{k}", "split": "test", "max_tm": tm, "max_identity": same, "bin": tm_bin(float(tm))}
        for k, (tm, same) in enumerate(near)
    ]
    write_table(tmp_path / "leak_audit.tsv", AUDIT_COLUMNS, audited)
    rows = read_table(tmp_path / "scores.tsv")
    rows += [score("concat", "0", "backbone_rmsd", 7.77, "low") | {"fold": "tm_to_0.5"}]
    write_table(tmp_path / "scores.tsv", SCORES, rows)
    text = " ".join(page_of(tmp_path, variants).split("How far held-out is held out")[1].split("</section>")[0].split())
    shares = re.findall(r"([0-9.]+) %</td>", text)
    assert shares == ["50.0", "25.0", "25.0", "25.0"]
    assert re.search(r'at most 0.5</td><td class="num">2</td><td class="num">7.77</td>', text)


def test_an_unreadable_store_names_the_file(tmp_path: Path) -> None:
    write_results(tmp_path)
    (tmp_path / "samples/concat/seed0/latents.h5").write_bytes(b"no")
    with pytest.raises(UserError, match=r"latents\.h5"):
        page_of(tmp_path, ["pca", "concat"])
    assert not (tmp_path / "report.html").exists()


def test_seeds_are_averaged_and_their_intervals_spanned(plain: tuple[Path, str]) -> None:
    results = Results(plain[0], ["pca", "concat"], ["0", "1"])
    lines = {line["metric"]: line for group in leaderboard(results) for line in group["lines"]}
    cell = lines["nearest_tm"]["cells"]["pca"]
    assert cell.value == pytest.approx(0.305)
    assert (cell.low, cell.high) == (pytest.approx(0.2), pytest.approx(0.41))
    assert lines["trace_rmsd"]["cells"]["concat"].mark == "best"
    assert lines["trace_rmsd"]["cells"]["pca"].mark == ""
    assert lines["nearest_tm"]["cells"]["real"].mark == ""
    assert "invented_metric" not in lines


def test_models_that_are_alike_are_not_ranked(tmp_path: Path) -> None:
    rows = [score(variant, "0", "tm_score", 0.5, "high") for variant in ("pca", "concat")]
    rows += [score("pca", "0", "helix", 0.1, "real", 0.01), score("concat", "0", "helix", 0.5, "real", 0.01)]
    rows += [score("real", "", "helix", 0.4, "real", 0.01)]
    write_table(tmp_path / "scores.tsv", SCORES, rows)
    groups = leaderboard(Results(tmp_path, ["pca", "concat"], ["0"]))
    lines = {line["metric"]: line for group in groups for line in group["lines"]}
    assert [cell.mark for cell in lines["tm_score"]["cells"].values()] == ["", ""]
    assert [cell.mark for cell in lines["helix"]["cells"].values()] == ["", "best", ""]
    assert tiles(groups, ["tm_score"])[0]["equal"]


def lines_of(folder: Path, rows: list[dict[str, object]], *variants: str) -> tuple[list[dict], dict[str, dict]]:
    write_table(folder / "scores.tsv", SCORES, rows)
    groups = leaderboard(Results(folder, list(variants), ["0"]))
    return groups, {line["metric"]: line for group in groups for line in group["lines"]}


def test_what_may_know_the_held_out_domains_or_is_broken_on_purpose_is_never_best(tmp_path: Path) -> None:
    values = {"pca": 0.3, "concat": 0.4, "pretrained": 0.9, "training_copies": 0.8, "swapped_label": 0.7}
    rows = [score(variant, "0", "nearest_tm", value, "high", 0.01) for variant, value in values.items()]
    groups, lines = lines_of(tmp_path, rows, *values)
    marks = {name: cell.mark for name, cell in lines["nearest_tm"]["cells"].items()}
    assert {name for name, mark in marks.items() if mark} == {"concat"}
    assert tiles(groups, ["nearest_tm"])[0]["best"] == ["concat"]
    _, alone = lines_of(tmp_path, rows[2:], *list(values)[2:])
    assert not any(cell.mark for cell in alone["nearest_tm"]["cells"].values())
    assert tiles(groups, ["nearest_tm"])[0]["cell"].value == 0.4


@pytest.mark.parametrize(("code", "best"), [("9.99.99.10", "pretrained"), ("2.60.40.10", "concat")])
def test_the_packages_model_may_be_best_where_it_has_seen_no_relative(
    tmp_path: Path, make_backbone, code: str, best: str
) -> None:
    write_store(tmp_path / "domains.h5", [Entry(make_backbone("d1"), {"label": code, "cath": code, "scope": ""})])
    write_table(tmp_path / "splits.tsv", ["domain_id", "split"], [{"domain_id": "d1", "split": "test"}])
    rows = [
        score(name, "0", "nearest_tm", value, "high", 0.01) for name, value in (("concat", 0.4), ("pretrained", 0.9))
    ]
    groups, _ = lines_of(tmp_path, rows, "concat", "pretrained")
    assert tiles(groups, ["nearest_tm"])[0]["best"] == [best]
    assert Results(tmp_path, ["concat", "pretrained"], ["0"]).seen == ([] if best == "pretrained" else ["d1"])


def test_real_is_what_an_ideal_sampler_draws_where_that_is_known(tmp_path: Path) -> None:
    values = {"pca": 0.36, "concat": 0.44, "real": 0.35, "new_member": 0.45, "training": 0.46}
    rows = [
        score(variant, "0" if variant in ("pca", "concat") else "", "mean_pairwise_tm", value, "real", 0.001)
        for variant, value in values.items()
    ]
    for known, best in ((rows[:3], "pca"), (rows, "concat")):
        _, lines = lines_of(tmp_path, known, "pca", "concat")
        cells = lines["mean_pairwise_tm"]["cells"]
        assert [name for name, cell in cells.items() if cell.mark] == [best]
    assert list(cells) == ["pca", "concat", "real", "new_member", "training"]


def test_incoherent_samples_win_no_row_of_diversity_and_no_leak_lies_below_none(tmp_path: Path) -> None:
    """Directions as today's metrics have them: what is furthest apart, or by chance below 0, is not the best."""
    metrics = {metric.name: metric.better for metric in (*diversity.METRICS, *physical_validity.COMPOSITION)}
    values = {"pca": (0.18, 1.0, 11.5, -0.2), "concat": (0.33, 0.6, 7.0, 0.02), "real": (0.35, 0.5, 6.5, math.nan)}
    names = ("mean_pairwise_tm", "cluster_share", "vendi_score")
    rows = [
        score(variant, "" if variant == "real" else "0", name, value, metrics.get(name, "zero"), 0.01)
        for variant, given in values.items()
        for name, value in zip((*names, "class_leakage"), given, strict=True)
    ]
    _, lines = lines_of(tmp_path, rows, "pca", "concat")
    for name in (*names, "class_leakage"):
        assert lines[name]["cells"]["concat"].mark == "best", name
        assert lines[name]["cells"]["pca"].mark == "", name
    assert lines["vendi_score"]["direction"] == "closer to real is better"
    assert lines["class_leakage"]["direction"] == "nearer to 0 is better"


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        ({"superfamily": "1.10.8.2", "topology_trained": "yes"}, "of superfamilies that training lacks"),
        ({"superfamily": "1.10.9.1", "topology_trained": "no"}, "of topologies that training lacks"),
        ({"sequence_cluster": "d1", "topology_trained": "yes"}, "of sequence clusters that training lacks"),
        ({"superfamily": "", "topology_trained": "yes"}, "that training lacks"),
    ],
)
def test_the_page_claims_no_more_novelty_than_the_split_has(tmp_path: Path, held_out: dict, said: str) -> None:
    row = {"superfamily": "1.10.8.1", "sequence_cluster": "d0", "topology_trained": "", "reason": "", "label": "1"}
    rows = [{"domain_id": "d0", "split": "train"} | row, {"domain_id": "d1", "split": "test"} | row | held_out]
    write_table(tmp_path / "splits.tsv", list(rows[0]), rows)
    text = " ".join(page_of(tmp_path, ["pca"]).split())
    assert f"judged on 1 domain {said}; " in text


def test_the_number_of_structures_stands_in_each_cell(plain: tuple[Path, str]) -> None:
    board = plain[1].split('<section id="leaderboard">')[1].split("</section>")[0]
    assert board.count('<small class="n">n 6</small>') == board.count('class="value"') > 0


def test_seeds_that_were_not_asked_for_stay_out(plain: tuple[Path, str]) -> None:
    results = Results(plain[0], ["pca", "concat"], ["0"])
    lines = {line["metric"]: line for group in leaderboard(results) for line in group["lines"]}
    assert lines["nearest_tm"]["cells"]["pca"].value == pytest.approx(0.3)
    assert lines["nearest_tm"]["cells"]["real"].value == pytest.approx(0.5)


def test_fifty_classes_stay_small(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    write_results(tmp_path)
    folds = [f"3.{k}" for k in range(50)]
    place = tmp_path / "samples/concat/seed0"
    drawn = [entry(f"s{fold}-{k}", random, label=fold) for fold in folds for k in range(6)]
    write_store(place / "samples.h5", drawn, compression="gzip")
    judged = [
        dict.fromkeys(STRUCTURES, "")
        | {"id": f"s{fold}-{k}", "kind": "sample", "label": fold, "length": 44, "helix": 0.5}
        for fold in folds
        for k in range(6)
    ]
    write_table(tmp_path / "scores/concat/seed0/structures.tsv", STRUCTURES, judged)
    results = Results(tmp_path, ["pca", "concat"], ["0"])
    assert results.folds[-1] == "3.49"
    text = render(results, ReportSettings())
    results.close()
    assert len(text) < 4e6
    assert text.count('<details class="card"') == 52  # those of pca too
    assert '<details class="card" id="class-1" data-text="1 ' in text
    assert not re.search(r'<details class="card"[^>]* open>', text)


def test_training_is_compared_on_what_was_evaluated_alike(tmp_path: Path) -> None:
    rows = [{"step": "1", "kl": "9", "evaluated_kl": "5", "validation_kl": "6"}]
    write_table(tmp_path / "models/pca/seed0/history.tsv", list(rows[0]), rows)
    results = Results(tmp_path, ["pca"], ["0"])
    assert len(training(results, variant_colours(["pca"]))) == 1
    _, step, train, validation = _curve("red", rows, "kl")
    assert validation is not None
    assert (step.tolist(), train.tolist(), validation.tolist()) == ([1], [5], [6])


def test_verdicts_come_first_with_evidence_and_remedy(plain: tuple[Path, str]) -> None:
    text = plain[1]
    assert re.findall(r'<section id="(\w+)">', text)[0] == "verdicts"
    section = text.split('<section id="verdicts">')[1].split("</section>")[0]
    assert section.count('class="verdict flagged" href') == 2  # a seed a line
    for anchor in re.findall(r'class="verdict \w+" href="#([\w-]+)"', section):
        assert f'id="{anchor}"' in section
    assert "2 flagged" in section
    assert section.count("Set train.steps.") == 2
    assert "number = 0.4" in section
    assert section.index("concat") < section.index("real")


def test_a_model_that_is_not_shown_has_no_verdicts(tmp_path: Path) -> None:
    write_results(tmp_path)
    assert 'href="#verdict-' in page_of(tmp_path, ["pca", "concat"])
    section = page_of(tmp_path, ["pca"]).split('<section id="verdicts">')[1].split("</section>")[0]
    assert "concat" not in section


def test_every_plot_has_its_table(plain: tuple[Path, str]) -> None:
    shown = re.findall(r'<figure>(<svg role="img".*?)</figure>', plain[1], re.DOTALL)
    assert len(shown) == plain[1].count('<svg role="img"') > 15
    for figure in shown:
        found = re.search(r'download="([\w.]+\.tsv)" href="data:text/tab-separated-values;base64,([^"]+)"', figure)
        assert found
        lines = base64.b64decode(found[2]).decode().splitlines()
        assert len(lines) > 1
        assert len({line.count("\t") for line in lines}) == 1


def test_the_table_behind_a_plot_has_its_numbers(plain: tuple[Path, str]) -> None:
    found = re.search(r'download="rate_distortion.tsv" href="data:[^,]+,([^"]+)"', plain[1])
    assert found
    lines = base64.b64decode(found[1]).decode().splitlines()
    assert lines[0] == "variant\ttrace_rmsd\trate"
    assert lines.count("concat\t2.5\t50") == 4  # two domains, two seeds
    assert lines.count("pca\t2.5\tnan") == 4


def test_symptoms_stand_beside_the_rate_of_each_training(plain: tuple[Path, str]) -> None:
    found = re.search(r'download="rate_class_leakage.tsv" href="data:[^,]+,([^"]+)"', plain[1])
    assert found
    assert base64.b64decode(found[1]).decode().splitlines() == [
        "variant\tseed\trate\tclass_leakage\tlow\thigh",
        *(f"{name}\t{seed}\t{40 + seed}\t0.25\t0.15\t0.35" for name in ("pca", "concat") for seed in (0, 1)),
    ]
    assert 'download="rate_coverage.tsv"' not in plain[1]  # no such metric in this run
    assert "mathdefault" not in plain[1]  # matplotlib's markup of powers of ten, which the page does not read


def literal_scores(rate: float, leak: float, name: str = "literal_concat") -> list[dict[str, object]]:
    """Two seeds of a literal variant, about a rate and a leak."""
    return [
        score(name, seed, metric, value + half, "none")
        for seed, half in (("0", -0.05), ("1", 0.05))
        for metric, value in (("kl", rate), ("class_leakage", leak), ("active_share", 0.5))
    ]


def test_literal_variants_stand_along_their_rate_with_the_points_of_a_sweep(tmp_path: Path, undrawn: None) -> None:
    shown = [*write_results(tmp_path), "literal_concat"]
    write_table(tmp_path / "scores.tsv", SCORES, [*read_table(tmp_path / "scores.tsv"), *literal_scores(20, 0.3)])
    alone = page_of(tmp_path, shown, ("0", "1"))
    assert "snakemake sweep" in alone.split('<section id="literal">')[1].split("</section>")[0]
    swept = [
        {"train.kl.weight": weight} | row
        for weight, rate, leak in (("8", 0.2, 0.8), ("0.1", 70, 0.4))
        for name in ("literal_concat", "concat")
        for row in literal_scores(rate, leak, name)
    ]
    write_table(tmp_path / "sweep.tsv", ("train.kl.weight", *SCORES), swept)
    section = page_of(tmp_path, shown, ("0", "1")).split('<section id="literal">')[1].split("</section>")[0]
    assert "snakemake sweep" not in section
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in section.split("<tbody>")[1].split("<tr>")[1:]]
    assert rows == [
        ["literal_concat", "as the run has it", "2", "20.0", "0.500", "0.300", "–"],
        ["literal_concat", "train.kl.weight = 8", "2", "0.200", "0.500", "0.800", "–"],
        ["literal_concat", "train.kl.weight = 0.1", "2", "70.0", "0.500", "0.400", "–"],
    ]
    assert 'download="literal_class_leakage.tsv"' in section
    assert 'download="literal_swap_followed.tsv"' not in section  # no such metric in this run


def test_without_literal_variants_there_is_no_section_of_them(plain: tuple[Path, str]) -> None:
    assert 'id="literal"' not in plain[1]
    assert "Literal variants" not in plain[1]


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "-x"])
def test_no_cell_begins_as_a_formula(cell: str) -> None:
    assert safe(cell).startswith("'")
    table = base64.b64decode(plot(Markup(""), "x", {"a": [cell]}).table).decode()
    assert table.splitlines()[1].startswith("'")


@pytest.mark.parametrize("cell", ["-1.5", "+2", "1e-3", "-inf", "3.40.50", "1abcA00", ""])
def test_numbers_and_names_stay_as_they_are(cell: str) -> None:
    assert safe(cell) == cell


def test_cards_tell_what_came_beside_real_members(plain: tuple[Path, str]) -> None:
    results = Results(plain[0], ["pca", "concat"], ["0", "1"])
    found = {card["fold"]: card for card in cards(results)}
    results.close()
    assert list(found) == ["1", "3"]
    assert (found["1"]["training"], found["1"]["held_out"], found["1"]["rare"]) == (4, 2, True)
    lines = {line["name"]: line for line in found["1"]["lines"]}
    assert list(lines) == ["pca", "concat", "real"]
    assert lines["concat"]["n"] == 6  # three a seed
    assert lines["concat"]["cells"]["fidelity"].value == pytest.approx(0.8)
    assert lines["concat"]["cells"]["length"].value == lines["real"]["cells"]["length"].value == 44
    assert lines["real"]["cells"]["helix"].value == pytest.approx(42 / 44)
    assert lines["real"]["cells"]["rg"].value > 10
    assert not np.isfinite(lines["real"]["cells"]["fidelity"].value)
    section = plain[1].split('<section id="cards">')[1].split("</section>")[0]
    assert section.count('<span class="badge">rare</span>') == 2


def test_real_domains_of_the_level_above_stand_in_and_are_named(tmp_path: Path) -> None:
    write_results(tmp_path)
    rows = read_table(tmp_path / "scores.tsv")
    rows += [score("real", "", "nearest_tm", 0.55, "high") | {"fold": "1"}]
    write_table(tmp_path / "scores.tsv", SCORES, rows)
    random = np.random.default_rng(2)
    drawn = [entry(f"s{k}", random, label="1.10") for k in range(3)]
    for variant in ("pca", "concat"):
        write_store(tmp_path / f"samples/{variant}/seed0/samples.h5", drawn, compression="gzip")
        judged = [dict.fromkeys(STRUCTURES, "") | {"id": f"s{k}", "kind": "sample", "label": "1.10"} for k in range(3)]
        write_table(tmp_path / f"scores/{variant}/seed0/structures.tsv", STRUCTURES, judged)
    (card,) = cards(Results(tmp_path, ["pca", "concat"], ["0"]))
    real = card["lines"][-1]
    assert (real["name"], real["of"], real["cells"]["nearest_tm"].value) == ("real", "1", pytest.approx(0.55))
    assert "of class 1" in page_of(tmp_path, ["pca", "concat"])


def test_the_classifier_is_shown_and_where_the_nearest_domain_disagrees(plain: tuple[Path, str]) -> None:
    section = " ".join(plain[1].split('<section id="classifier">')[1].split("</section>")[0].split())
    assert '<td class="num">0.91</td>' in section
    assert 'download="confusion.tsv"' in section
    # all nearest domains are of class 1, as all that are predicted: they agree, on class 3 for no sample
    assert "disagree on the class of 0 % of 12 samples" in section
    assert "The predicted class is the target in 50 %, that of the nearest domain in 50 %" in section


def test_the_page_says_which_fold_classifier_judged(plain: tuple[Path, str], tmp_path: Path) -> None:
    assert "A classifier of structures, trained on the training split alone, predicts" in " ".join(plain[1].split())
    write_results(tmp_path)
    spec = {"origin": {"start": {"name": "pretrained@1"}}}
    (tmp_path / "models/classifier/spec.json").write_text(json.dumps(spec), encoding="utf-8")
    page = " ".join(page_of(tmp_path, ["pca", "concat"]).split())
    assert (
        "The package's classifier of structures (pretrained@1), which was trained on the domains of its model" in page
    )
    held = len(Results(tmp_path, ["pca", "concat"], ["0"]).seen)
    said = f"the fold classifier may have learnt from relatives of {held} of the domains held out here"
    assert (said in page) == bool(held)


def test_disagreements_are_counted_by_class(tmp_path: Path) -> None:
    write_results(tmp_path)
    path = tmp_path / "scores/concat/seed0/structures.tsv"
    rows = read_table(path)
    rows[3]["nearest_label"] = "3.40.50.300"  # a sample of class 3, predicted to be of class 1
    write_table(path, STRUCTURES, rows)
    found = {(row["variant"], row["fold"]): row for row in disagreements(Results(tmp_path, ["pca", "concat"], ["0"]))}
    assert found["concat", "3"] == {
        "variant": "concat",
        "fold": "3",
        "n": "3",
        "classifier": "0",
        "nearest": "1",
        "differ": "1",
    }
    assert found["pca", "3"]["differ"] == "0"
    assert "Classifier and nearest domain disagree on 1 of 3 of concat." in page_of(tmp_path, ["pca", "concat"])


def test_floor_and_ceiling_stand_beside_each_value(tmp_path: Path) -> None:
    write_results(tmp_path)
    rows = read_table(tmp_path / "scores.tsv")
    rows += [score("real_shuffled", "", "nearest_tm", 0.2, "high")]
    write_table(tmp_path / "scores.tsv", SCORES, rows)
    groups = leaderboard(Results(tmp_path, ["pca", "concat"], ["0"]))
    line = next(line for group in groups for line in group["lines"] if line["metric"] == "nearest_tm")
    assert list(line["cells"]) == ["pca", "concat", "real", "real_shuffled"]
    assert line["cells"]["real_shuffled"].mark == ""
    assert list(tiles(groups, ["nearest_tm"])[0]["others"]) == ["pca", "real"]
    assert ">real_shuffled</th>" in page_of(tmp_path, ["pca", "concat"])


def test_labels_nest_and_sort_by_number() -> None:
    assert is_within("3.40.50", "3.40")
    assert not is_within("3.4", "3.40")
    assert sorted(["3.10", "3.9", "1", "a.1"], key=label_order) == ["a.1", "1", "3.9", "3.10"]


def test_packed_coordinates_are_close() -> None:
    coords = np.random.default_rng(0).normal(0, 30, (10, 5, 3)).astype(np.float32)
    back = np.frombuffer(base64.b64decode(pack(coords)), "<i2").reshape(10, 4, 3) * STEP
    assert np.abs(back - coords[:, :4]).max() <= STEP / 2 + 1e-6


def test_superposing_a_moved_copy_brings_it_back() -> None:
    fixed = helix("a", 60, np.random.default_rng(0))
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    moved = Backbone("b", fixed.sequence, fixed.coords @ turn.T + 7, fixed.residue_ids)
    coords, tm = superpose(moved, fixed)
    assert np.abs(coords - fixed.coords[0]).max() < 0.01
    assert tm == pytest.approx(1)


def test_numbers_are_shown_with_the_digits_that_matter() -> None:
    shown = [show(123.4), show(12.34), show(1.234), show(0.1234), show(float("nan")), show(0.5, "share")]
    assert shown == ["123", "12.3", "1.23", "0.123", "–", "50\u00a0%"]


def test_a_table_beyond_the_limit_is_cut_and_said_so() -> None:
    rows = [{"a": "x" * 1000} for _ in range(2000)]
    text, cut = as_tsv(rows)
    assert cut
    assert len(base64.b64decode(text)) < 1_600_000
    assert as_tsv(rows[:3])[1] is False


def test_a_variant_keeps_its_colour_beside_more_variants() -> None:
    assert variant_colours(["pca", "concat"])["concat"] == variant_colours(["pca", "concat", "branched"])["concat"]
