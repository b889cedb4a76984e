"""What each scheme of the split promises, over random labelled sets and at the edges."""

import gzip
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import random_sequence

from cvae_protein.config.settings import LabelSettings, SplitSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, sha256, write_table
from cvae_protein.core.labels import RUNGS, architecture, superfamily, topology
from cvae_protein.core.structure import Backbone
from cvae_protein.dataset.hold_out import assign
from cvae_protein.dataset.homology import SCHEMES, SplitDomain, components, rungs, superfamily_of
from cvae_protein.dataset.split import CLUSTER_COLUMNS, COLUMNS, split_domains
from cvae_protein.similarity.sequences import near_identical
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

SEQUENCE, BY_FAMILY, TOPOLOGY = "sequence", "superfamily", "topology"


def random_domains(seed, count=240, families=5):
    """Domains of three classes with codes in both classifications, groups, clusters, alternatives and bad ones."""
    draw = np.random.default_rng(seed)
    domains = []
    for index in range(count):
        fold, arch, top, family = draw.integers(1, 4), draw.integers(2), draw.integers(6), draw.integers(families)
        cath = f"{fold}.{10 * (arch + 1)}.{top}" + (f".{family}" if draw.random() < 0.9 else "")
        scope = f"{'abc'[fold - 1]}.{draw.integers(40)}.{draw.integers(3)}.1" if draw.random() < 0.3 else ""
        domains.append(
            SplitDomain(
                id=f"d{index}",
                label=cath,
                cath=cath,
                scope=scope,
                role="alternative" if draw.random() < 0.1 else "unique",
                group=f"g{draw.integers(count)}" if draw.random() < 0.5 else "",
                sequence_cluster=f"s{cath}{draw.integers(4)}" if draw.random() < 0.97 else f"x{draw.integers(9)}",
                reason="1 chain breaks, at most 0" if draw.random() < 0.05 else "",
            )
        )
    return domains


def held(domains, scheme, **given):
    """Split of each usable domain."""
    parts = components(domains, SCHEMES[scheme])
    short = assign(parts, SplitSettings(scheme=scheme, **{"min_test": 1, **given}), SCHEMES[scheme])
    return parts, {d.id: part.split for part in parts for d in part.members if not d.reason}, short


def splits_of(domains, split, relation):
    found = {}
    for domain in domains:
        for name in relation(domain):
            if name and domain.id in split:
                found.setdefault(name, set()).add(split[domain.id])
    return found


RELATIONS = {
    SEQUENCE: (),
    BY_FAMILY: (lambda d: map(superfamily, d.codes),),
    TOPOLOGY: (lambda d: map(superfamily, d.codes), lambda d: map(topology, d.codes)),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), test=st.floats(0.05, 0.5), validation=st.floats(0, 0.3))
