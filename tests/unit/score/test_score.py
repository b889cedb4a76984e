import json

import h5py
import numpy as np
import pytest
from score_synthetic import backbone, chain, deformed

from cvae_protein.cli import main
from cvae_protein.config.settings import ScoreSettings, VerdictSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.dataset.leak_audit import AUDIT_COLUMNS, BINS
from cvae_protein.score.collect import collect
from cvae_protein.score.inputs import read_domains
from cvae_protein.score.metrics.metric import SCORE_COLUMNS
from cvae_protein.score.metrics.reconstruction import METRICS
from cvae_protein.score.score import roles, score_real, score_samples
from cvae_protein.score.verdicts import judge
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

SETTINGS = ScoreSettings(bootstrap=50, neighbours=3)


def _entry(coords, name, **facts):
    return Entry(backbone(coords, name), facts)


def _domains(folder, labels):
    """A store of one domain a label, every third held out."""
    entries, splits = [], []
    for index, label in enumerate(labels):
        name = f"d{index}"
        entries.append(_entry(chain(44 + index % 6, index), name, label=label))
        split = "test" if index % 3 == 0 else "train"
        splits.append(
            {"domain_id": name, "split": split, "label": label, "superfamily": f"{label}.{index}", "group": name}
        )
    write_store(folder / "domains.h5", entries, compression="gzip")
    write_table(folder / "splits.tsv", list(splits[0]), splits)
    return splits


def _samples(folder, splits, targets):
    (folder / "samples").mkdir()
    drawn = [
        _entry(chain(46, 100 + k), f"s{k}", label=label, variant="concat", seed=0) for k, label in enumerate(targets)
    ]
    raw = [_entry(deformed(chain(46, 100 + k), 1.0), f"s{k}", label=label, variant="concat", seed=0)
           for k, label in enumerate(targets)]  # fmt: skip
    facts = {
        "variant": "concat",
        "seed": 0,
        "rate": 30.0,
        "trace_rmsd": 2.0,
        "permuted_code_rmsd": 8.0,
        "swapped_label_rmsd": 3.0,
    }
    rebuilt = [
        _entry(deformed(chain(44 + k % 6, k), 1.0), row["domain_id"], label=row["label"], **facts)
        for k, row in enumerate(splits)
        if row["split"] == "test"
    ]
    for name, entries in (("samples", drawn), ("raw", raw), ("reconstructions", rebuilt)):
        write_store(folder / "samples" / f"{name}.h5", entries, compression="gzip")
    mean = np.random.default_rng(0).normal(size=(len(splits), 4))
    with h5py.File(folder / "samples" / "latents.h5", "w") as file:
        for name, column in (("id", "domain_id"), ("label", "label"), ("split", "split")):
            file.create_dataset(name, data=[row[column] for row in splits], dtype=h5py.string_dtype())
        for name, values in (("mean", mean), ("logvar", np.zeros_like(mean)), ("kl", mean**2 / 2)):
            file[name] = values.astype(np.float32)
        file.attrs["blocks"] = json.dumps({"shape": [0, 3], "fold": [3, 4]})


@pytest.fixture
def run(tmp_path):
    """A function that scores a made set: labels of the domains, classes asked for -> rows of both tables.

    `bins` are those that an audit has put the held-out domains into.
    """

    def score(labels, targets, bins=None):
        splits = _domains(tmp_path, labels)
        _samples(tmp_path, splits, targets)
        audit = None if bins is None else tmp_path / "audit.tsv"
        if bins is not None:
            names = [row["domain_id"] for row in splits if row["split"] == "test"]
            rows = [dict.fromkeys(AUDIT_COLUMNS, "") | {"domain_id": n, "bin": b} for n, b in zip(names, bins)]  # noqa: B905
            write_table(audit, AUDIT_COLUMNS, rows)
        score_samples(
            tmp_path / "domains.h5",
            tmp_path / "splits.tsv",
            tmp_path / "samples",
            "concat",
            0,
            SETTINGS,
            tmp_path / "out",
            audit,
        )
        return read_table(tmp_path / "out" / "scores.tsv"), read_table(tmp_path / "out" / "structures.tsv")

    return score


