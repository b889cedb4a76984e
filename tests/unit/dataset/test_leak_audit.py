"""The audit of held-out domains against a brute force over pairs, and what it must never miss."""

import multiprocessing
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from score_synthetic import backbone, chain, deformed, moved, prepared, ubiquitin
from synthetic import random_sequence
from tmtools import tm_align

from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, sha256, write_table
from cvae_protein.dataset import leak_audit as module
from cvae_protein.dataset.leak_audit import AUDIT_COLUMNS, BINS, audit, read_bins, said, summary, tm_bin
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.similarity.nearest_structures import Search, SubstructureLibrary, tm_align_score
from cvae_protein.similarity.sequences import Sequences, identity
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

ROOT = Path(__file__).parents[3]
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def mutated(sequence, share, seed=0):
    draw = np.random.default_rng(seed)
    return "".join(draw.choice(list(LETTERS)) if draw.random() < share else letter for letter in sequence)


def test_identity_counts_over_the_shorter_sequence():
    whole = random_sequence(90, 0)
    assert identity(whole, whole) == 1
    assert identity(whole, random_sequence(20, 1) + whole + random_sequence(30, 2)) == pytest.approx(1, abs=0.02)
    assert identity(whole[:45], whole) == 1
    assert identity(whole[:50], whole[40:]) == pytest.approx(0.2, abs=0.05)  # 10 of 50 residues
    changed = whole[:10] + ("A" if whole[10] != "A" else "C") + whole[11:]
    assert identity(whole, changed) == pytest.approx(89 / 90)
    assert identity(whole, whole[:40] + whole[43:]) == 1  # a gap costs no identity
    assert identity(whole, random_sequence(90, 3)) < 0.25


def test_unknown_residues_are_like_nothing():
    assert identity("XXXXXXXX", "XXXXXXXX") == 0
    assert identity("", "ACDE") == identity("WWWW", "") == 0
    assert identity("ACDEFGHIKLX", "acdefghiklU") == pytest.approx(10 / 11)


class SlowAuditor:
    """Stands in for the audit: each domain takes as many seconds as the number that it is."""

    def row(self, seconds):
        time.sleep(seconds)
        return {"domain_id": str(seconds)}


def test_an_interrupted_audit_does_not_wait_for_what_its_processes_are_at():
    began = time.monotonic()
    with closing(module._rows(SlowAuditor(), [0, 300, 300, 300], 2)) as rows:
        assert next(rows) == {"domain_id": "0"}
    assert time.monotonic() - began < 100
    assert not multiprocessing.active_children()


def test_the_most_identical_sequence_is_that_of_all_alignments():
    library = [random_sequence(60 + seed, seed) for seed in range(30)]
    library += [mutated(library[seed], 0.6, seed) for seed in range(6)] + ["", "XXXX", "ACD"]
    searched = Sequences([f"s{index}" for index in range(len(library))], library)
    for seed in range(6):
        query = mutated(library[seed], 0.5, 100 + seed)
        found = searched.nearest(query)
        assert found[1] == max(identity(query, each) for each in library)
    assert Sequences([], []).nearest("ACDE") == searched.nearest("") == ("", 0.0)


def test_a_part_of_a_longer_structure_is_found():
    long = np.concatenate([chain(70, 5), moved(ubiquitin(), 3), chain(60, 6)])
    others = [prepared(chain(60 + seed, seed), name=f"c{seed}") for seed in range(20)]
    library = SubstructureLibrary([*others, prepared(long, name="long")])
    hit = Search(4).nearest(prepared(deformed(ubiquitin(), 0.3), name="query"), library)
    assert hit.id == "long"
    assert hit.tm > 0.9


def test_structures_below_half_the_length_and_forbidden_ones_do_not_count(monkeypatch):
    query = prepared(ubiquitin(), name="query")
    library = SubstructureLibrary([prepared(ubiquitin()[:36], name="half"), prepared(ubiquitin(), name="same")])
    assert [library.structures[index].id for index in library.candidates(query)] == ["same"]
    assert library.candidates(query, lambda target: target.id != "same") == []
    assert SubstructureLibrary([]).candidates(query) == []
    monkeypatch.setattr(SubstructureLibrary, "most_screened", 5)
    alike = SubstructureLibrary([prepared(ubiquitin(), name=f"u{number}") for number in range(9)])
    assert len(alike.candidates(query)) == 5


