import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cvae_protein.core import geometry
from cvae_protein.core.errors import StructureError
from cvae_protein.core.files import unsafe
from cvae_protein.core.secondary_structure import secondary_structure
from cvae_protein.core.structure import Backbone
from cvae_protein.io.read import parse_range
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import write_store

settings.register_profile("dataset", deadline=None, max_examples=60)
settings.load_profile("dataset")

SEEDS = st.integers(0, 2**32 - 1)
NUMBERS = st.integers(-999, 9999)
LETTERS = st.sampled_from(["", *"ABXYZ"])


def walk(seed, length, models=1):
    """Coordinates (model, length, 5, 3) in Å of a random walk of residues, some atoms missing."""
    generator = np.random.default_rng(seed)
    centers = np.cumsum(generator.normal(scale=2.2, size=(models, length, 1, 3)), axis=1)
    coords = centers + generator.normal(size=(models, length, 5, 3))
    coords[generator.random((models, length, 5)) < 0.05] = np.nan
    return coords


def rotation_of(seed):
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.linalg.det(matrix)


def same_angle(a, b):
    """Whether angles agree modulo 2 pi, NaN with NaN."""
    return (
        np.array_equal(np.isnan(a), np.isnan(b))
        and np.nanmax(np.abs(np.exp(1j * a) - np.exp(1j * b)), initial=0) < 1e-6
    )


@given(SEEDS, st.integers(2, 40), st.floats(-500, 500))
def test_a_rigid_motion_changes_no_torsion(seed, length, shift):
    coords, breaks = walk(seed, length)[0], np.random.default_rng(seed).random(length - 1) < 0.1
    moved = coords @ rotation_of(seed).T + shift
    assert same_angle(geometry.torsions(coords, breaks), geometry.torsions(moved, breaks))


@given(SEEDS, st.integers(2, 40))
def test_a_mirror_image_flips_every_torsion(seed, length):
    coords, breaks = walk(seed, length)[0], np.zeros(length - 1, bool)
    mirrored = geometry.torsions(coords * [1, -1, 1], breaks)
    assert same_angle(geometry.torsions(coords, breaks), -mirrored)


@given(SEEDS, st.integers(4, 60), st.floats(-500, 500))
def test_moved_structures_are_laid_back(seed, length, shift):
    points = walk(seed, length)[0, :, 1]
    if np.isfinite(points).all(-1).sum() < 3:
        return
    moved = points @ rotation_of(seed).T + shift
    back = geometry.move(points, *geometry.superpose(points, moved))
    np.testing.assert_allclose(back, moved, atol=1e-6)
    assert geometry.rmsd(points, moved) < 1e-6
    assert geometry.radius_of_gyration(points) == pytest.approx(geometry.radius_of_gyration(moved), abs=1e-6)


@given(SEEDS, st.integers(3, 40))
def test_rmsd_is_symmetric_and_no_motion_lowers_it(seed, length):
    generator = np.random.default_rng(seed)
    a, b = generator.normal(scale=5, size=(2, length, 3))
    found = geometry.rmsd(a, b)
    assert found == pytest.approx(geometry.rmsd(b, a), abs=1e-9)
    rotation, translation = geometry.superpose(a, b)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    nudge = rotation_of(seed) if seed % 2 else np.eye(3)
    other = geometry.move(a, nudge @ rotation, translation + generator.normal(scale=0.1, size=3))
    assert np.sqrt(((other - b) ** 2).sum(-1).mean()) >= found - 1e-9


@st.composite
def entries(draw):
    """A few domains of random size, place and number of models."""
    made = []
    for index in range(draw(st.integers(1, 4))):
        seed, length, models = draw(SEEDS), draw(st.integers(1, 30)), draw(st.integers(1, 3))
        generator = np.random.default_rng(seed)
        coords = (walk(seed, length, models) + generator.uniform(-900, 900, 3)).astype(np.float32)
        ids = tuple(f"{n}{draw(LETTERS)}" for n in generator.integers(-999, 9999, length))
        sequence = "".join(generator.choice(list("ACDEFGHIKLMNPQRSTVWYX"), length))
        facts = {
            "label": draw(st.text(max_size=5).map(lambda t: t.replace("\0", "").encode("utf-8", "ignore").decode()))
        }
        facts |= {"resolution": float(np.float32(generator.random())), "breaks": int(generator.integers(9))}
        made.append(Entry(Backbone(f"d{index}", sequence, coords, ids), facts))
    return made


@settings(max_examples=25)
@given(entries(), st.sampled_from(["blosc-lz4", "gzip"]))
def test_store_round_trip(tmp_path_factory, made, compression):
    folder = tmp_path_factory.mktemp("store")
    write_store(folder / "1.h5", made, compression=compression)
    with Store(folder / "1.h5") as store:
        read = list(store.entries())
    for before, after in zip(made, read, strict=True):
        a, b = before.backbone, after.backbone
        assert (a.id, a.sequence, a.residue_ids, before.facts) == (b.id, b.sequence, b.residue_ids, after.facts)
        assert after.ss == secondary_structure(b)
        assert np.array_equal(np.isnan(a.coords), np.isnan(b.coords))
        assert np.nanmax(np.abs(a.coords.astype(float) - b.coords), initial=0) <= 0.005 + 2e-4  # float32 at 900 Å
    write_store(folder / "2.h5", read, compression=compression)
    assert (folder / "1.h5").read_bytes() == (folder / "2.h5").read_bytes()


@given(st.lists(st.tuples(NUMBERS, LETTERS, st.integers(0, 500), LETTERS), max_size=5))
def test_ranges_are_read_as_written(parts):
    expected = [((start, a), (start + span, b)) for start, a, span, b in parts]
    text = ",".join(f"{s}{a}-{e}{b}" for (s, a), (e, b) in expected)
    assert parse_range(text) == expected


@given(st.one_of(st.text(max_size=20), st.text("0123456789-,AB ", max_size=20)))
def test_any_text_is_a_range_that_rises_or_a_bad_one(text):
    try:
        rising = all(start.number <= end.number or start.insertion or end.insertion for start, end in parse_range(text))
    except StructureError as error:
        rising = error.code == "bad_range"
    assert rising


@given(st.one_of(st.text(max_size=20), st.text("aZ09._+-/\\ ", max_size=20)))
def test_a_safe_id_names_a_file_in_its_folder(text):
    if not unsafe(text):
        assert "/" not in text
        assert "\\" not in text
        assert not text.startswith(".")
        assert text.isascii()
        assert text.isprintable()


@given(arrays(np.float64, (6, 4, 3), elements=st.floats(-20, 20)))
def test_dihedral_of_any_points_is_an_angle(points):
    found = geometry.dihedral(*points.swapaxes(0, 1))
    assert (np.abs(found) <= np.pi).all()