LABELS = ["1.10.8", "2.40.1"] * 6


def test_samples_are_scored_by_class_and_over_all(run):
    scores, structures = run(LABELS, ["1", "1", "2", "2"])
    rows = {(row["metric"], row["fold"]): row for row in scores}
    assert {row["variant"] for row in scores} == {"concat"}
    for metric in ("physically_valid", "physically_valid_raw", "nearest_tm", "nearest_same_class", "training_tm",
                   "helix", "wasserstein_helix", "mean_pairwise_tm",
                   "cluster_share", "memorisation_ratio"):  # fmt: skip
        assert rows[metric, "all"]["n"] == "4"
        assert rows[metric, "1"]["n"] == "2"
    assert rows["tm_score", "all"]["n"] == "4"
    assert float(rows["permuted_code_ratio", "all"]["value"]) == 4
    assert float(rows["bond_rmsz", "all"]["value"]) < 0.5 < float(rows["bond_rmsz_raw", "all"]["value"])
    assert {"sample", "reconstruction"} == {row["kind"] for row in structures}
    sample = structures[0]
    assert (sample["id"], sample["label"], sample["length"]) == ("s0", "1", "46")
    assert sample["nearest_id"] in {"d0", "d3", "d6", "d9"}
    assert sample["nearest_label"] in LABELS
    assert sample["backbone_rmsd"] == ""
    assert sample["helix"] != "nan"


def test_reconstructions_are_scored_by_nearness_to_training(run):
    scores, _ = run(LABELS, ["1", "2"], [BINS[0][1], BINS[2][1], BINS[2][1], BINS[2][1]])
    rows = {(row["metric"], row["fold"]): row for row in scores}
    assert (
        rows["tm_score", "tm_to_0.5"]["n"],
        rows["tm_score", "tm_above_0.8"]["n"],
        rows["tm_score", "all"]["n"],
    ) == ("1", "3", "4")
    assert ("tm_score", "tm_0.5_to_0.8") not in rows
    mean = (float(rows["tm_score", "tm_to_0.5"]["value"]) + 3 * float(rows["tm_score", "tm_above_0.8"]["value"])) / 4
    assert mean == pytest.approx(float(rows["tm_score", "all"]["value"]), abs=1e-4)
    assert [(row["metric"], row["fold"]) for row in scores].count(("tm_score", "all")) == 1
    assert {row["metric"] for row in scores if row["fold"].startswith("tm_")} == {m.name for m in METRICS}


def test_reconstructions_are_scored_rung_by_rung(tmp_path):
    splits = _domains(tmp_path, LABELS)
    rung = {"d0": "new_member", "d3": "new_topology", "d6": "new_topology", "d9": "new_topology"}
    splits = [row | {"rung": rung.get(row["domain_id"], "")} for row in splits]
    write_table(tmp_path / "splits.tsv", list(splits[0]), splits)
    _samples(tmp_path, splits, ["1", "2"])
    given = (tmp_path / "domains.h5", tmp_path / "splits.tsv", tmp_path / "samples")
    score_samples(*given, "concat", 0, SETTINGS, tmp_path / "out")
    rows = {(row["metric"], row["fold"]): row for row in read_table(tmp_path / "out/scores.tsv")}
    assert (rows["tm_score", "new_member"]["n"], rows["tm_score", "new_topology"]["n"]) == ("1", "3")
    assert ("tm_score", "new_superfamily") not in rows
    mean = (float(rows["tm_score", "new_member"]["value"]) + 3 * float(rows["tm_score", "new_topology"]["value"])) / 4
    assert mean == pytest.approx(float(rows["tm_score", "all"]["value"]), abs=1e-4)


def test_an_audit_of_another_split_is_refused(run):
    with pytest.raises(
        UserError, match=r"audit.tsv: expected a row for each held-out domain, none for d9; audit again"
    ):
        run(LABELS, ["1", "2"], [BINS[0][1]] * 3)