def store_of(folder, structures, splits):
    """A store and its table of splits; `structures` maps an id to coordinates (L, 5, 3) and a sequence."""
    entries, rows = [], []
    for name, (coords, sequence) in structures.items():
        shape = replace(backbone(coords, name), sequence=sequence)
        entries.append(Entry(shape, {"label": ""}))
        rows.append({"domain_id": name, "split": splits[name], "label": "3.10.20"})
    write_store(folder / "domains.h5", entries, compression="gzip")
    write_table(folder / "splits.tsv", ("domain_id", "split", "label"), rows)
    return folder / "domains.h5", folder / "splits.tsv"


@pytest.fixture
def small(tmp_path):
    """Twelve random chains that train, a moved copy of one, a near copy, a stranger; one excluded copy."""
    made = {f"t{n}": (chain(50 + 3 * n, n), random_sequence(50 + 3 * n, n)) for n in range(12)}
    splits = dict.fromkeys(made, "train")
    made["copy"] = (moved(made["t3"][0]), made["t3"][1])
    made["near"] = (deformed(made["t7"][0], 0.5), mutated(made["t7"][1], 0.4))
    made["stranger"] = (chain(64, 99), random_sequence(64, 99))
    made["unused"] = (made["stranger"][0].copy(), made["stranger"][1])
    splits |= {"copy": "test", "near": "validation", "stranger": "test", "unused": "excluded"}
    return store_of(tmp_path, made, splits)


def test_a_copy_is_found_and_excluded_domains_are_none(small, tmp_path, capsys):
    audit(*small, tmp_path / "audit.tsv")
    rows = {row["domain_id"]: row for row in read_table(tmp_path / "audit.tsv")}
    assert list(rows) == ["copy", "stranger", "near"]
    assert list(rows["copy"]) == list(AUDIT_COLUMNS)
    copy = rows["copy"]
    assert (copy["tm_id"], copy["identity_id"], copy["bin"], copy["label"]) == ("t3", "t3", "tm_above_0.8", "3.10.20")
    assert float(copy["max_tm"]) == pytest.approx(1, abs=1e-3)
    assert float(copy["max_identity"]) == 1
    assert rows["near"]["identity_id"] == rows["near"]["tm_id"] == "t7"
    assert 0.5 < float(rows["near"]["max_identity"]) < 0.75
    assert float(rows["stranger"]["max_tm"]) < 0.6
    assert "2 domains of test" in (said := capsys.readouterr().err)
    assert "TM-score above 0.8 50.0%" in said
    assert read_bins(tmp_path / "audit.tsv")["copy"] == "tm_above_0.8"


def test_the_number_of_processes_changes_nothing(small, tmp_path):
    for jobs in (1, 2):
        audit(*small, tmp_path / f"{jobs}.tsv", jobs)
    assert (tmp_path / "1.tsv").read_bytes() == (tmp_path / "2.tsv").read_bytes()


def test_an_interrupted_audit_goes_on(small, tmp_path, monkeypatch):
    whole, part = tmp_path / "whole.tsv", tmp_path / ".audit.tsv.part"
    audit(*small, whole)
    search, seen = module.LeakAuditor.row, []

    def breaks(self, held):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(held.structure.id)
        return search(self, held)

    monkeypatch.setattr(module.LeakAuditor, "row", breaks)
    monkeypatch.setattr(module, "SAVED_EVERY", -1)
    with pytest.raises(KeyboardInterrupt):
        audit(*small, tmp_path / "audit.tsv")
    assert part.is_file()
    assert not (tmp_path / "audit.tsv").exists()
    monkeypatch.setattr(
        module.LeakAuditor, "row", lambda self, held: seen.append(held.structure.id) or search(self, held)
    )
    audit(*small, tmp_path / "audit.tsv")
    assert seen == ["copy", "stranger", "near"]
    assert (tmp_path / "audit.tsv").read_bytes() == whole.read_bytes()
    assert not part.exists()


