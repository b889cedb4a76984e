"""Clusters of like sequences and like structures, on relatives made by hand and on the embedded domains' sequences."""

import gzip
import shutil
from collections import Counter

import numpy as np
import pytest
from synthetic import helix

from cvae_protein.cli import main
from cvae_protein.config.settings import ClusterSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.core.structure import Backbone
from cvae_protein.dataset import cluster
from cvae_protein.dataset.cluster import fold_classes, sequence_clusters
from cvae_protein.score.metrics.metric import PreparedStructure
from cvae_protein.similarity.sequences import LETTERS, Words, aligned_identity, blosum62, neighbours, word_codes
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

FREQUENCIES = [78, 51, 45, 54, 19, 43, 63, 74, 22, 51, 91, 57, 22, 39, 52, 71, 58, 13, 32, 64]  # in 1,000 residues
KMER = ClusterSettings(method="kmer")
needs_mmseqs = pytest.mark.skipif(shutil.which("mmseqs") is None, reason="MMseqs2 is not installed")


def made_up(seed, length):
    """A random sequence with the amino acids as frequent as in proteins."""
    share = np.array(FREQUENCIES) / sum(FREQUENCIES)
    return "".join(np.random.default_rng(seed).choice(list(LETTERS), length, p=share))


def relative(sequence, share, seed):
    """A sequence of which a share of the residues is kept and all others are changed, one in twenty-five lost."""
    rng = np.random.default_rng(seed)
    letters = list(sequence)
    for place in rng.permutation(len(letters))[: round((1 - share) * len(letters))]:
        letters[place] = rng.choice([letter for letter in LETTERS if letter != letters[place]])
    lost = set(rng.choice(len(letters), len(letters) // 25, replace=False).tolist()) if share < 1 else set()
    return "".join(letter for place, letter in enumerate(letters) if place not in lost)


@pytest.fixture(params=["kmer", pytest.param("mmseqs", marks=needs_mmseqs)])
def method(request):
    return ClusterSettings(method=request.param)


def test_relatives_go_together_down_to_the_identity_asked_for(method):
    family = {}
    for number in range(4):
        ancestor = made_up(number, 150)
        for share in (100, 90, 50, 20):
            family[f"{number}-{share}"] = relative(ancestor, share / 100, number + share)
    found, said = sequence_clusters(family, method)
    assert said.startswith(method.method)
    for number in range(4):
        own = found[f"{number}-100"]
        assert own == f"{number}-100"
        assert (found[f"{number}-90"], found[f"{number}-50"]) == (own, own)
        assert found[f"{number}-20"] == f"{number}-20"


def test_identity_is_the_one_asked_for():
    ancestor = made_up(0, 200)
    family = {"a": ancestor, "b": relative(ancestor, 0.8, 1), "c": relative(ancestor, 0.6, 2)}
    for identity, clusters in ((0.9, 3), (0.7, 2), (0.4, 1)):
        found, _ = sequence_clusters(family, ClusterSettings(method="kmer", identity=identity))
        assert len(set(found.values())) == clusters


def test_neither_order_nor_names_change_who_goes_together(method):
    rng = np.random.default_rng(3)
    family = {f"d{n}-{k}": relative(made_up(n, 90 + n), 0.8, 10 * n + k) for n in range(5) for k in range(4)}
    first, _ = sequence_clusters(family, method)
    shuffled = {name: family[name] for name in rng.permutation(list(family)).tolist()}
    again, _ = sequence_clusters(shuffled, method)
    assert first == again
    assert len(set(first.values())) == 5


def test_a_fragment_joins_and_a_short_likeness_does_not(method):
    ancestor = made_up(5, 180)
    family = {"whole": ancestor, "part": ancestor[20:110], "chimera": ancestor[:60] + made_up(6, 115)}
    found, _ = sequence_clusters(family, method)
    assert found == {"whole": "whole", "part": "whole", "chimera": "chimera"}


def test_odd_sequences_are_clustered_too(method):
    rare = made_up(1, 30) + "UXO" + made_up(2, 30)
    odd = {"x": "X" * 60, "u": rare, "same": rare, "short": "AC", "one": "W"}
    found, _ = sequence_clusters(odd, method)
    assert found["u"] == found["same"] == "same"
    assert {found[name] for name in ("x", "short", "one")} == {"x", "short", "one"}
    assert sequence_clusters({}, KMER)[0] == {}


def pairs(clusters):
    """Pairs of domains in one cluster."""
    return sum(count * (count - 1) // 2 for count in Counter(clusters).values())


def embedded_sequences(root):
    """Sequences of the chains of some embedded entries."""
    gemmi = pytest.importorskip("gemmi")
    found = {}
    for path in sorted((root / "data/embedded").rglob("*.cif.gz"))[:150]:
        structure = gemmi.read_structure_string(gzip.decompress(path.read_bytes()).decode())
        for chain in structure[0]:
            letters = [gemmi.find_tabulated_residue(residue.name).one_letter_code.upper() for residue in chain]
            if len(letters) >= 40:
                found[f"{path.name[:4]}-{chain.name}"] = "".join(letters).replace(" ", "X")
    return found


@needs_mmseqs
def test_our_own_clusters_of_the_embedded_sequences_are_those_of_mmseqs(root):
    sequences = embedded_sequences(root)
    assert len(sequences) > 100
    ours, _ = sequence_clusters(sequences, KMER)
    theirs, _ = sequence_clusters(sequences, ClusterSettings(method="mmseqs"))
    both = pairs((ours[name], theirs[name]) for name in sequences)
    assert both > 0.9 * pairs(theirs.values())  # recall
    assert both > 0.9 * pairs(ours.values())  # precision


def test_without_mmseqs_auto_says_so_and_mmseqs_is_a_mistake(monkeypatch, capsys):
    monkeypatch.setattr(cluster.shutil, "which", lambda _: None)
    family = {"a": made_up(1, 80), "b": relative(made_up(1, 80), 0.7, 1)}
    found, said = sequence_clusters(family, ClusterSettings(method="auto"))
    assert (set(found.values()), said) == ({"a"}, "kmer identity 0.35 coverage 0.8")
    assert "MMseqs2 is not installed" in capsys.readouterr().err
    with pytest.raises(UserError, match="install MMseqs2 or set kmer"):
        sequence_clusters(family, ClusterSettings(method="mmseqs"))


def test_a_failing_mmseqs_is_told_in_its_own_words(monkeypatch, tmp_path):
    fake = tmp_path / "mmseqs"
    fake.write_text("#!/bin/sh\necho 'Error: no space' >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setattr(cluster.shutil, "which", lambda _: str(fake))
    with pytest.raises(UserError, match=r"exit code 3: Error: no space; or set cluster\.method: kmer"):
        sequence_clusters({"a": "ACDEFGHIK"}, ClusterSettings(method="auto"))


def test_neighbouring_words_are_those_that_blosum62_scores_11():
    start, words = neighbours()
    scores = blosum62()
    for text in ("WWW", "ACD", "GKL"):
        (code,), _ = word_codes(text)
        found = set(words[start[code] : start[code + 1]].tolist())
        digits = [LETTERS.index(letter) for letter in text]
        expected = {
            a * 400 + b * 20 + c
            for a in range(20)
            for b in range(20)
            for c in range(20)
            if scores[digits[0], a] + scores[digits[1], b] + scores[digits[2], c] >= 11
        }
        assert found == expected


def test_words_propose_only_what_was_added_the_likest_first():
    ancestor = made_up(0, 120)
    sequences = [relative(ancestor, share, 1) for share in (1, 0.9, 0.5)] + [made_up(9, 120)]
    words = Words(sequences)
    assert words.top_hits(0, 5) == []
    for number in (2, 3, 1):
        words.add(number)
    assert words.top_hits(0, 5)[:2] == [1, 2]
    assert words.top_hits(0, 1) == [1]


def test_identity_counts_columns_and_gaps():
    sequence = made_up(2, 100)
    assert aligned_identity(sequence, sequence, 1000) == 1
    assert aligned_identity(sequence[:50] + sequence[55:], sequence, 1000) == pytest.approx(0.95)
    assert aligned_identity(sequence, made_up(3, 100), 1000) == 0
    assert aligned_identity(sequence[:30] + made_up(4, 70), sequence, 1000) == 0  # too little of it


def judged(name, coords):
    return PreparedStructure(name, "", coords, np.zeros(len(coords) - 1, bool), "")


def hairpins(length, turn):
    """A trace of two or more helices side by side, `turn` residues each, so that unlike turns are unlike folds."""
    pieces, at = [], 0
    while at < length:
        piece = helix(min(turn, length - at))
        if len(pieces) % 2:
            piece = piece[::-1]
        pieces.append(piece + np.array([0.0, 10.0 * len(pieces), 0.0]))
        at += turn
    return np.concatenate(pieces)


def test_structures_of_one_fold_go_together_and_others_do_not():
    rng = np.random.default_rng(0)
    structures = []
    for fold, turn in (("long", 90), ("pair", 45), ("bundle", 22)):
        for copy in range(4):
            coords = hairpins(90 - copy, turn) + rng.normal(0, 0.5, (90 - copy, 5, 3))
            structures.append(judged(f"{fold}{copy}", coords))
    found = fold_classes(structures)
    assert {name: founder[:-1] for name, founder in found.items()} == {name: name[:-1] for name in found}
    assert all(found[f"{fold}0"] == f"{fold}0" for fold in ("long", "pair", "bundle"))
    assert fold_classes(structures[::-1]) == found


def test_a_class_follows_its_fold_through_small_changes(monkeypatch):
    scores = {("b", "a"): 0.6, ("c", "b"): 0.7, ("d", "a"): 0.55, ("d", "c"): 0.5, ("e", "c"): 0.49}
    names = dict(zip(range(60, 50, -1), "abcde", strict=False))
    monkeypatch.setattr(cluster, "ranked", lambda query, library, near, factor: [(index, 1.0) for index in near])
    monkeypatch.setattr(
        cluster,
        "tm_align_score",
        lambda query, target: (0.9, scores.get((names[len(query)], names[len(target)]), 0.2)),
    )
    structures = [judged(name, helix(length)) for length, name in names.items()]
    assert fold_classes(structures) == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}


def stored(path):
    entries = []
    for fold, turn, copies in (("a", 80, 1), ("b", 20, 3)):
        for copy in range(copies):
            backbone = Backbone(
                f"{fold}{copy}",
                made_up(turn + copy, 80),
                hairpins(80, turn)[None],
                tuple(map(str, range(80))),
            )
            entries.append(Entry(backbone, {"label": ""}))
    write_store(path, entries)


def test_the_command_names_fold_classes_by_size_where_they_are_asked_for(tmp_path, capsys):
    stored(tmp_path / "s.h5")
    settings = ["--settings", '{"method": "kmer"}', "--store", str(tmp_path / "s.h5"), "-o", str(tmp_path / "c.tsv")]
    assert main.run(["cluster", *settings, "--scheme", "cluster"]) == 0
    rows = read_table(tmp_path / "c.tsv", cluster.COLUMNS)
    assert [(row["domain_id"], row["structure_cluster"]) for row in rows] == [
        *[("a0", "F2"), ("b0", "F1"), ("b1", "F1"), ("b2", "F1")]
    ]
    assert [row["sequence_cluster"] for row in rows] == ["a0", "b0", "b1", "b2"]
    assert rows[0]["method"] == "kmer identity 0.35 coverage 0.8; TM-align 0.5 of the longer"
    assert main.run(["cluster", *settings, "--force", "--scheme", "scope"]) == 0
    assert {row["structure_cluster"] for row in read_table(tmp_path / "c.tsv")} == {""}
    assert main.run(["cluster", *settings, "--force", "--scheme", "other"]) == 2
    assert "expected cath, scope, own, none or cluster, got 'other'" in capsys.readouterr().err