def test_no_relation_has_two_sides(scheme, seed, test, validation):
    domains = random_domains(seed)
    _, split, _ = held(domains, scheme, seed=seed, test=test, validation=validation)
    for relation in (*RELATIONS[scheme], lambda d: [d.group], lambda d: [d.sequence_cluster]):
        assert all(len(found) == 1 for found in splits_of(domains, split, relation).values())


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_class_is_trained_and_held_out_as_far_as_its_components_allow(scheme, seed):
    """Held out of a class: never more than asked for.

    Where components are single clusters of trained families, at least as much less the largest component.
    """
    domains = random_domains(seed, count=400, families=1 if scheme == SEQUENCE else 12)
    if scheme == SEQUENCE:
        domains = [replace(d, group="", sequence_cluster=f"{d.label}-{n % 4}") for n, d in enumerate(domains)]
    parts, _, short = held(domains, scheme, seed=seed, test=0.25, validation=0.1)
    for fold in "123":
        own = [part for part in parts if part.main_class == fold]
        total = sum(part.sizes[fold] for part in parts)
        test = sum(part.sizes[fold] for part in own if part.split == "test")
        assert test <= max(round(0.25 * total), 1)
        assert any(part.split == "train" and part.sizes[fold] for part in parts)
        assert any(part.split == "test" and part.sizes[fold] for part in parts) or fold in short
        if scheme == SEQUENCE:
            assert test >= round(0.25 * total) - max(part.sizes.total() for part in own)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_sequence_scheme_keeps_every_superfamily_trained(seed):
    domains = random_domains(seed)
    _, split, _ = held(domains, SEQUENCE, seed=seed, test=0.4)
    trained = {superfamily_of(d) for d in domains if split.get(d.id) == "train"}
    out = [d for d in domains if split.get(d.id) in ("test", "validation")]
    assert out
    assert all(superfamily_of(d) and superfamily_of(d) in trained for d in out)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_topology_scheme_holds_whole_topologies_out(seed):
    domains = random_domains(seed)
    _, split, _ = held(domains, TOPOLOGY, seed=seed, test=0.3)
    trained = {topology(d.label) for d in domains if split.get(d.id) == "train"}
    out = {topology(d.label) for d in domains if split.get(d.id) in ("test", "validation")}
    assert not trained & out


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_seed_alone_decides(scheme):
    domains = random_domains(0)
    first, again, reverse = (held(given, scheme, seed=3)[1] for given in (domains, domains, domains[::-1]))
    assert first == again == reverse
    assert any(held(domains, scheme, seed=seed)[1] != first for seed in range(4, 8))


def test_levels_above_the_topology():
    assert [architecture(c) for c in ("3.40.50.300", "3.40.50", "c.37.1.8", "", "x")] == ["3.40", "3.40", "c", "", ""]


def entry(name, label, breaks=0, resolution=2.0, role="unique", group="", cath=None, scope="", sequence="A"):
    facts = {"label": label, "cath": label if cath is None else cath, "scope": scope, "role": role, "group": group}
    facts |= {"resolution": resolution, "breaks": breaks}
    count = len(sequence)
    coords = np.zeros((1, count, 5, 3))
    made = Backbone(name, sequence, coords, tuple(map(str, range(count))))
    return Entry(made, facts)


def many(classes="123", topologies=4, superfamilies=4, members=3):
    return [
        entry(f"{c}-{t}-{s}-{m}", f"{c}.{10 * (1 + t % 2)}.{t}.{s}")
        for c in classes
        for t in range(topologies)
        for s in range(superfamilies)
        for m in range(members)
    ]


def run(folder, entries, clusters=None, labels=LabelSettings(), **given):  # noqa: B008 (frozen)
    """Rows of the split; `clusters` maps an id to its sequence and structure cluster."""
    write_store(folder / "s.h5", entries)
    table = None
    if clusters is not None:
        table = folder / "clusters.tsv"
        names = CLUSTER_COLUMNS
        write_table(table, names, (dict(zip(names, (name, *two), strict=True)) for name, two in clusters.items()))
    split_domains(folder / "s.h5", SplitSettings(**given), folder / "out.tsv", labels, table)
    return {row["domain_id"]: row for row in read_table(folder / "out.tsv", COLUMNS)}


def own_clusters(entries):
    return {e.backbone.id: (f"q{e.backbone.id}", f"c{e.facts['label']}") for e in entries}