def test_the_rest_of_another_split_is_not_taken_over(small, tmp_path):
    wrong = dict.fromkeys((*AUDIT_COLUMNS, "origin"), "") | {"domain_id": "copy", "max_tm": "0.1", "split": "test"}
    write_table(tmp_path / ".audit.tsv.part", (*AUDIT_COLUMNS, "origin"), [wrong | {"origin": sha256(small[0])}])
    assert float(str(audit(*small, tmp_path / "audit.tsv")[0]["max_tm"])) > 0.9
    (tmp_path / ".audit.tsv.part").write_text("domain_id\tother\n")
    assert float(str(audit(*small, tmp_path / "audit.tsv")[0]["max_tm"])) > 0.9


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_split_without_two_sides_is_said(tmp_path, missing):
    other = "test" if missing == "train" else "train"
    files = store_of(tmp_path, {"a": (chain(50), "A" * 50)}, {"a": other})
    with pytest.raises(UserError, match="expected domains of the splits train and test or validation"):
        audit(*files, tmp_path / "audit.tsv")


def test_bins_and_their_summary():
    assert [tm_bin(tm) for tm in (0.1, 0.5, 0.51, 0.8, 0.81, 1.0)] == [BINS[k][1] for k in (0, 0, 1, 1, 2, 2)]
    rows = [{"split": "test", "max_tm": tm, "max_identity": i} for tm, i in (("0.9", "1"), ("0.6", "0.2"), ("", "0.4"))]
    (line,) = summary(rows)
    assert (line.split, line.count) == ("test", 3)
    assert line.shares == pytest.approx((2 / 3, 1 / 3, 2 / 3, 1 / 3))
    assert "identity above 90% 33.3%" in said(line)


def test_each_rung_is_audited_by_itself(small, tmp_path, capsys):
    """A copy among the new members is not hidden by strangers of new topologies."""
    store, splits = small
    rungs = {"copy": "new_member", "stranger": "new_topology", "near": "new_member"}
    rows = [row | {"rung": rungs.get(row["domain_id"], "")} for row in read_table(splits)]
    write_table(splits, list(rows[0]), rows)
    found = audit(store, splits, tmp_path / "audit.tsv")
    assert {row["domain_id"]: row["rung"] for row in found} == rungs
    shares = {(line.split, line.rung): (line.count, line.shares[1]) for line in summary(found)}
    assert shares == {
        ("test", ""): (2, 0.5),
        ("test", "new_member"): (1, 1),
        ("test", "new_topology"): (1, 0),
        ("validation", ""): (1, 1),
    }
    assert "1 domains of test, new topology, nearest" in capsys.readouterr().err


def test_real_domains_agree_with_a_brute_force():
    """Embedded domains, eight asked among twenty-six: the same best pairs as all alignments give."""
    table = sorted(read_table(ROOT / "data/domains.tsv"), key=lambda row: row["domain_id"])
    table = [row for row in table if int(row["n_residues"]) < 130][::5][:34]
    held = []
    for row in table:
        path = ROOT / "data/embedded" / row["pdb_id"][1:3] / f"{row['pdb_id']}.cif.gz"
        real = extract_domain(read_structure(path), row["chain"], row["residue_range"], row["domain_id"])
        held.append(module.HeldOutDomain(prepared(real.coords[0], name=real.id), real.sequence, "test"))
    queries, training = held[:8], held[8:]
    auditor = module.LeakAuditor.of(training)
    for one in queries:
        row = auditor.row(one)
        own = one.structure.ca
        exact = [tm_align(own, t.structure.ca, "A" * len(own), "A" * len(t.structure.ca)) for t in training]
        assert float(str(row["max_tm"])) == pytest.approx(max(each.tm_norm_chain1 for each in exact), abs=0.02)
        assert float(str(row["max_identity"])) == pytest.approx(
            max(identity(one.sequence, t.sequence) for t in training), abs=1e-4
        )
        found = next(t.structure for t in training if t.structure.id == row["tm_id"])
        assert float(str(row["max_tm"])) == pytest.approx(tm_align_score(own, found.ca)[0], abs=1e-4)


def test_without_shared_memory_one_process_does_it(small, tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "ProcessPoolExecutor", refuse)
    audit(*small, tmp_path / "x.tsv", 2)
    assert "several processes cannot share memory here ([Errno 28] No space left on device)" in capsys.readouterr().err
    assert read_table(tmp_path / "x.tsv")
