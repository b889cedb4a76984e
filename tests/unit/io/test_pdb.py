"""PDB files as programs write them: every atom line of a backbone is read, or the file has its reason."""

import gzip

import numpy as np
import pytest
from synthetic import chain_lines, helix, line, residue_lines, write

from cvae_protein.core.errors import StructureError
from cvae_protein.core.structure import CA
from cvae_protein.io.read import extract_domain, read_structure


def reading(path, lines, end="\n"):
    path.write_bytes(end.join([*lines, ""]).encode("latin-1"))
    return read_structure(path)


def reason(path, lines):
    with pytest.raises(StructureError) as caught:
        reading(path, lines)
    return caught.value


def frames(separator, count=3, length=9):
    return [row for index in range(count) for row in (*chain_lines(helix(length, phi=-57 - index))[:-1], separator)]


NEW_HEADS = ["HEADER    ANOTHER", "TITLE     frame", "CRYST1   50.000   50.000   50.000  90.00  90.00  90.00 P 1"]


@pytest.mark.parametrize("separator", ["END", "END   ", "ENDMDL", "MODEL", "MODEL        0", *NEW_HEADS])
@pytest.mark.parametrize("packed", [False, True])
def test_frames_without_a_number_are_counted(tmp_path, separator, packed):
    lines = frames(separator)
    lines = [lines[-1], *lines[:-1]] if separator.startswith("MODEL") else lines
    path = tmp_path / "x.pdb"
    content = "\n".join(["REMARK frames", *lines, ""]).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    found = extract_domain(read_structure(path), "A", "", "x")
    assert found.coords.shape == (3, 9, 5, 3)
    np.testing.assert_allclose(found.coords[2], helix(9, phi=-59), atol=6e-4)


@pytest.mark.parametrize(
    ("heads", "numbers"),
    [
        (["MODEL        4", "MODEL        9"], [4, 9]),
        (["MODEL         4", "MODEL         9"], [4, 9]),
        (["MODEL  4", "MODEL  9 of 12"], [4, 9]),
        (["MODEL        4", "MODEL        4"], [1, 2]),
        (["MODEL        4", "MODEL     ****"], [1, 2]),
        (["MODEL     100000", "MODEL     100001"], [100000, 100001]),
        (["MODEL first", "MODEL second"], [1, 2]),
        (["MODEL 99999999999999999999", "MODEL 2"], [1, 2]),
    ],
)
def test_numbers_of_models(tmp_path, heads, numbers):
    lines = [row for head in heads for row in (head, *chain_lines(helix(6)), "ENDMDL")]
    assert reading(tmp_path / "x.pdb", lines).models == numbers


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "ï»¿"])
def test_line_ends_and_byte_order_mark(tmp_path, end, mark):
    lines = chain_lines(helix(6))
    found = reading(tmp_path / "x.pdb", [mark + lines[0], *lines[1:]], end)
    np.testing.assert_allclose(found.coords, helix(6), atol=6e-4)


@pytest.mark.parametrize("name", ["x.pdb", "x.cif"])
def test_byte_order_marks_within_a_file(tmp_path, name):
    """As of a program that adds one to a file that has one, and of files joined one behind the other."""
    one = write(tmp_path / f"one-{name}", chain_lines(helix(6))).read_bytes().removesuffix(b"END\n")
    mark = b"\xef\xbb\xbf"
    (tmp_path / name).write_bytes(mark + mark + one + (b"END\n" if name == "x.pdb" else b"") + mark + one)
    found = extract_domain(read_structure(tmp_path / name), "A", "", "x")
    assert found.coords.shape == (2, 6, 5, 3)
    assert found.complete.all()


def test_utf_16(tmp_path):
    path = tmp_path / "x.pdb"
    path.write_text("\n".join(["REMARK 999 Å", *chain_lines(helix(6)), ""]), encoding="utf-16")
    assert len(read_structure(path).number) == 6


@pytest.mark.parametrize("record", ["HEADER", "TITLE ", "KEYWDS", "EXPDTA", "AUTHOR", "REMARK   2", "SEQRES"])
def test_a_header_in_another_encoding(tmp_path, record):
    assert len(reading(tmp_path / "x.pdb", [f"{record}    Größe ÿ", *chain_lines(helix(6))]).number) == 6


def test_a_long_header(tmp_path):
    lines = [f"USER  {number}" for number in range(20000)]
    assert len(reading(tmp_path / "x.pdb", [*lines, *chain_lines(helix(6))]).number) == 6


