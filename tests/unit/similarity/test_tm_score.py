import biotite.structure as biotite
import numpy as np
import pytest
from score_synthetic import chain, deformed, moved, ubiquitin

from cvae_protein.similarity.tm_score import tm_score, tm_scores


def test_pairs_together_score_as_each_alone():
    pairs = [
        (deformed(ubiquitin(), amount)[first:, 1], ubiquitin()[first:, 1]) for amount in (0.3, 2.0) for first in (0, 9)
    ]
    pairs += [(chain(40, seed)[:, 1], chain(40, seed + 1)[:, 1]) for seed in range(30)]
    pairs.append((np.zeros((3, 3)), np.zeros((3, 3))))
    lengths = [len(mobile) + index % 3 for index, (mobile, _) in enumerate(pairs)]
    together = tm_scores(pairs, lengths)
    alone = [tm_score(*pair, length) for pair, length in zip(pairs, lengths, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-9)
    assert np.isnan(together).tolist() == [False] * (len(pairs) - 1) + [True]
    assert tm_scores([]).shape == (0,)


def atoms_of(trace):
    """CA atoms of a chain of alanine, as biotite has them."""
    atoms = biotite.AtomArray(len(trace))
    atoms.coord, atoms.res_id = np.asarray(trace, np.float32), np.arange(1, len(trace) + 1)
    atoms.res_name[:], atoms.atom_name[:], atoms.element[:] = "ALA", "CA", "C"
    return atoms


def test_the_score_is_that_of_biotite_where_superposition_is_plain():
    """It scores coordinates as they lie: after its own superposition a lower bound, and tight for near copies."""
    own = ubiquitin()[:, 1]
    at = np.arange(len(own))
    for noise, slack in ((0.1, 1e-3), (0.5, 1e-3), (2.0, 0.02)):
        other = moved(own + np.random.default_rng(0).normal(0, noise, own.shape))
        fitted, _ = biotite.superimpose(atoms_of(own), atoms_of(other))
        bound = biotite.tm_score(atoms_of(own), fitted, at, at, reference_length=len(own))
        found = tm_score(other, own, len(own))
        assert bound <= found + 1e-5
        assert found == pytest.approx(bound, abs=slack)
