from collections import Counter

import numpy as np
import pytest

from cvae_protein.config.settings import LabelSettings, SplitSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.labels import superfamily, topology
from cvae_protein.core.structure import Backbone
from cvae_protein.dataset import homology
from cvae_protein.dataset.hold_out import assign
from cvae_protein.dataset.homology import SplitDomain
from cvae_protein.dataset.split import COLUMNS, SPLITS, balanced_weights, split_domains
from cvae_protein.model.batch import read_split
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

POINT = np.zeros((1, 1, 5, 3))
NUMBERS = tuple(map(str, range(60)))


def entry(name, label, scope="", group="", role="unique", breaks=0, cath=None):
    facts = {"label": label, "cath": label if cath is None else cath, "scope": scope, "role": role, "group": group}
    return Entry(Backbone(name, "A", POINT, ("1",)), {**facts, "breaks": breaks})


def split(tmp_path, entries, **settings):
    write_store(tmp_path / "s.h5", entries)
    counts = split_domains(tmp_path / "s.h5", SplitSettings(**settings), tmp_path / "splits.tsv")
    rows = {row["domain_id"]: row for row in read_table(tmp_path / "splits.tsv", COLUMNS)}
    assert list(rows) == [e.backbone.id for e in entries]
    assert counts == {name: sum(r["split"] == name for r in rows.values()) for name in SPLITS}
    return rows


def many(classes=(1, 2, 3), topologies=5, superfamilies=4, members=3):
    return [
        entry(f"{c}-{t}-{s}-{m}", f"{c}.10.{t}.{s}", group=f"g{c}-{t}-{s}-{m}")
        for c in classes
        for t in range(topologies)
        for s in range(superfamilies)
        for m in range(members)
    ]


def test_levels():
    assert [superfamily(c) for c in ("3.40.50.300", "3.40.50", "c.37.1.8", "", "x")] == [
        "3.40.50.300",
        "",
        "c.37.1",
        "",
        "",
    ]
    assert [topology(c) for c in ("3.40.50.300", "3.40.50", "c.37.1.8", "")] == ["3.40.50", "3.40.50", "c.37", ""]


def test_long_domains_are_for_stretches_unless_relatives_are_held_out(tmp_path):
    letters = np.random.default_rng(0)

    def long_entry(name, label):
        chain = Backbone(name, "".join(letters.choice(list("ACDEFGHIKLMNPQRSTVWY"), 60)), POINT.repeat(60, 1), NUMBERS)
        facts = {"label": label, "cath": label, "scope": "", "role": "unique", "group": f"g{name}", "breaks": 0}
        return Entry(chain, facts)

    short = many()
    long = [long_entry(f"long-{e.backbone.id}", e.facts["label"]) for e in short[::3]]
    rows = split(tmp_path, [*short, *long], max_length=59)
    seen = Counter()
    for e in short[::3]:
        assigned, other = rows[e.backbone.id]["split"], rows[f"long-{e.backbone.id}"]
        assert other["split"] == ("crops" if assigned == "train" else "excluded")
        assert other["reason"].startswith("longer than")
        seen[assigned] += 1
    assert min(seen[assigned] for assigned in ("train", "validation", "test")) > 0
    assert {row["split"] for row in split(tmp_path, [*short, *long], max_length=60).values()} == {
        "train", "validation", "test",
    }  # fmt: skip


def test_shares_and_columns(tmp_path):
    rows = split(tmp_path, many())
    assert list(next(iter(rows.values()))) == list(COLUMNS)
    for fold in "123":
        counts = Counter(r["split"] for r in rows.values() if r["label"][0] == fold)
        assert counts["test"] == 12
        assert counts["validation"] == 6
        assert counts["train"] == 42