def test_near_identical_sequences_tie_superfamilies(tmp_path):
    entries = many()
    clusters = own_clusters(entries) | {"1-0-0-0": ("same", ""), "2-1-1-1": ("same", ""), "3-2-2-2": ("same", "")}
    for seed in range(6):
        rows = run(tmp_path, entries, clusters, seed=seed, test=0.3)
        assert len({rows[name]["split"] for name in ("1-0-0-0", "1-0-0-1", "2-1-1-1", "3-2-2-2")}) == 1
        assert rows["1-0-0-0"]["sequence_cluster"] == "same"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_copies_that_follow_different_representatives_stay_together(tmp_path, scheme):
    """A mutant, and a part of a longer chain, which the table of clusters has elsewhere."""
    whole = random_sequence(90, 0)
    mutant = "".join("A" if k % 12 == 0 else letter for k, letter in enumerate(whole))
    strangers = [entry(f"s{n}", f"1.10.{n % 4}.{n % 5}", sequence=random_sequence(80, n + 1)) for n in range(40)]
    copies = [
        entry("whole", "1.10.0.0", sequence=whole),
        entry("mutant", "1.10.1.1", sequence=mutant),
        entry("part", "1.10.2.2", sequence=random_sequence(30, 99) + whole[20:75]),
    ]
    entries = [*many("1", topologies=12), *strangers, *copies]
    for seed in range(4):
        rows = run(tmp_path, entries, own_clusters(entries), scheme=scheme, seed=seed, test=0.4)
        assert len({rows[name]["split"] for name in ("whole", "mutant", "part")}) == 1


def test_near_identical_sequences_are_found_by_their_words():
    whole = random_sequence(80, 0)
    near = near_identical([whole, whole[:30], whole[40:], random_sequence(80, 1), "", "AXAXAXAX", "AXAXAXAX", whole])
    assert near[0] == near[1] == near[2] == near[7]
    assert len(set(near)) == 5
    assert near_identical([]) == []


def test_a_domain_of_no_superfamily_may_be_related_to_its_whole_topology(tmp_path):
    entries = [*many("2"), entry("unplaced", "2.10.0"), entry("both", "2.10.0.9", scope="b.1.1.1")]
    for seed in range(8):
        rows = run(tmp_path, entries, seed=seed, test=0.45)
        tied = [row["split"] for row in rows.values() if row["label"].startswith("2.10.0")]
        assert len(tied) == 14
        assert len(set(tied)) == 1


def test_a_held_out_topology_is_known_by_its_architecture(tmp_path):
    rows = run(tmp_path, many(), scheme="topology", labels=LabelSettings(depth=3), test=0.3)
    for row in rows.values():
        out = row["split"] in ("test", "validation")
        assert row["label"].count(".") == (1 if out else 3)
        assert row["topology_trained"] == ("no" if out else "yes")
        assert row["superfamily"].count(".") == 3
    assert {row["label_trained"] for row in rows.values() if row["split"] == "test"} == {"yes"}


def test_labels_that_training_lacks_are_told(tmp_path, capsys):
    solo = [entry(f"s{index}", f"1.10.{index}.1") for index in range(20)]
    rows = run(tmp_path, solo, labels=LabelSettings(depth=3))
    assert {row["label_trained"] for row in rows.values() if row["split"] == "test"} == {"no"}
    assert {row["label_trained"] for row in rows.values() if row["split"] == "train"} == {"yes"}
    count = sum(row["split"] in ("test", "validation") for row in rows.values())
    assert f"labels of {count} held-out domains are unknown to training" in capsys.readouterr().err
    rows = run(tmp_path, solo, labels=LabelSettings(depth=2))
    assert {row["label_trained"] for row in rows.values()} == {"yes"}


def test_alternatives_and_mutants_stay_with_their_sequence(tmp_path):
    entries = many()
    clusters = own_clusters(entries)
    others = [entry(f"alt{e.backbone.id}", e.facts["label"], role="alternative") for e in entries]
    others += [entry(f"mutant{e.backbone.id}", e.facts["label"]) for e in entries]
    for other in others:
        origin = other.backbone.id.removeprefix("alt").removeprefix("mutant")
        clusters[other.backbone.id] = clusters[origin]
    rows = run(tmp_path, [*entries, *others], clusters, scheme="sequence")
    for other in others:
        origin = other.backbone.id.removeprefix("alt").removeprefix("mutant")
        assert rows[other.backbone.id]["split"] == rows[origin]["split"] != "excluded"


