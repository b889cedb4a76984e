import numpy as np
import pytest
from synthetic import helix

from cvae_protein.core.structure import CA, Backbone, C, N


def backbone(coords, sequence=None):
    coords = coords if coords.ndim == 4 else coords[None]
    length = coords.shape[1]
    return Backbone("x", sequence or "A" * length, coords, tuple(str(i + 1) for i in range(length)))


def test_unbroken_chain():
    made = backbone(helix(10))
    assert (len(made), made.models) == (10, 1)
    assert made.coords.dtype == np.float32
    assert made.breaks.shape == (9,)
    assert not made.breaks.any()
    assert made.complete.all()


def test_break_by_the_peptide_bond():
    coords = helix(10)
    coords[5:] += [0, 0, 3]
    assert np.flatnonzero(backbone(coords).breaks).tolist() == [4]


def test_break_by_the_ca_step_where_an_atom_of_the_bond_is_missing():
    coords = helix(10)
    coords[4, C] = np.nan
    assert not backbone(coords).breaks.any()
    coords[5:] += [0, 0, 5]
    assert np.flatnonzero(backbone(coords).breaks).tolist() == [4]


def test_missing_ca_breaks_both_sides():
    coords = helix(10)
    coords[4, CA] = np.nan
    assert np.flatnonzero(backbone(coords).breaks).tolist() == [3, 4]


def test_complete_asks_every_model():
    both = np.stack([helix(6), helix(6)])
    both[1, 2, N] = np.nan
    both[0, 3, 4] = np.nan  # CB does not count
    made = backbone(both)
    assert np.flatnonzero(~made.complete).tolist() == [2]
    assert made.model(0).complete.all()
    assert made.model(1).models == 1


@pytest.mark.parametrize(
    ("shape", "letters", "ids"), [((5, 5, 3), 5, 5), ((1, 5, 4, 3), 5, 5), ((1, 5, 5, 3), 4, 5), ((1, 5, 5, 3), 5, 6)]
)
def test_shapes_have_to_agree(shape, letters, ids):
    with pytest.raises(ValueError, match="expected"):
        Backbone("x", "A" * letters, np.zeros(shape), tuple("1" * ids))