@pytest.mark.parametrize("before", range(3))
def test_atom_names_stand_anywhere_in_their_columns(tmp_path, before):
    lines = [
        row if row == "TER" else row[:12] + (" " * before + row[12:16].strip()).ljust(4) + row[16:]
        for row in chain_lines(helix(8)) + chain_lines(helix(8) + 40)
    ]
    found = reading(tmp_path / "x.pdb", lines)
    assert len(found.number) == 16
    np.testing.assert_allclose(found.coords[8:], helix(8) + 40, atol=6e-4)


def four(row, name):
    return row if row == "TER" else row[:17] + name + row[21:]


@pytest.mark.parametrize(
    ("first", "last", "sequence"),
    [
        ("NMET", "CGLY", "MAAAAG"),
        ("NHIE", "CCYX", "HAAAAC"),
        ("LYSH", "HISB", "KAAAAH"),
        ("HIS1", "CYS2", "HAAAAC"),
        ("LYSN", "GLUP", "KAAAAE"),
        ("ASPP", "CNLE", "DAAAAL"),
    ],
)
@pytest.mark.parametrize("chain", ["A", " "])
def test_residue_names_of_four_letters(tmp_path, first, last, sequence, chain):
    lines = chain_lines(helix(6), chain=chain)
    lines = [*(four(row, first) for row in lines[:5]), *lines[5:25], *(four(row, last) for row in lines[25:])]
    found = reading(tmp_path / "x.pdb", lines)
    assert found.chains == [chain.strip()]
    assert "".join(found.letter) == sequence


def test_chain_names_of_two_letters(tmp_path):
    names = ["HIS", "MET", "NLE", "ALA", "GLY", "LYS"]
    second = [row if row == "TER" else row[:20] + "AA" + row[22:] for row in chain_lines(helix(6) + 40, names)]
    found = reading(tmp_path / "x.pdb", [*chain_lines(helix(6), names), *second])
    assert found.chains == ["A", "AA"]
    assert "".join(found.letter) == "HMLAGK" * 2


@pytest.mark.parametrize("letters", ["AB", " B"])
def test_another_conformer_behind_the_chain(tmp_path, letters):
    coords = helix(8)
    first = residue_lines(coords[3], "THR", number=4, altloc=letters[0], occupancy=0.6)
    second = residue_lines(coords[3] + 0.5, "SER", number=4, altloc=letters[1], occupancy=0.4)
    lines = chain_lines(coords)
    found = reading(tmp_path / "x.pdb", [*lines[:15], *first, *lines[20:], *second])
    assert "".join(found.letter) == "AAATAAAA"
    np.testing.assert_allclose(found.coords[3], coords[3], atol=6e-4)
    assert found.alternates == 1
    assert not extract_domain(found, "A", "", "x").breaks.any()


def test_peptides_of_one_name_between_others(tmp_path):
    lines = [
        row
        for place in range(3)
        for chain in "AB"
        for row in chain_lines(helix(place % 2 + 1) + 20 * place + 7 * (chain == "B"), chain=chain)
    ]
    found = reading(tmp_path / "x.pdb", lines)
    assert [int((found.chain == name).sum()) for name in (b"A", b"B")] == [4, 4]


def test_atoms_behind_the_chain_complete_their_residue(tmp_path):
    lines = chain_lines(helix(6))
    found = reading(tmp_path / "x.pdb", [row for atom in range(5) for row in lines[atom:30:5]])
    np.testing.assert_allclose(found.coords, helix(6), atol=6e-4)


def test_one_number_for_all_has_its_reason(tmp_path):
    error = reason(tmp_path / "x.pdb", chain_lines(helix(6), ["ALA", "GLY", "SER"] * 2, numbers=[1] * 6))
    assert error.code == "not_a_structure"
    assert "residue 1: its atom N stands 6 times" in error.detail


def test_one_number_for_all_has_its_reason_beside_an_alternate(tmp_path):
    other = residue_lines(helix(6)[5], "GLY", number=1, altloc="B", occupancy=0.4)
    lines = [*chain_lines(helix(6), ["ALA", "GLY", "SER"] * 2, numbers=[1] * 6), *other]
    assert "residue 1: its atom N stands 6 times" in reason(tmp_path / "x.pdb", lines).detail