def test_only_the_best_of_a_sequence_cluster_are_used(tmp_path):
    entries = [*many(), *(entry(f"lyso{n}", "1.10.0.0", resolution=[0.0, 3.0, 1.0, 2.0][n % 4]) for n in range(8))]
    clusters = own_clusters(entries) | {f"lyso{n}": ("lysozyme", "") for n in range(8)}
    rows = run(tmp_path, entries, clusters, labels=LabelSettings(max_per_cluster=3))
    out = {name for name, row in rows.items() if row["reason"] == "redundant"}
    assert out == {"lyso0", "lyso1", "lyso4", "lyso5", "lyso7"}
    assert {rows[name]["split"] for name in out} == {"excluded"}
    assert not any(row["reason"] for row in run(tmp_path, entries, clusters).values())


def test_a_dominant_superfamily_is_capped_across_its_sequences(tmp_path):
    entries = [*many(), *(entry(f"ig{n:02d}", "2.60.40.10") for n in range(12))]
    clusters = own_clusters(entries) | {f"ig{n:02d}": (f"ig{n // 3}", "") for n in range(12)}
    rows = run(tmp_path, entries, clusters, labels=LabelSettings(max_per_superfamily=4))
    kept = {name for name, row in rows.items() if name.startswith("ig") and not row["reason"]}
    assert kept == {"ig00", "ig03", "ig06", "ig09"}
    other = entry("other", "2.60.40.10", role="alternative")
    with_other = run(
        tmp_path,
        [*entries, other],
        clusters | {"other": clusters["ig00"]},
        labels=LabelSettings(max_per_superfamily=4),
    )
    assert not with_other.pop("other")["reason"]  # it counts for none and stays with a domain of its sequence
    assert {name: row["reason"] for name, row in with_other.items()} == {n: row["reason"] for n, row in rows.items()}
    assert Counter(row["reason"] for row in rows.values()) == {"": len(entries) - 8, "dominant superfamily": 8}


FOUND = LabelSettings(scheme="cluster", classes=(), min_members=8)


def test_labels_may_be_structure_clusters(tmp_path, capsys):
    entries = [entry(f"d{n}", "", cath="") for n in range(60)]
    clusters = {f"d{n}": (f"s{n // 2}", f"fold{n % 60 // 20}") for n in range(56)}
    clusters |= {f"d{n}": (f"s{n // 2}", "lone") for n in range(56, 60)}
    rows = run(tmp_path, entries, clusters, labels=FOUND, scheme="sequence")
    assert {row["label"] for row in rows.values()} == {"fold0", "fold1", "fold2", "lone"}
    assert {row["reason"] for row in rows.values() if row["label"] == "lone"} == {"structure cluster of fewer than 8"}
    for fold in ("fold0", "fold1", "fold2"):
        assert {"train", "test"} <= {row["split"] for row in rows.values() if row["label"] == fold}
    one = clusters | {f"d{n}": ("alike", "fold2") for n in range(40, 56)}
    rows = run(tmp_path, entries, one, labels=FOUND, scheme="sequence")
    assert {row["split"] for row in rows.values() if row["label"] == "fold2"} == {"train"}
    assert "1 structure clusters have fewer than 2 domains that can be held out" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", [BY_FAMILY, TOPOLOGY])
def test_found_labels_cannot_be_held_out_whole(tmp_path, scheme):
    with pytest.raises(UserError, match=r"no model could know; set split.scheme to sequence"):
        run(tmp_path, many(), own_clusters(many()), labels=FOUND, scheme=scheme)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("split.scheme", {"scheme": "sequence"}),
        ("labels.max_per_cluster", {"labels": LabelSettings(max_per_cluster=2)}),
    ],
)
def test_clusters_are_asked_for_where_they_are_needed(tmp_path, name, given):
    with pytest.raises(UserError, match=rf"{name}.* needs the table of clusters; give --clusters"):
        run(tmp_path, many(), **given)


