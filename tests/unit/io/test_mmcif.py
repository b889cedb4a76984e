"""BinaryCIF gives what the same mmCIF file gives; packed files are unpacked within bounds."""

import gzip
import io
from dataclasses import fields
from pathlib import Path

import msgpack
import numpy as np
import pytest
from biotite.structure.io import pdbx

from cvae_protein.core.errors import StructureError
from cvae_protein.io import read
from cvae_protein.io.read import read_structure, structure_files

ROOT = Path(__file__).parents[3]
FILES = [ROOT / "tests/data/1ejg.cif.gz", ROOT / "tests/data/1ubi.cif.gz"]
FILES += sorted((ROOT / "data/embedded").glob("*/*.cif.gz"))[::25]
INTEGERS, FLOATS = ("id", "auth_seq_id", "pdbx_PDB_model_num"), ("Cartn_x", "Cartn_y", "Cartn_z", "occupancy")


def as_binary(path, packed=True):
    """A BinaryCIF file of the same content, with numbers as numbers, as the archive writes it."""
    source = pdbx.CIFFile.read(io.StringIO(gzip.decompress(path.read_bytes()).decode()))
    target = pdbx.BinaryCIFFile()
    for name, block in source.items():
        categories = {}
        for category in block:
            columns = {}
            for tag, column in block[category].items():
                kind = int if tag in INTEGERS else np.float32 if tag in FLOATS else str
                mask = None if column.mask is None else column.mask.array
                columns[tag] = pdbx.BinaryCIFColumn(column.as_array(kind if category == "atom_site" else str), mask)
            categories[category] = pdbx.BinaryCIFCategory(columns)
        target[name] = pdbx.BinaryCIFBlock(categories)
    written = io.BytesIO()
    (pdbx.compress(target) if packed else target).write(written)
    return written.getvalue()


def code_of(path):
    with pytest.raises(StructureError) as caught:
        read_structure(path)
    return caught.value.code


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("suffix", [".bcif", ".bcif.gz"])
def test_binary_equals_text(tmp_path, path, suffix):
    content = as_binary(path, packed=suffix == ".bcif")
    copy = tmp_path / f"{path.name.removesuffix('.cif.gz')}.cif.gz{suffix}"
    copy.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    found, expected = read_structure(copy), read_structure(path)
    for field in fields(expected):
        if field.name != "name":
            np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name), field.name)
    assert structure_files(copy)[0][1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_cut_binary(tmp_path, share):
    content = as_binary(FILES[1])
    (tmp_path / "x.bcif").write_bytes(content[: int(len(content) * share)])
    assert code_of(tmp_path / "x.bcif") in ("truncated", "not_a_structure")
    if share > 0.3:
        assert code_of(tmp_path / "x.bcif") == "truncated"


def damaged(change):
    """The file with its decoded content changed, and written again."""
    content = msgpack.unpackb(as_binary(FILES[1]), use_list=True, raw=False)
    (atoms,) = [c for c in content["dataBlocks"][0]["categories"] if c["name"] == "_atom_site"]
    change(content, atoms, {column["name"]: column for column in atoms["columns"]})
    return msgpack.packb(content)


def without_atoms(content, atoms, columns):
    content["dataBlocks"][0]["categories"].remove(atoms)


def no_blocks(content, atoms, columns):
    content["dataBlocks"] = []


def unknown_encoding(content, atoms, columns):
    columns["Cartn_x"]["data"]["encoding"][0]["kind"] = "Riddle"


def short_column(content, atoms, columns):
    columns["Cartn_x"]["data"] = {"data": bytes(8), "encoding": [{"kind": "ByteArray", "type": 32}]}


def huge_run(content, atoms, columns):
    columns["label_asym_id"]["data"]["encoding"][0]["dataEncoding"][0]["srcSize"] = 2**31 - 1


def huge_count(content, atoms, columns):
    atoms["rowCount"] = 2**40


def long_text(content, atoms, columns):
    columns["label_asym_id"]["data"]["encoding"][0]["stringData"] = "A" * 10_000_000


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (without_atoms, "not_a_structure"),
        (no_blocks, "not_a_structure"),
        (unknown_encoding, "not_a_structure"),
        (short_column, "not_a_structure"),
        (huge_run, "too_large"),
        (huge_count, "too_large"),
        (long_text, "too_large"),
    ],
)
def test_damaged_binary_has_its_reason(tmp_path, change, code):
    (tmp_path / "x.bcif").write_bytes(damaged(change))
    assert code_of(tmp_path / "x.bcif") == code


# --- packed files


def test_a_bomb_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "LARGEST_FILE", 100_000)
    (tmp_path / "bomb.cif.gz").write_bytes(gzip.compress(b"data_x\n" + b" " * 10_000_000))
    assert code_of(tmp_path / "bomb.cif.gz") == "too_large"
    (tmp_path / "parts.cif.gz").write_bytes(gzip.compress(b"data_x\n" + b" " * 60_000) * 2)
    assert code_of(tmp_path / "parts.cif.gz") == "too_large"
    (tmp_path / "plain.cif").write_bytes(b"data_x\n" + b" " * 200_000)
    assert code_of(tmp_path / "plain.cif") == "too_large"


def test_a_file_of_several_parts_and_padding(tmp_path):
    content = gzip.decompress(FILES[1].read_bytes())
    parts = gzip.compress(content[:20_000]) + gzip.compress(content[20_000:]) + b"\0" * 100
    (tmp_path / "x.cif.gz").write_bytes(parts)
    np.testing.assert_array_equal(read_structure(tmp_path / "x.cif.gz").coords, read_structure(FILES[1]).coords)