@pytest.mark.parametrize("seed", range(5))
def test_no_superfamily_or_group_on_two_sides(tmp_path, seed):
    generator = np.random.default_rng(seed)
    entries = [
        entry(
            f"d{i}",
            f"{generator.integers(1, 4)}.10.{generator.integers(8)}.{generator.integers(6)}",
            scope=f"a.{generator.integers(60)}.1.1" if generator.random() < 0.3 else "",
            group=f"g{generator.integers(400)}",
        )
        for i in range(300)
    ]
    rows = split(tmp_path, entries, seed=seed, test=0.1, min_test=1)
    for relation in (lambda e: e.facts["cath"], lambda e: superfamily(e.facts["scope"]), lambda e: e.facts["group"]):
        found_splits = {}
        for e in entries:
            if relation(e):
                found_splits.setdefault(relation(e), set()).add(rows[e.backbone.id]["split"])
        assert all(len(found) == 1 for found in found_splits.values())
    assert {r["split"] for r in rows.values()} >= {"train", "test"}


def test_scope_and_group_tie_superfamilies(tmp_path):
    tied = [
        entry("a", "1.1.1.1", scope="a.1.1.1"),
        entry("b", "1.2.1.1", scope="a.1.1.2", group="g"),
        entry("c", "1.3.1.1", group="g"),
    ]
    for seed in range(8):
        rows = split(tmp_path, [*tied, *many((1,))], seed=seed, test=0.3)
        assert len({rows[name]["split"] for name in "abc"}) == 1


def test_superfamilies_weigh_alike_and_within_them_their_clusters(tmp_path):
    own = {"a": ("1.1.1.1", "x"), "b": ("1.1.1.1", "x"), "c": ("1.1.1.1", "y"), "d": ("1.2.1.1", "z")}
    domains = [SplitDomain(name, label, label, "", "", "", cluster) for name, (label, cluster) in own.items()]
    tied = SplitDomain("e", "a.1.1.1", "1.2.1.1", "a.1.1.1", "", "", "u")
    found = balanced_weights([*domains, tied])
    assert found == pytest.approx({"a": 5 / 8, "b": 5 / 8, "c": 5 / 4, "d": 5 / 4, "e": 5 / 4})
    rows = split(tmp_path, [*many(), entry("alone", "1.20.1.1")])
    weights = {name: float(row["weight"]) for name, row in rows.items() if row["split"] == "train"}
    assert np.mean(list(weights.values())) == pytest.approx(1, abs=0.01)
    assert weights["alone"] == pytest.approx(
        3 * max(weight for name, weight in weights.items() if name != "alone"), rel=1e-3
    )
    assert {row["weight"] for row in rows.values() if row["split"] != "train"} == {""}
    balanced = read_split(tmp_path / "s.h5", tmp_path / "splits.tsv", True)["train"]
    assert dict(zip(balanced.ids, balanced.weights, strict=True)) == pytest.approx(weights)
    assert set(read_split(tmp_path / "s.h5", tmp_path / "splits.tsv")["train"].weights) == {1.0}


def test_codes_that_cannot_be_compared_count_as_related(tmp_path):
    """One domain without superfamily, one without SCOPe code, of the same topology; a third has both."""
    apart = [
        entry("a", "1.10.90", scope="a.1.1.1"),
        entry("b", "1.10.90.10"),
        entry("c", "1.10.90.20", scope="a.9.1.1"),
    ]
    found_splits = {
        tuple(split(tmp_path, [*apart, *many((1,))], seed=seed, test=0.4)[name]["split"] for name in "abc")
        for seed in range(20)
    }
    assert all(a == b for a, b, _ in found_splits)
    assert any(a != c for a, _, c in found_splits)


def test_what_the_packages_model_has_not_seen_is_held_out_first(tmp_path, monkeypatch):
    entries = many(classes=(1, 2), topologies=6, superfamilies=4)
    seen = {f"{c}.10.{t}.{s}" for c, fewest in ((1, 2), (2, 5)) for t in range(6) for s in range(4) if t < fewest}
    monkeypatch.setattr(homology, "may_know", lambda codes: bool(seen & set(codes)))
    for seed in range(3):
        rows = split(tmp_path, entries, unseen_first=True, seed=seed)
        held = [name for name, row in rows.items() if row["split"] in ("test", "validation")]
        first = [name for name in held if name.startswith("1")]
        assert len(first) >= 15
        assert not any(row["label"] in seen for name, row in rows.items() if name in first)
        # Of class 2, too few were not seen.
        assert sum(rows[name]["label"] in seen for name in held if name.startswith("2")) >= 3


