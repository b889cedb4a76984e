"""HDF5 files that cannot be written are an error of one line and no crash. A limit of size plays the full disk."""

import resource
from contextlib import contextmanager

import h5py
import numpy as np
import pytest

from cvae_protein.core.errors import UserError
from cvae_protein.store.layout import TEXT, Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import _Disk, merge_stores, new_file, write_store


@contextmanager
def largest(size):
    """Files may have so many bytes at most; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(path):
    """Write numbers and text, and read the text while the file is open."""
    with new_file(path) as file:
        file["a"] = np.random.default_rng(0).normal(size=(100, 64))
        file.create_dataset("b", data=np.array(["word" * 30] * 100, object), dtype=TEXT)
        assert file["b"].asstr()[7] == "word" * 30  # what could not be written is still read


@pytest.mark.parametrize("size", [0, 1000, 4096, 10_000, 30_000])
def test_a_file_that_cannot_grow_is_an_error_and_leaves_nothing(tmp_path, make_backbone, size):
    chains = [make_backbone(f"d{number:03d}", 60, seed=number) for number in range(60)]
    entries = [Entry(chain, {"label": "1"}) for chain in chains]
    with largest(size), pytest.raises(OSError, match="File too large") as caught:
        write_store(tmp_path / "x.h5", entries, compression="gzip")
    assert caught.value.filename == str(tmp_path / "x.h5")
    with largest(size), pytest.raises(OSError, match="File too large"):
        fill(tmp_path / "y.h5")
    assert list(tmp_path.iterdir()) == []
    write_store(tmp_path / "x.h5", entries, compression="gzip")
    with h5py.File(tmp_path / "x.h5") as file:
        assert len(file["center"]) == 60


def test_what_cannot_be_written_is_read_from_memory(tmp_path):
    with largest(10), _Disk(tmp_path / "x") as disk:
        disk.write(b"0123456789abcdef")
        disk.seek(4)
        disk.write(b"XY")
        disk.seek(0)
        buffer = bytearray(20)
        disk.readinto(buffer)
        assert buffer == b"0123XY6789abcdef" + bytes(4)
        assert disk.seek(0, 2) == 16
        assert disk.error is not None


def test_errors_of_the_caller_pass(tmp_path):
    def ask():
        with new_file(tmp_path / "x.h5") as file:
            return file["absent"]

    with pytest.raises(KeyError):
        ask()
    assert list(tmp_path.iterdir()) == []


def test_samples_and_domains_are_not_joined(tmp_path, make_backbone):
    for name, kind in (("a", "samples"), ("b", "domains")):
        entry = Entry(make_backbone(name, 6), {})
        write_store(tmp_path / f"{name}.h5", [entry], kind=kind)
    with pytest.raises(UserError, match=r"b\.h5: expected a store of samples as those before it, found one of domains"):
        merge_stores([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "all.h5")


def test_numbers_of_64_bits_stay_what_they_are(tmp_path, make_backbone):
    seeds = {"a": 3, "b": 2**64 - 1}
    for name, seed in seeds.items():
        entry = Entry(make_backbone(name, 6), {"seed": seed})
        write_store(tmp_path / f"{name}.h5", [entry])
    merge_stores([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "all.h5")
    with Store(tmp_path / "all.h5") as store:
        assert {name: store.fact(name, "seed") for name in store.ids} == seeds


def test_one_id_is_one_sequence(tmp_path, make_backbone):
    def entry(name, seed):
        chain = make_backbone(name, 20, seed=seed)
        return Entry(chain, {"label": "1"})

    with pytest.raises(UserError, match="two structures have the id d1"):
        write_store(tmp_path / "x.h5", [entry("d1", 1), entry("d2", 2), entry("d1", 3)], compression="gzip")
    assert not (tmp_path / "x.h5").exists()
    write_store(tmp_path / "x.h5", [entry("d1", 1), entry("d2", 2), entry("d1", 1)], compression="gzip")
    with Store(tmp_path / "x.h5") as store:
        assert store.columns["model"].tolist() == [0, 0, 1]
        assert store.backbone("d1").models == 2


def test_missing_numbers_are_said_of_whole_draws_alone(make_backbone, tmp_path, capsys):
    """A share of a draw, which is made in parts and joined, is none."""
    write_store(tmp_path / "a.h5", [Entry(make_backbone("concat-0-2-7-0003"), {})], kind="samples")
    merge_stores([tmp_path / "a.h5"], tmp_path / "b.h5")
    assert "in no part" not in capsys.readouterr().err
    merge_stores([tmp_path / "a.h5"], tmp_path / "c.h5", whole=True)
    assert "3 of 4 samples concat-0-2-7-… are in no part" in capsys.readouterr().err