def test_a_domain_without_cluster_is_named(tmp_path):
    clusters = own_clusters(many())
    del clusters["1-0-0-1"]
    with pytest.raises(UserError, match=r"clusters.tsv: expected a row for each domain .* none for 1-0-0-1"):
        run(tmp_path, many(), clusters)


def ladder(folder, entries, clusters=None, **given):
    """Rows of the split `ladder`, and of its held-out domains by rung."""
    rows = run(folder, entries, clusters or own_clusters(entries), scheme="ladder", **given)
    held_out = [row for row in rows.values() if row["split"] in ("test", "validation")]
    return rows, {rung: [row for row in held_out if row["rung"] == rung] for rung in RUNGS}


def names_in(rows, split, name):
    return {name(row["superfamily"]) for row in rows if row["split"] == split}


@pytest.mark.parametrize("seed", range(3))
def test_a_ladder_has_each_rung_in_both_sets_and_training_has_what_each_lacks_not(tmp_path, seed):
    entries = many("12", topologies=60, superfamilies=3, members=2)
    rows, rungs = ladder(tmp_path, entries, seed=seed)
    trained = [row for row in rows.values() if row["split"] == "train"]
    families, topologies = (names_in(trained, "train", name) for name in (str, topology))
    assert len(trained) > 0.6 * len(rows)
    for rung, members in rungs.items():
        counts = Counter(row["split"] for row in members)
        assert counts["test"] == pytest.approx(0.2 / 3 * len(rows), abs=6), rung
        assert counts["validation"] == pytest.approx(0.1 / 3 * len(rows), abs=6), rung
        assert min(counts.values()) > 0
    assert all(row["superfamily"] in families for row in rungs["new_member"])
    assert not any(row["superfamily"] in families for row in rungs["new_superfamily"])
    assert all(topology(row["superfamily"]) in topologies for row in rungs["new_superfamily"])
    assert not any(topology(row["superfamily"]) in topologies for row in rungs["new_topology"])
    assert {row["rung"] for row in trained} == {""}


def test_no_topology_fills_a_set_of_the_ladder(tmp_path):
    giant = [entry(f"giant-{n}-{m}", f"2.60.40.{n}") for n in range(12) for m in range(20)]
    entries = [*giant, *many("2", topologies=6)]
    for most, reached in ((0, True), (9, False)):
        rows, _ = ladder(tmp_path, entries, max_per_topology=most, test=0.3)
        held_out = (row for row in rows.values() if row["split"] in ("test", "validation"))
        crowd = Counter((row["split"], topology(row["superfamily"])) for row in held_out)
        assert (max(crowd.values()) > 9) == reached
        assert {split for split, _ in crowd} == {"test", "validation"}


def test_a_small_set_has_a_ladder_too(tmp_path):
    rows, rungs = ladder(tmp_path, many("12", topologies=3, superfamilies=2, members=2), validation=0.2)
    for fold in "12":
        counts = Counter(row["split"] for row in rows.values() if row["label"][0] == fold)
        assert counts["test"] == counts["validation"] == 2
    assert sum(map(len, rungs.values())) == 8
    with pytest.raises(
        UserError, match=r"class 2: .* could hold out 0 of 3 domains .* superfamilies and sequence clus"
    ):
        ladder(tmp_path, [*many("1"), *(entry(f"few{n}", "2.10.5.1") for n in range(3))], {
            **own_clusters(many("1")), **{f"few{n}": ("one", "") for n in range(3)}})  # fmt: skip