def test_the_embedded_domains_suffice_to_hold_out_what_the_packages_model_has_not_seen(root):
    domains = [
        SplitDomain(row["domain_id"], row["cath"], row["cath"], row["scope"], row["role"], row["group"])
        for row in read_table(root / "data/domains.tsv", ["domain_id", "cath", "scope", "role", "group"])
    ]
    parts = homology.components(domains, homology.SCHEMES["superfamily"])
    assert assign(parts, SplitSettings(unseen_first=True), homology.SCHEMES["superfamily"]) == {}
    held = [part for part in parts if part.split != "train"]
    assert sum(sum(part.sizes.values()) for part in held) >= 50
    assert all(part.unseen for part in held)


def test_seed_decides_and_repeats(tmp_path):
    first, again, other = (split(tmp_path, many(), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_row_order_does_not_matter(tmp_path):
    first = split(tmp_path, many())
    assert split(tmp_path, many()[::-1]) == dict(reversed(first.items()))


def test_held_out_topologies_keep_a_trained_relative_where_they_can(tmp_path):
    entries = [*many((1,), topologies=6, members=2), *(entry(f"solo{i}", f"1.20.{i}.1") for i in range(30))]
    rows = split(tmp_path, entries, test=0.1, validation=0.1)
    held = [r for r in rows.values() if r["split"] in ("test", "validation")]
    assert held
    assert {r["topology_trained"] for r in held} == {"yes"}
    trained = {topology(r["label"]) for r in rows.values() if r["split"] == "train"}
    rows = split(tmp_path, [entry(f"solo{i}", f"1.20.{i}.1") for i in range(30)])
    assert {r["topology_trained"] for r in rows.values() if r["split"] == "test"} == {"no"}
    assert all((r["topology_trained"] == "yes") == (topology(r["label"]) in trained) for r in held)


def test_a_giant_family_stays_in_training(tmp_path):
    giant = [entry(f"giant{i}", "2.60.40.10") for i in range(40)]
    for seed in range(5):
        rows = split(tmp_path, [*giant, *many((2,))], seed=seed, test=0.4)
        assert {rows[f"giant{i}"]["split"] for i in range(40)} == {"train"}


def test_a_family_of_the_whole_target_is_taken_only_if_needed(tmp_path):
    pairs = [entry(f"{f}{m}", f"1.10.{f}.1") for f in range(5) for m in range(2)]
    rows = split(tmp_path, pairs, test=0.2, min_test=2, validation=0)
    assert Counter(r["split"] for r in rows.values()) == {"train": 8, "test": 2}


@pytest.mark.parametrize("seed", range(10))
def test_every_class_keeps_training_members(tmp_path, seed):
    entries = [entry(f"{c}{i}", f"{c}.10.{i}.1", scope=f"{'abc'[i % 3]}.{i}.1.1") for c in (1, 2) for i in range(4)]
    rows = split(tmp_path, entries, seed=seed, test=0.5, validation=0.4, min_test=1)
    for c in "12":
        assert {"train", "test"} <= {r["split"] for r in rows.values() if r["label"][0] == c}


@pytest.mark.parametrize(("families", "held"), [(1, 0), (2, 3)])
def test_too_few_relatives_is_said(tmp_path, families, held):
    few = [entry(f"few{i}", f"2.10.{i % families}.1") for i in range(6)]
    message = rf"class 2: expected at least 4 .* could hold out {held} of 6 domains in {families} groups .*min_test"
    with pytest.raises(UserError, match=message):
        split(tmp_path, [*many((1,)), *few], min_test=4)
    assert not (tmp_path / "splits.tsv").exists()


def test_excluded_with_a_reason(tmp_path):
    odd = [
        entry("broken", "1.10.0.0", breaks=2),
        entry("nameless", ""),
        entry("alone", "1.10.0.0", role="alternative", group="nobody"),
        entry("ungrouped", "1.10.0.0", role="alternative"),
    ]
    rows = split(tmp_path, [*many(), *odd])
    reasons = {name: rows[name]["reason"] for name in ("broken", "nameless", "alone", "ungrouped")}
    assert {rows[name]["split"] for name in reasons} == {"excluded"}
    assert reasons["broken"] == "2 chain breaks, at most 0"
    assert reasons["nameless"] == "unlabelled"
    assert "alternative" in reasons["alone"]
    assert "alternative" in reasons["ungrouped"]
    assert split(tmp_path, [*many(), *odd], max_breaks=2)["broken"]["split"] != "excluded"


def test_alternatives_follow_their_group_and_do_not_count(tmp_path):
    alternatives = [
        entry(f"alt{e.backbone.id}-{n}", e.facts["label"], group=e.facts["group"], role="alternative")
        for e in many()
        for n in range(2)
    ]
    plain, rows = split(tmp_path, many()), split(tmp_path, [*many(), *alternatives])
    assert all(rows[e.backbone.id]["split"] == rows[e.backbone.id[3:-2]]["split"] for e in alternatives)
    unique = Counter(rows[e.backbone.id]["split"] for e in many())
    assert unique == Counter(r["split"] for r in plain.values())


def test_nothing_usable(tmp_path):
    with pytest.raises(UserError, match="none of 2 domains is usable"):
        split(tmp_path, [entry("a", ""), entry("b", "1.10.8.10", breaks=3)])


OWN = LabelSettings(scheme="own", classes=())


def own_split(tmp_path, labels, superfamilies, labelled=OWN, **settings):
    """Splits of domains of own labels, each a sequence cluster of its own."""
    entries = [entry(f"d{i}", label, cath="") for i, label in enumerate(labels)]
    for each, name in zip(entries, superfamilies, strict=True):
        each.facts["superfamily"] = name
    write_store(tmp_path / "s.h5", entries)
    columns = ("domain_id", "sequence_cluster", "structure_cluster")
    rows = [dict.fromkeys(columns, e.backbone.id) for e in entries]
    write_table(tmp_path / "c.tsv", columns, rows)
    split_domains(tmp_path / "s.h5", SplitSettings(**settings), tmp_path / "splits.tsv", labelled, tmp_path / "c.tsv")
    return read_table(tmp_path / "splits.tsv", COLUMNS)


@pytest.mark.parametrize("label", ["kinase", "2.7.11.1", "c.37.1.8"])
def test_own_labels_are_read_as_no_code(tmp_path, label):
    """EC numbers look like CATH codes; sequence clusters alone hold relatives out."""
    rows = own_split(tmp_path, [label] * 40 + ["other"] * 40, [""] * 80)
    assert Counter(row["split"] for row in rows)["test"] == 16
    assert {row["superfamily"] for row in rows} == {""}
    assert {row["rung"] for row in rows} == {""}


def test_own_superfamilies_are_held_out_whole(tmp_path):
    rows = own_split(tmp_path, ["a"] * 60, [f"f{i // 3}" for i in range(60)])
    splits = {}
    for row in rows:
        splits.setdefault(row["superfamily"], set()).add(row["split"])
    assert {len(found) for found in splits.values()} == {1}
    assert Counter(row["split"] for row in rows)["test"] == 12


def test_own_labels_need_the_clusters(tmp_path):
    write_store(tmp_path / "s.h5", [entry("a", "kinase")])
    with pytest.raises(UserError, match=r"labels\.scheme own needs the table of clusters"):
        split_domains(tmp_path / "s.h5", SplitSettings(), tmp_path / "splits.tsv", OWN)


def test_too_few_to_hold_out_is_told_with_what_to_change(tmp_path):
    with pytest.raises(UserError, match=r"hold out 2 of 10 domains in 1 classes .*split\.test \(0\.2\)"):
        own_split(tmp_path, ["a"] * 10, [""] * 10)


def test_none_usable_is_told_with_counts_and_keys(tmp_path):
    entries = [entry("a", "1.1.1.1", breaks=3), entry("b", "1.1.1.1", breaks=1), entry("c", "")]
    said = r"none of 3 domains is usable: 2 with more than 0 chain breaks \(split.max_breaks\), 1 without a label"
    with pytest.raises(UserError, match=said):
        split(tmp_path, entries)
