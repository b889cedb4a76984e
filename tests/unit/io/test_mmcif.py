"""mmCIF as programs write it; BinaryCIF gives what the same mmCIF file gives; packed files are unpacked in bounds."""

import gzip
import io
from dataclasses import fields
from pathlib import Path

import msgpack
import numpy as np
import pytest
from biotite.structure.io import pdbx
from synthetic import chain_lines, helix, write

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


# --- mmCIF with columns and blocks of its own


def table(tmp_path, lines=None):
    """Tags, rows and the rest of an mmCIF file of PDB lines."""
    path = write(tmp_path / "whole.cif", lines or chain_lines(helix(8)))
    words = [row.split() for row in path.read_text().splitlines()]
    tags = [row[0].removeprefix("_atom_site.") for row in words if row and row[0].startswith("_atom_site.")]
    return tags, [row for row in words if row and row[0] == "ATOM" and len(row) == len(tags)]


def reading(path, tags, *blocks, head=""):
    """What is read of blocks of rows."""
    names = "".join(f"_atom_site.{tag}\n" for tag in tags)
    text = [
        f"data_b{number}\n#\nloop_\n{names}" + "".join(" ".join(row) + "\n" for row in rows) + "#\n"
        for number, rows in enumerate(blocks)
    ]
    path.write_text(head + "".join(text))
    return read_structure(path)


NEEDED = {"Cartn_x", "Cartn_y", "Cartn_z"}
PAIRS = ("atom_id", "comp_id", "asym_id", "seq_id")


def test_no_column_is_needed_that_tells_nothing_of_the_backbone(tmp_path):
    tags, rows = table(tmp_path)
    expected = reading(tmp_path / "x.cif", tags, rows).coords
    needed = NEEDED | {"label_atom_id", "label_comp_id", "auth_seq_id"}  # what gemmi writes of these pairs
    for place, tag in enumerate(tags):
        left = tags[:place] + tags[place + 1 :], [row[:place] + row[place + 1 :] for row in rows]
        if tag in needed:
            with pytest.raises(StructureError, match=f"_atom_site(:| has) no .*{tag}"):
                reading(tmp_path / "x.cif", *left)
        else:
            np.testing.assert_array_equal(reading(tmp_path / "x.cif", *left).coords, expected, tag)
    few = [tags.index(tag) for tag in sorted(needed)]
    found = reading(tmp_path / "x.cif", [tags[place] for place in few], [[row[place] for place in few] for row in rows])
    np.testing.assert_array_equal(found.coords, expected)
    assert found.chains == [""]


@pytest.mark.parametrize("pair", PAIRS)
def test_a_missing_name_is_told(tmp_path, pair):
    tags, rows = table(tmp_path)
    kept = [place for place, tag in enumerate(tags) if not tag.endswith(pair)]
    left = [tags[place] for place in kept], [[row[place] for place in kept] for row in rows]
    if pair == "asym_id":
        assert len(reading(tmp_path / "x.cif", *left).number) == 8
    else:
        with pytest.raises(StructureError, match=rf"has no column \w+{pair} or \w+{pair}"):
            reading(tmp_path / "x.cif", *left)


@pytest.mark.parametrize("name", ["A", "chain_of_8", "heavy chain number one", "größe"])
def test_chain_names_of_any_length(tmp_path, name):
    tags, rows = table(tmp_path)
    for row in rows:
        for tag in ("auth_asym_id", "label_asym_id"):
            row[tags.index(tag)] = f"'{name}'"
    other = [[cell.replace(f"'{name}'", f"'{name}2'") for cell in row] for row in rows]
    found = reading(tmp_path / "x.cif", tags, [*rows, *other])
    assert found.chains == [name, f"{name}2"]
    assert len(read.extract_domain(found, f"{name}2", "", "x")) == 8


def test_a_residue_that_stands_there_again_is_told(tmp_path):
    tags, rows = table(tmp_path)
    with pytest.raises(StructureError, match="model 1, chain A, residue 1: its atom N stands 2 times"):
        reading(tmp_path / "x.cif", tags, [*rows, *rows])
    with pytest.raises(StructureError, match="residue 5"):
        reading(tmp_path / "x.cif", tags, [*rows, *rows[20:25]])


def test_blocks_are_further_models(tmp_path):
    tags, rows = table(tmp_path)
    found = reading(tmp_path / "x.cif", tags, rows, rows, rows[:25])
    assert [int((found.model == number).sum()) for number in found.models] == [8, 8, 5]
    assert found.models == [1, 2, 3]
    place = tags.index("pdbx_PDB_model_num")
    numbered = [[*row[:place], "7", *row[place + 1 :]] for row in rows]
    assert reading(tmp_path / "y.cif", tags, rows, numbered).models == [1, 7]


