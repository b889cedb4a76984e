"""A damaged store is found out, and the domains that are hit are named."""

import h5py
import numpy as np
import pytest
from unit.store.test_read import entry, many

from cvae_protein.cli import main
from cvae_protein.core.errors import UserError
from cvae_protein.store.read import Store
from cvae_protein.store.verify import verify_store
from cvae_protein.store.write import write_store


def contents(path):
    """All that a store tells, as plain values."""
    with Store(path) as store:
        return [
            (
                *(e.backbone.id, e.backbone.sequence, e.backbone.residue_ids, e.ss, repr(e.facts)),
                e.backbone.coords.tobytes(),
            )
            for e in store.entries()
        ]


def outcome(work, path):
    """What the work returns, and what a user is told where it fails."""
    try:
        return work(path), ""
    except UserError as error:
        return None, str(error)


def damaged(path, position, value):
    content = bytearray(path.read_bytes())
    content[position] ^= value
    copy = path.with_name("damaged.h5")
    copy.write_bytes(content)
    return copy


@pytest.mark.parametrize("compression", ["blosc-lz4", "gzip"])
def test_any_flipped_byte_is_found_or_changes_nothing(tmp_path, compression):
    path = tmp_path / "s.h5"
    write_store(path, [entry(f"d{n}", models=1 + n % 2, shift=n) for n in range(40)], compression=compression)
    whole = contents(path)
    rng = np.random.default_rng(0)
    found = 0
    for position in rng.integers(path.stat().st_size, size=120).tolist():
        copy = damaged(path, position, int(rng.integers(1, 256)))
        verdict, refused = outcome(verify_store, copy)
        seen = bool(refused or verdict.damages)
        read, said = outcome(contents, copy)
        assert read in (whole, None), f"byte {position}: a reader takes damaged data for whole"
        assert seen or not said, f"byte {position}: reading fails, verify says nothing"
        assert "cvae-protein verify" in said or not said
        found += seen
    assert found > 30


def position_in(path, name, index):
    """Place in the file of a byte of the packed block `index` of a dataset."""
    with h5py.File(path) as file:
        chunk = file[name].id.get_chunk_info(index)
        return chunk.byte_offset + chunk.size // 2


@pytest.mark.parametrize("name", ["coords", "ss", "residue_id"])
def test_domains_of_a_damaged_block_are_named(tmp_path, name):
    write_store(tmp_path / "s.h5", many(40, 100))
    copy = damaged(tmp_path / "s.h5", position_in(tmp_path / "s.h5", name, 2), 1)
    (damage,) = verify_store(copy).damages
    place, names = damage.split(": ")
    assert place == f"{name}, residues 2048 to 3071"
    assert names.split(", ") == [f"d{number}" for number in range(20, 31)]


def test_damage_of_the_table_and_the_checksums_is_found(tmp_path):
    path = tmp_path / "s.h5"
    write_store(path, many(1500, 4))
    (damage,) = verify_store(damaged(path, position_in(path, "table/label", 1), 4)).damages
    assert damage.startswith("table/label, conformations 1024 to 1499: d1024, d1025")
    (damage,) = verify_store(damaged(path, position_in(path, "table/id", 0), 4)).damages
    assert damage == "table/id, conformations 0 to 1023: their domains cannot be read"
    with h5py.File(path) as file:
        place = file["checksum/ss"].id.get_offset()
    (damage,) = verify_store(damaged(path, place, 4)).damages
    assert damage.startswith("ss, residues 0 to 1023: d0, d1, ")


def test_values_that_were_changed_with_care_are_found_too(tmp_path):
    path = tmp_path / "s.h5"
    write_store(path, many(30))
    with h5py.File(path, "r+") as file:
        file["coords"][100, 1, 2] += 1
        file.attrs["resolution"] = 0.1
    assert [damage.split(",")[0].split(":")[0] for damage in verify_store(path).damages] == ["attributes", "coords"]
    with h5py.File(path, "r+") as file:
        file["ss"].resize(200, axis=0)
    assert "ss: 200 values do not fit 30 conformations of 360 residues" in verify_store(path).damages
    with pytest.raises(UserError, match=r"do not fit together.*cvae-protein verify"):
        Store(path)


def test_the_command_says_so(tmp_path, capsys):
    path = tmp_path / "s.h5"
    write_store(path, many(30))
    write_store(tmp_path / "none.h5", [])
    assert main.run(["verify", str(path), str(tmp_path / "none.h5")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{path}: whole, 30 conformations in 11 blocks"
    assert "whole, 0 conformations" in said[1]

    copy = damaged(path, position_in(path, "coords", 0), 1)
    assert main.run(["verify", str(path), str(copy)]) == 1
    captured = capsys.readouterr()
    assert f"{copy}: coords, residues 0 to 359: d0, d1, " in captured.out
    assert "1 of 2 stores" in captured.err


@pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.999])
def test_a_file_cut_short_is_found_by_every_stage(tmp_path, share, capsys):
    path = tmp_path / "s.h5"
    write_store(path, many(30))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for command in (["verify"], ["split", "-o", str(tmp_path / "x"), "--store"], ["export", "-o", "x.pdb", "--store"]):
        assert main.run([*command, str(path)]) == 1
        captured = capsys.readouterr()
        assert "cvae-protein verify" in captured.out + captured.err
        assert "Traceback" not in captured.err