def test_two_types_of_one_number_are_alternates_where_they_share_the_place(tmp_path):
    coords = helix(6)
    lines = chain_lines(coords)
    pair = [residue_lines(coords[2], name, number=3, occupancy=share) for name, share in (("SER", 0.3), ("GLY", 0.7))]
    found = reading(tmp_path / "x.pdb", [*lines[:10], *pair[0], *pair[1], *lines[15:]])
    assert "".join(found.letter) == "AAGAAA"
    whole = [row[:54] + "  1.00" + row[60:] for row in (*pair[0], *pair[1])]
    assert "residue 3" in reason(tmp_path / "y.pdb", [*lines[:10], *whole, *lines[15:]]).detail


def test_hybrid_numbers(tmp_path):
    lines = [
        row[:22] + number + row[26:]
        for number in ("9999", "A000", "A001", "ZZZZ", "a000")
        for row in chain_lines(helix(1))[:5]
    ]
    assert reading(tmp_path / "x.pdb", lines).number.tolist() == [9999, 10000, 10001, 1223055, 1223056]


def test_a_number_that_is_none_is_told(tmp_path):
    lines = [row[:22] + " 1?3" + row[26:] for row in chain_lines(helix(1))[:5]]
    assert "1?3" in reason(tmp_path / "x.pdb", lines).detail


def test_ligands_and_ions_between_chains(tmp_path):
    """Hetero groups of all chains stand behind the chains; a modified residue among them goes to its own."""
    coords, other = helix(6), helix(6) + 50
    bonded = residue_lines(coords[5], "SEP", number=6, hetero=True)
    free = residue_lines(coords[0] + 30, "GLU", "B", number=99, hetero=True)
    calcium = line("CA", "CA", "A", 101, (40, 0, 0), hetero=True)
    lines = [*chain_lines(coords)[:25], *chain_lines(other, chain="B"), *bonded, calcium, *free]
    found = reading(tmp_path / "x.pdb", lines)
    assert [(found.chain == name).sum() for name in (b"A", b"B")] == [6, 6]
    assert found.ligands == 1
    np.testing.assert_allclose(found.coords[:6, CA], coords[:, CA], atol=6e-4)


def test_unusual_numbers_are_read_exactly(tmp_path):
    lines = chain_lines(helix(3))
    for index, text in enumerate(["  1.2345", "+1.5e+01", "-0.001  ", "      7.", "-999.999"]):
        lines[index] = lines[index][:30] + text + lines[index][38:]
    found = reading(tmp_path / "x.pdb", lines)
    assert found.coords[0, :, 0].tolist() == [1.2345, 15.0, -0.001, 7.0, -999.999]


def test_short_lines_have_full_occupancy(tmp_path):
    rows = [row[:54] for row in chain_lines(helix(6))]
    assert len(reading(tmp_path / "x.pdb", rows).number) == 6


def test_written_frames_of_other_lengths(tmp_path):
    path = write(tmp_path / "x.pdb", [*chain_lines(helix(9)), "END", *chain_lines(helix(7))])
    found = read_structure(path)
    assert [(found.model == number).sum() for number in found.models] == [9, 7]


@pytest.mark.parametrize("letter", ["B", "1"])
@pytest.mark.parametrize("numbers", [range(10, 13), range(1, 31)], ids=["some", "all"])
def test_one_conformer_alone_whatever_its_letter(tmp_path, letter, numbers):
    rows = [
        f"{row[:16]}{letter}{row[17:]}" if row.startswith("ATOM") and int(row[22:26]) in numbers else row
        for row in chain_lines(helix(30))
    ]
    found = extract_domain(read_structure(write(tmp_path / "x.pdb", rows)), "A", "", "x")
    np.testing.assert_allclose(found.coords[0], helix(30), atol=6e-4)


@pytest.mark.parametrize("serial", ["*****", "186a0", "     "])
def test_serial_numbers_count_for_nothing_and_residue_numbers_may_begin_again(tmp_path, serial):
    """As in files of more atoms and residues than their columns can count."""
    rows = [
        f"{row[:6]}{serial}{row[11:22]}{(int(row[22:26]) + 9985) % 10000:4d}{row[26:]}"
        if row.startswith("ATOM")
        else row
        for row in chain_lines(helix(30))
    ]
    found = extract_domain(read_structure(write(tmp_path / "x.pdb", rows)), "A", "", "x")
    assert (len(found), int(found.breaks.sum())) == (30, 0)