def lengths(path):
    """Residues of each model of a file."""
    found = read_structure(path)
    return [int((found.model == number).sum()) for number in found.models]


@pytest.mark.parametrize(
    ("before", "between"),
    [
        ("data_x\n", "data_x\n"),  # files that were joined
        ("data_\n", "data_\n"),
        ("data_x\n", "save_y\n"),
        ("data_info\n_struct.title 'none'\ndata_x\n", "DATA_y\n"),
        ("data_x\n_a.text\n;\ndata_fake\n_atom_site.id 1\n;\n", "data_y\n"),
        ("global_\n_a.b 1\ndata_x\n", "data_y\n"),
    ],
)
def test_no_block_is_lost(tmp_path, before, between):
    rows = [path.read_text().partition("\n")[2] for path in (one_block(tmp_path, 12), one_block(tmp_path, 9))]
    text = before + rows[0] + between + rows[1] + ("save_\n" if "save" in between else "")
    (tmp_path / "x.cif").write_text(text)
    assert lengths(tmp_path / "x.cif") == [12, 9]
    (tmp_path / "y.cif.gz").write_bytes(gzip.compress(text[:700].encode()) + gzip.compress(text[700:].encode()))
    assert lengths(tmp_path / "y.cif.gz") == [12, 9]


def one_block(tmp_path, length):
    """An mmCIF file of one helix, the first line of which names its block."""
    tags, rows = table(tmp_path, chain_lines(helix(length)))
    path = tmp_path / f"{length}.cif"
    path.write_text("".join(["data_x\nloop_\n", *(f"_atom_site.{tag}\n" for tag in tags), *map(line_of, rows)]))
    return path


def line_of(cells):
    return " ".join(cells) + "\n"


def test_a_block_with_a_tag_twice_is_told(tmp_path):
    tags, rows = table(tmp_path)
    with pytest.raises(StructureError, match=r"duplicate tag _atom_site\.id"):
        reading(tmp_path / "x.cif", [*tags, "id"], [[*row, "1"] for row in rows])
    text = one_block(tmp_path, 8).read_text()
    (tmp_path / "y.cif").write_text(text + text.partition("\n")[2])  # two tables of atoms in one block
    with pytest.raises(StructureError, match="duplicate tag"):
        read_structure(tmp_path / "y.cif")


@pytest.mark.parametrize("name", ["again", ""])
def test_blocks_of_a_binary_file_are_further_models(tmp_path, name):
    content = msgpack.unpackb(as_binary(FILES[1]))
    (block,) = content["dataBlocks"]
    content["dataBlocks"].append({**block, "header": name or block["header"]})
    (tmp_path / "x.bcif").write_bytes(msgpack.packb(content))
    assert read_structure(tmp_path / "x.bcif").models == [1, 2]


@pytest.mark.parametrize("cell", ["' {} '", '"{}"', "'{}  '", "' {}'", "\n; {}\n;\n"])
def test_cells_are_quoted_and_padded_as_one_likes(tmp_path, cell):
    tags, rows = table(tmp_path)
    expected = reading(tmp_path / "x.cif", tags, rows)
    named = [place for place, tag in enumerate(tags) if tag.endswith(("atom_id", "comp_id", "asym_id", "Cartn_x"))]
    quoted = [[cell.format(text) if place in named else text for place, text in enumerate(row)] for row in rows]
    found = reading(tmp_path / "x.cif", tags, quoted)
    np.testing.assert_array_equal(found.coords, expected.coords)
    assert found.chains == expected.chains
    assert found.letter.tolist() == expected.letter.tolist()


@pytest.mark.parametrize(
    "head", ["# a\n" * 30_000, "\n" * 70_000, "#" + "x" * 100_000 + "\n", "\ufeff", "\ufeff# a\n\n"]
)
def test_what_may_stand_before_the_first_block(tmp_path, head):
    tags, rows = table(tmp_path)
    assert len(reading(tmp_path / "x.cif", tags, rows, head=head).number) == 8


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_line_ends_of_mmcif(tmp_path, end):
    path = write(tmp_path / "x.cif", chain_lines(helix(8)))
    path.write_bytes(path.read_bytes().replace(b"\n", end))
    assert len(read_structure(path).number) == 8


def test_mmcif_in_another_encoding(tmp_path):
    path = write(tmp_path / "x.cif", chain_lines(helix(8)))
    path.write_bytes(path.read_bytes() + "_struct.title 'Größe'\n_exptl.method 'Größe'\n".encode("latin-1"))
    assert len(read_structure(path).number) == 8


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