def test_scores_are_the_same_again(run, tmp_path):
    first, _ = run(LABELS, ["1", "2"])
    score_samples(
        tmp_path / "domains.h5", tmp_path / "splits.tsv", tmp_path / "samples", "concat", 0, SETTINGS, tmp_path / "out"
    )
    assert read_table(tmp_path / "out" / "scores.tsv") == first


def test_one_sample_and_a_class_without_held_out_domains(run):
    scores, _ = run(["1.10.8"] * 6, ["2"])
    rows = {(row["metric"], row["fold"]): row for row in scores}
    assert rows["wasserstein_helix", "2"]["value"] == "nan"
    assert rows["mean_pairwise_tm", "all"]["value"] == "nan"
    assert (rows["cluster_share", "2"]["value"], rows["cluster_share", "2"]["low"]) == ("1", "nan")
    assert rows["nearest_same_class", "2"]["value"] == "0"
    assert rows["class_leakage", "all"]["value"] == "nan"
    assert rows["tm_score", "1"]["n"] == "2"


def test_no_samples_at_all(tmp_path, run):
    scores, structures = run(LABELS, [])
    rows = {(row["metric"], row["fold"]): row for row in scores}
    assert (rows["physically_valid", "all"]["value"], rows["physically_valid", "all"]["n"]) == ("nan", "0")
    assert {row["kind"] for row in structures} == {"reconstruction"}


def test_real_domains_are_judged_like_samples_without_their_relatives(tmp_path):
    _domains(tmp_path, LABELS)
    score_real(tmp_path / "domains.h5", tmp_path / "splits.tsv", SETTINGS, tmp_path / "out")
    scores, structures = (read_table(tmp_path / "out" / name) for name in ("scores.tsv", "structures.tsv"))
    assert list(dict.fromkeys((row["variant"], row["seed"]) for row in scores)) == [
        ("real", ""), ("real_shuffled", ""), ("new_member", ""), ("training", "")
    ]  # fmt: skip
    assert not {"class_leakage", "tm_score", "rate", "physically_valid_raw"} & {row["metric"] for row in scores}
    assert all(row["note"] for row in scores if row["value"] == "nan")
    assert {row["kind"] for row in structures} == {"real", "new_member"}
    assert all(row["training_id"] != row["id"] for row in structures)
    assert sum(row["kind"] == "real" for row in structures) == 8


def test_real_domains_play_an_ideal_sampler_and_one_that_copies(tmp_path):
    """Pairs of near copies: hidden to a new member, whose superfamily may be trained, and seen by who copies."""
    entries, rows = [], []
    for index in range(24):
        name, pair = f"d{index}", index // 2
        coords = deformed(chain(44 + pair % 6, pair), 0.2 * (index % 2))
        entries.append(_entry(coords, name, label="1.10.8"))
        row = {"domain_id": name, "split": "test" if index < 8 else "train", "label": "1.10.8", "group": name}
        rows.append(row | {"superfamily": "1.10.8.1", "sequence_cluster": f"pair{pair}"})
    write_store(tmp_path / "domains.h5", entries, compression="gzip")
    write_table(tmp_path / "splits.tsv", list(rows[0]), rows)
    score_real(tmp_path / "domains.h5", tmp_path / "splits.tsv", SETTINGS, tmp_path / "out", per_class=10)
    found = {(row["variant"], row["metric"]): row for row in read_table(tmp_path / "out/scores.tsv")
             if row["fold"] == "all"}  # fmt: skip
    copies, member = (float(found[name, "training_tm"]["value"]) for name in ("training", "new_member"))
    assert copies == pytest.approx(1, abs=1e-3)
    assert 0.2 < member < 0.8
    assert found["real", "training_tm"]["value"] == "nan"  # of one superfamily with all
    assert {found[name, "vendi_score"]["n"] for name in ("training", "new_member")} == {"10"}
    states = {}
    for row in judge(tmp_path / "out/scores.tsv", VerdictSettings()):
        states.setdefault(row["variant"], {})[row["verdict"]] = row["state"]
    assert states["training"]["MEMORISATION"] == "flagged"
    assert states["new_member"]["MEMORISATION"] == "pass"