def test_what_a_rung_cannot_have_is_held_out_of_another(tmp_path):
    """Superfamilies of one sequence cluster each: there are no new members, so new superfamilies stand for them."""
    entries = many("1", topologies=12, superfamilies=3, members=1)
    rows, rungs = ladder(tmp_path, entries, test=0.25, validation=0.1)
    counts = Counter(row["split"] for row in rows.values())
    assert (counts["test"], counts["validation"]) == (9, 4)
    assert not rungs["new_member"]
    assert len(rungs["new_superfamily"]) > len(rungs["new_topology"])


@pytest.mark.parametrize("seed", range(6))
def test_no_rung_takes_from_training_what_one_below_relies_on(tmp_path, seed):
    """Three superfamilies have members to hold out, too few: others are taken instead, and these stay trained."""
    entries = [*many("1", topologies=8, superfamilies=3, members=1), *many("1", topologies=1, superfamilies=3)]
    entries = list({e.backbone.id: e for e in entries}.values())
    rows, rungs = ladder(tmp_path, entries, test=0.25, validation=0.2, seed=seed)
    assert {row["superfamily"] for row in rungs["new_member"]} == {"1.10.0.0", "1.10.0.1", "1.10.0.2"}
    assert len(rungs["new_member"]) == 6
    assert sum(map(len, rungs.values())) == sum(row["rung"] != "" for row in rows.values()) > 12


def test_a_ladder_depends_on_the_seed_alone_and_needs_clusters(tmp_path):
    entries = many()
    first, again, other = (ladder(tmp_path, given, seed=seed)[0] for given, seed in
                           ((entries, 1), (entries[::-1], 1), (entries, 2)))  # fmt: skip
    assert first == again
    assert first != other
    with pytest.raises(UserError, match=r"split.scheme ladder needs the table of clusters"):
        run(tmp_path, entries, scheme="ladder")


def test_two_names_of_one_superfamily_are_one_rung(tmp_path):
    """2.60.40.10 and b.1.1 hang together over a domain that has both: a domain of b.1.1 alone is no new superfamily."""
    entries = [*many("2"), entry("both", "2.60.40.10", scope="b.1.1.1"), entry("cath", "2.60.40.10")]
    entries += [entry("scope", "b.1.1.2", cath="", scope="b.1.1.2")]
    frozen = {e.backbone.id: "test" if e.backbone.id == "scope" else "train" for e in entries}
    domains = [SplitDomain(e.backbone.id, **{k: e.facts[k] for k in ("label", "cath", "scope", "role", "group")})
               for e in entries]  # fmt: skip
    assert rungs(domains, lambda domain: frozen[domain.id] == "train") == {"scope": "new_member"}


def freeze(folder, rows, name="frozen.tsv"):
    """Settings of the scheme `file` for a table of these rows."""
    path = folder / name
    write_table(path, list(rows[0]), rows)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    return {"scheme": "file", "file": str(path), "sha256": sha256(path)}


@pytest.mark.parametrize("name", ["frozen.tsv", "frozen.tsv.gz"])
def test_a_frozen_split_is_taken_over_as_it_is(tmp_path, name):
    entries = many()
    rows = run(tmp_path, entries, own_clusters(entries), scheme="ladder", seed=4)
    given = freeze(tmp_path, list(rows.values()), name)
    again = run(tmp_path, entries[::-1], seed=7, max_length=1, **given)
    assert again == dict(reversed({n: row | {"sequence_cluster": ""} for n, row in rows.items()}.items()))


def test_schemes_that_do_not_look_at_what_the_packages_model_has_seen_say_so(tmp_path, capsys):
    """As `config.yaml` asks for it, over which a configuration of another scheme is laid."""
    entries = many()
    rows = run(tmp_path, entries, own_clusters(entries), scheme="ladder", unseen_first=True)
    run(tmp_path, entries, unseen_first=True, **freeze(tmp_path, list(rows.values())))
    said = [line for line in capsys.readouterr().err.splitlines() if "unseen_first" in line]
    assert [line.split("scheme ")[1].split(",")[0] for line in said] == ["ladder", "file"]
    for scheme in ("superfamily", "sequence"):
        run(tmp_path, entries, own_clusters(entries), scheme=scheme, unseen_first=True)
    assert "unseen_first" not in capsys.readouterr().err


