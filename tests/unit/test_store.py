import numpy as np
import pytest
from synthetic import helix

from cvae_protein.dataset.store import Entry, Store, merge_stores, write_store
from cvae_protein.errors import UserError
from cvae_protein.structure import Backbone


def entry(name="1abcA00", length=12, models=1, shift=0.0, **facts):
    coords = np.stack([helix(length) + shift + model for model in range(models)])
    coords[:, 3, 4] = np.nan
    made = Backbone(name, "ACDEFGHIKLMN"[:length], coords, tuple(f"{i}A" for i in range(length)))
    torsion = np.random.default_rng(0).uniform(-3, 3, (models, length, 3))
    return Entry(
        made, torsion, ("H" * length,) * models, {"label": "1.10.8.10", "resolution": 1.8, "breaks": 0, **facts}
    )


def same(a, b):
    assert a.backbone.id == b.backbone.id
    assert a.backbone.sequence == b.backbone.sequence
    assert a.backbone.residue_ids == b.backbone.residue_ids
    assert a.ss == b.ss
    np.testing.assert_allclose(a.backbone.coords, b.backbone.coords, atol=0.0051, equal_nan=True)
    np.testing.assert_allclose(a.torsion, b.torsion, atol=1e-6)


@pytest.mark.parametrize("compression", ["blosc-lz4", "gzip"])
def test_what_was_written_is_read(tmp_path, compression):
    entries = [entry("a"), entry("b", 10, models=3, shift=900.0, label="2.60.40.10"), entry("c", 5)]
    write_store(tmp_path / "s.h5", entries, compression=compression)
    with Store(tmp_path / "s.h5") as store:
        assert (len(store), store.ids) == (5, ["a", "b", "c"])
        assert list(store.columns) == ["id", "model", "label", "resolution", "breaks"]
        assert store.lengths.tolist() == [12, 10, 10, 10, 5]
        assert store.columns["model"].tolist() == [0, 0, 1, 2, 0]
        assert store.rows("b") == [1, 2, 3]
        assert store.fact("b", "label") == "2.60.40.10"
        assert store.fact("b", "breaks") == 0
        for before, after in zip(entries, store.entries(), strict=True):
            same(before, after)


def test_reading_and_writing_again_gives_the_same_bytes(tmp_path):
    write_store(tmp_path / "1.h5", [entry("a", shift=0.0049), entry("b", models=2, shift=-777.7)])
    with Store(tmp_path / "1.h5") as store:
        write_store(tmp_path / "2.h5", store.entries())
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_merging_is_writing_all_at_once(tmp_path):
    entries = [entry("a"), entry("b", 10, models=2), entry("c", 5)]
    write_store(tmp_path / "all.h5", entries)
    write_store(tmp_path / "1.h5", entries[:1])
    write_store(tmp_path / "none.h5", [])
    write_store(tmp_path / "2.h5", entries[1:])
    count = merge_stores([tmp_path / f"{name}.h5" for name in ("1", "none", "2")], tmp_path / "merged.h5")
    assert count == 4
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "all.h5").read_bytes()


def test_empty_store(tmp_path):
    write_store(tmp_path / "none.h5", [])
    with Store(tmp_path / "none.h5") as store:
        assert (len(store), store.ids, list(store.entries())) == (0, [], [])
    with pytest.raises(UserError, match="every domain was rejected"):
        merge_stores([tmp_path / "none.h5"], tmp_path / "merged.h5")
    assert not (tmp_path / "merged.h5").exists()


def test_facts_have_to_be_the_same(tmp_path):
    with pytest.raises(ValueError, match="expected the facts"):
        write_store(tmp_path / "s.h5", [entry("a"), entry("b", more=1)])
    write_store(tmp_path / "1.h5", [entry("a")])
    write_store(tmp_path / "2.h5", [entry("b", more=1)])
    with pytest.raises(UserError, match="expected the table columns"):
        merge_stores([tmp_path / "1.h5", tmp_path / "2.h5"], tmp_path / "merged.h5")


def test_what_does_not_fit_is_refused(tmp_path):
    wide = entry("a")
    wide.backbone.coords[0, 0, 0] += 2000
    with pytest.raises(ValueError, match="from the centre"):
        write_store(tmp_path / "s.h5", [wide])
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_store(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    write_store(tmp_path / "cut.h5", [entry()])
    (tmp_path / "cut.h5").write_bytes((tmp_path / "cut.h5").read_bytes()[:3000])
    for name in ("text", "cut", "absent"):
        with pytest.raises(UserError, match=f"{name}.h5"):
            Store(tmp_path / f"{name}.h5")


def test_unknown_domain_and_compression(tmp_path):
    with pytest.raises(UserError, match="expected blosc-lz4 or gzip"):
        write_store(tmp_path / "s.h5", [entry()], compression="zip")
    write_store(tmp_path / "s.h5", [entry()])
    with Store(tmp_path / "s.h5") as store, pytest.raises(UserError, match="no domain 'z'"):
        store.backbone("z")