def test_new_members_that_were_held_out_come_before_training_domains(tmp_path):
    splits = [row | {"rung": ""} for row in _domains(tmp_path, LABELS)]
    for row in splits[1::3]:
        row.update(split="validation", rung="new_member" if row["label"] == "1.10.8" else "new_topology")
    write_table(tmp_path / "splits.tsv", list(splits[0]), splits)
    pools = roles(read_domains(tmp_path / "domains.h5", tmp_path / "splits.tsv"))
    found = {role: {domain.id for domain in pool} for role, (pool, _) in pools.items()}
    held_out = {row["domain_id"]: row["rung"] for row in splits if row["split"] == "validation"}
    assert found["real"] == set(held_out)
    assert found["new_member"] == {name for name, rung in held_out.items() if rung == "new_member"} != set()
    assert found["training"] == {row["domain_id"] for row in splits if row["split"] == "train"}


def test_sets_are_compared_at_equal_size(run, tmp_path):
    """A class of 8 samples beside 6 real domains: sets of 6 both, and means over all 8 as before."""
    scores, _ = run(["1.10.8"] * 9, ["1"] * 8)
    rows = {row["metric"]: row for row in scores if row["fold"] == "1"}
    for metric in ("mean_pairwise_tm", "cluster_share", "vendi_score", "wasserstein_helix", "memorisation_ratio"):
        assert rows[metric]["n"] == "6", metric
    assert rows["nearest_tm"]["n"] == "8"
    score_real(tmp_path / "domains.h5", tmp_path / "splits.tsv", SETTINGS, tmp_path / "real")
    real = {row["metric"]: row for row in read_table(tmp_path / "real/scores.tsv") if row["fold"] == "1"}
    assert real["vendi_score"]["n"] == "6"


def test_too_few_real_domains_do_not_make_sets_small(run):
    scores, _ = run(["1.10.8"] * 6, ["1"] * 8)
    assert {row["n"] for row in scores if (row["metric"], row["fold"]) == ("vendi_score", "1")} == {"8"}


def test_as_many_real_domains_are_drawn_as_there_are_samples(tmp_path):
    _domains(tmp_path, LABELS)
    given = ["--store", str(tmp_path / "domains.h5"), "--splits", str(tmp_path / "splits.tsv")]
    settings = ["--settings", '{"bootstrap": 10, "neighbours": 2}', "-o", str(tmp_path / "out")]
    assert main.run(["score", "--real", *given, "--per-class", "3", *settings]) == 0
    structures = [row for row in read_table(tmp_path / "out/structures.tsv") if row["kind"] == "real"]
    assert [row["label"] for row in structures].count("1") == 3 == len(structures) - 3


def test_tables_are_collected_in_order(tmp_path):
    row = dict.fromkeys(SCORE_COLUMNS, "1")
    for name in ("a", "b"):
        write_table(tmp_path / f"{name}.tsv", SCORE_COLUMNS, [{**row, "variant": name}])
    collect([tmp_path / "b.tsv", tmp_path / "a.tsv"], tmp_path / "scores.tsv")
    assert [each["variant"] for each in read_table(tmp_path / "scores.tsv")] == ["b", "a"]


def test_a_reconstruction_of_no_held_out_domain_is_refused(tmp_path):
    splits = _domains(tmp_path, LABELS)
    _samples(tmp_path, [{**row, "split": "test"} for row in splits], ["1"])
    with pytest.raises(UserError, match=r"reconstruction 'd1' is of no held-out domain"):
        score_samples(
            tmp_path / "domains.h5",
            tmp_path / "splits.tsv",
            tmp_path / "samples",
            "concat",
            0,
            SETTINGS,
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()