def test_a_frozen_split_that_is_another_is_refused(tmp_path):
    entries = many()
    rows = list(run(tmp_path, entries).values())
    given = freeze(tmp_path, rows)
    freeze(tmp_path, [*rows[1:], rows[0]])
    with pytest.raises(UserError, match=r"frozen.tsv: expected the frozen split of SHA-256 \w{64}, found \w{64}; get"):
        run(tmp_path, entries, **given)
    with pytest.raises(UserError, match=r"line 2: expected one of train, .* got 'held' of 1-0-0-0"):
        run(tmp_path, entries, **freeze(tmp_path, [rows[0] | {"split": "held"}, *rows[1:]]))
    with pytest.raises(UserError, match=r"1-0-0-0 has the label 3.10 there and 1.10.0.0 in the store"):
        run(tmp_path, entries, **freeze(tmp_path, [rows[0] | {"label": "3.10"}, *rows[1:]]))
    with pytest.raises(UserError, match=r"expected domains of the store to train on and to test on"):
        run(tmp_path, entries, **freeze(tmp_path, [row | {"split": "train"} for row in rows]))
    unscored = [row | {"split": row["split"].replace("test", "validation")} for row in rows]
    with pytest.raises(UserError, match=r"expected domains of the store to train on and to test on"):
        run(tmp_path, entries, **freeze(tmp_path, unscored))


def test_what_a_frozen_split_and_the_store_lack_of_each_other_is_said(tmp_path, capsys):
    entries = many()
    rows = run(tmp_path, entries)
    other = [{"domain_id": "elsewhere", "split": "test", "label": "1.10.1"}]
    short = [{key: row[key] for key in other[0]} for name, row in rows.items() if name != "2-0-0-0"]
    changed = next(row for row in short if row["split"] == "train")
    changed["split"] = "stretches"  # the name before
    found = run(tmp_path, [*entries, entry("late", "1.10.0.0")], **freeze(tmp_path, [*short, *other]))
    for name in ("late", "2-0-0-0"):
        assert (found[name]["split"], found[name]["reason"]) == ("excluded", "not in the frozen split")
    assert found[changed["domain_id"]]["split"] == "crops"
    assert "that the store lacks: 1 test" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_says_how_new_what_it_holds_out_is(tmp_path, scheme):
    entries = many("12", topologies=12, superfamilies=4)
    rows = run(tmp_path, entries, own_clusters(entries), scheme=scheme)
    found = {row["rung"] for row in rows.values() if row["split"] == "test"}
    expected = {SEQUENCE: "new_member", BY_FAMILY: "new_superfamily", TOPOLOGY: "new_topology"}[scheme]
    assert found == {expected}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_class_alone(tmp_path, scheme):
    rows = run(tmp_path, many("2"), own_clusters(many("2")), scheme=scheme, test=0.3)
    assert {"train", "test"} <= {row["split"] for row in rows.values()}


@pytest.mark.parametrize(
    ("scheme", "units"), [(SEQUENCE, "sequence clusters"), (BY_FAMILY, "superfamilies"), (TOPOLOGY, "topologies")]
)
def test_a_class_too_small_is_said_in_the_words_of_the_scheme(tmp_path, scheme, units):
    few = [entry(f"few{n}", "2.10.5.1") for n in range(6)]
    plenty = many("1", topologies=12)
    clusters = own_clusters([*plenty, *few]) | {f"few{n}": ("one", "") for n in range(6)}
    with pytest.raises(UserError, match=rf"class 2: .* could hold out 0 of 6 domains in 1 groups .* of more {units}"):
        run(tmp_path, [*plenty, *few], clusters, scheme=scheme)
    assert not (tmp_path / "out.tsv").exists()
