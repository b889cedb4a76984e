import gzip
import time
from pathlib import Path

import gemmi
import numpy as np
import pytest
from synthetic import DATA, NAMES, biopython_chain, chain_lines, helix, line, residue_lines, write

from cvae_protein.core.errors import StructureError
from cvae_protein.core.structure import CA, CB, N
from cvae_protein.io.read import extract_domain, parse_range, read_structure

SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz", ".mmcif.gz")


def domain(path, chain="A", residue_range=""):
    return extract_domain(read_structure(path), chain, residue_range, "x")


def code_of(function, *arguments):
    with pytest.raises(StructureError) as caught:
        function(*arguments)
    return caught.value.code


def length_or_code(path):
    """What a caller gets of a damaged file: residues or a reason; any other exception fails the test."""
    try:
        return len(domain(path))
    except StructureError as error:
        return error.code


# --- ranges


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("5-100", [((5, ""), (100, ""))]),
        ("5-100,120-200", [((5, ""), (100, "")), ((120, ""), (200, ""))]),
        ("-5--1", [((-5, ""), (-1, ""))]),
        ("-5-103", [((-5, ""), (103, ""))]),
        ("52A-60B", [((52, "A"), (60, "B"))]),
        ("7", [((7, ""), (7, ""))]),
        ("-7A", [((-7, "A"), (-7, "A"))]),
        (" 1X-205 , 300-310", [((1, "X"), (205, "")), ((300, ""), (310, ""))]),
    ],
)
def test_range_is_read(text, expected):
    assert parse_range(text) == expected


@pytest.mark.parametrize(
    "text", ["100-5", "-1--5", "5-", "-", ",", "5-10,", "a-b", "5-10-20", "5AB-9", "1-1e9", "٣-٥", "5;10", "9" * 40]
)
def test_unreadable_range(text):
    assert code_of(parse_range, text) == "bad_range"


# --- numbering


def renumbered(folder):
    """1UBI twice: with author numbers that are positions in SEQRES, and as an entry of the archive may be numbered.

    There they begin at -3, leave out what an alignment leaves out, have insertion codes and fall; a residue is missing.
    """
    paths = []
    for name in ("positions", "archive"):
        structure = gemmi.read_structure(str(DATA / "1ubi.cif.gz"))
        chain = structure[0]["A"]
        del chain[29]
        for place, residue in enumerate(chain[:75] if name == "archive" else ()):
            number = place - 3 if place < 40 else 100 if place < 44 else place - 130
            residue.seqid = gemmi.SeqId(number, "ABCD"[place - 40] if 40 <= place < 44 else " ")
        path = folder / f"{name}.cif"
        structure.make_mmcif_document().write_file(str(path))
        paths.append(path)
    return paths


@pytest.mark.parametrize("residue_range", ["1-76", "20-50", "41-44,60-70", "35"])
def test_a_range_of_positions_cuts_every_numbering_alike(tmp_path, residue_range):
    """What a table counts by SEQRES is the same CA of a file of the archive, whose author numbers are other ones."""
    plain, archive = (read_structure(path) for path in renumbered(tmp_path))
    expected = extract_domain(plain, "A", residue_range, "x")
    found = extract_domain(archive, "A", residue_range, "x", "label")
    assert found.sequence == expected.sequence
    np.testing.assert_array_equal(found.ca, expected.ca)
    assert found.residue_ids != expected.residue_ids
    try:
        wrong = extract_domain(archive, "A", residue_range, "x").sequence
    except StructureError:
        wrong = ""
    assert wrong != expected.sequence


def test_both_readers_know_the_same_positions(tmp_path, monkeypatch):
    path = renumbered(tmp_path)[1]
    fast = extract_domain(read_structure(path), "A", "20-50", "x", "label")
    monkeypatch.setattr("cvae_protein.io.read.read_columns", lambda data: None)
    slow = extract_domain(read_structure(path), "A", "20-50", "x", "label")
    assert fast.sequence == slow.sequence
    assert len(fast) == 30  # 31 less the one that is not observed
    np.testing.assert_array_equal(fast.coords, slow.coords)


def test_positions_are_numbers_from_1_on_of_files_that_have_them(tmp_path):
    assert code_of(parse_range, "5A-9", "label") == code_of(parse_range, "0-9", "label") == "bad_range"
    assert code_of(parse_range, "5-9", "seqres") == "bad_range"
    pdb = read_structure(write(tmp_path / "x.pdb", chain_lines(helix(20))))
    with pytest.raises(StructureError, match=r"no label_seq_id, .* it needs mmCIF or BinaryCIF"):
        extract_domain(pdb, "A", "5-9", "x", "label")
    assert len(extract_domain(pdb, "A", "", "x", "label")) == 20


# --- formats


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_backbone(tmp_path, suffix):
    coords = helix(20)
    path = write(tmp_path / f"x{suffix}", chain_lines(coords, ["MET", "GLY"] * 10))
    found = domain(path)
    assert found.sequence == "MG" * 10
    assert found.residue_ids == tuple(str(n) for n in range(1, 21))
    expected = np.where(np.arange(20)[:, None, None] % 2 * (np.arange(5) == CB)[None, :, None], np.nan, coords)
    np.testing.assert_allclose(found.coords[0], expected, atol=6e-4)
    assert not found.breaks.any()


@pytest.mark.parametrize("written", [".pdb", ".cif", ".cif.gz"])
@pytest.mark.parametrize("named", ["x.pdb", "x.cif", "x.cif.gz", "x"])
def test_content_is_believed_not_the_suffix(tmp_path, written, named):
    path = write(tmp_path / f"y{written}", chain_lines(helix(6)))
    path = path.rename(tmp_path / named)
    assert len(domain(path)) == 6


EMBEDDED = sorted((Path(__file__).parents[3] / "data" / "embedded").glob("*/*.cif.gz"))[:40:4]


@pytest.mark.parametrize("path", [DATA / "1ubi.cif.gz", *EMBEDDED], ids=lambda path: path.name)
def test_real_entry_agrees_with_biopython(tmp_path, path):
    structure = read_structure(path)
    for name in structure.chains[:2]:
        found = extract_domain(structure, name, "", "x").model(0)
        compared = 0
        for residue in biopython_chain(path, tmp_path, name):
            number = f"{residue.id[1]}{residue.id[2].strip()}"
            if residue.is_disordered() or "CA" not in residue or number not in found.residue_ids:
                continue  # Biopython picks atom by atom where there are alternatives, we one conformer
            index = found.residue_ids.index(number)
            expected = [residue[a].coord if a in residue else [np.nan] * 3 for a in NAMES]
            np.testing.assert_array_equal(found.coords[0, index], np.array(expected, np.float32))
            compared += 1
        assert compared >= 0.7 * len(found)


def test_mixed_types_of_a_real_entry():
    found = domain(DATA / "1ejg.cif.gz")
    assert found.sequence == "TTCCPSIVARSNFNVCRLPGTPEALCATYTGCIIIPGATCPGDYAN"
    assert found.complete.all()
    assert not found.breaks.any()


# --- what cannot be read


BAD = {
    "empty": (b"", "empty_file"),
    "blank": (b" \n \n", "empty_file"),
    "empty gzip": (gzip.compress(b""), "empty_file"),
    "html": (b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n", "not_a_structure"),
    "text": (b"no such entry\n", "not_a_structure"),
    "random": (np.random.default_rng(0).bytes(5000), "not_a_structure"),
    "random in gzip": (gzip.compress(np.random.default_rng(1).bytes(5000)), "not_a_structure"),
    "damaged gzip": (b"\x1f\x8b\x08\x00" + b"\xff" * 100, "not_a_structure"),
    "gzip magic only": (b"\x1f\x8b", "truncated"),
    "cif without atoms": (b"data_x\n_entry.id x\n", "not_a_structure"),
    "cif syntax": (b"data_x\nhello world\n", "not_a_structure"),
    "bad numbers": (b"HEADER    X\nATOM      1  CA  ALA A   1      abc     def     ghi\nEND\n", "not_a_structure"),
    "header only": (b"HEADER    HYDROLASE\nREMARK   2\nEND\n", "not_a_structure"),
    "cut line": (b"HEADER    X\nATOM      1  CA  ALA A   1      11.104   6.1", "truncated"),
    "json": (b'{"data_x": {"_atom_site": {}}}', "not_a_structure"),
    "latin-1": ("REMARK å\nHEADER\n".encode("latin-1"), "not_a_structure"),
}


@pytest.mark.parametrize("name", BAD)
def test_unreadable_file_has_its_code(tmp_path, name):
    content, code = BAD[name]
    path = tmp_path / "x.cif"
    path.write_bytes(content)
    assert code_of(read_structure, path) == code


def test_missing_file_and_folder(tmp_path):
    assert code_of(read_structure, tmp_path / "absent.cif") == "not_found"
    assert code_of(read_structure, tmp_path) == "not_found"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_truncated_gzip(tmp_path, share):
    content = (DATA / "1ubi.cif.gz").read_bytes()
    path = tmp_path / "x.cif.gz"
    path.write_bytes(content[: int(len(content) * share)])
    assert code_of(read_structure, path) == "truncated"


def test_truncated_cif(tmp_path):
    content = gzip.decompress((DATA / "1ubi.cif.gz").read_bytes())
    path = tmp_path / "x.cif"
    path.write_bytes(content[: content.rfind(b" ", 0, len(content) * 2 // 3)])
    assert code_of(read_structure, path) == "truncated"


@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_never_raise_anything_else(tmp_path, seed):
    generator = np.random.default_rng(seed)
    path = write(tmp_path / ("x.pdb" if seed % 2 else "x.cif"), chain_lines(helix(20)))
    content = bytearray(path.read_bytes())
    for place in generator.integers(0, len(content), 40):
        content[place] = int(generator.integers(1, 256))
    path.write_bytes(bytes(content))
    assert isinstance(length_or_code(path), int | str)


def test_dna_only_has_no_protein(tmp_path):
    path = write(tmp_path / "x.pdb", [line("P", name, "A", i, (i, 0, 0)) for i, name in enumerate(("DA", "DC", "DG"))])
    assert code_of(read_structure, path) == "no_protein"


def test_chain_without_protein_and_absent_chain(tmp_path):
    dna = [line("P", name, "B", i, (i, 0, 50)) for i, name in enumerate(("DA", "DC", "DG"))]
    path = write(tmp_path / "x.pdb", [*chain_lines(helix(6)), *dna, "TER"])
    assert code_of(domain, path, "B") == "no_protein"
    assert code_of(domain, path, "C") == "chain_not_found"


# --- chains


def two_names(tmp_path):
    structure = gemmi.read_pdb_string("\n".join(chain_lines(helix(5), chain="H") + chain_lines(helix(7), chain="L")))
    structure.setup_entities()
    for chain, label in zip(structure[0], "LZ", strict=True):
        for residue in chain:
            residue.subchain = label
    path = tmp_path / "x.cif"
    structure.make_mmcif_document().write_file(str(path))
    return path


def test_author_chain_comes_before_label_chain(tmp_path):
    path = two_names(tmp_path)
    assert len(domain(path, "H")) == 5
    assert len(domain(path, "L")) == 7  # H has the label L, but an author chain L exists
    assert len(domain(path, "Z")) == 7


@pytest.mark.parametrize("name", ["", "0", "_"])
def test_unnamed_chain_is_the_only_one(tmp_path, name):
    assert len(domain(write(tmp_path / "x.pdb", chain_lines(helix(5), chain="B")), name)) == 5
    both = write(tmp_path / "y.pdb", chain_lines(helix(5)) + chain_lines(helix(5) + 50, chain="B"))
    assert code_of(domain, both, name) == "chain_not_found"


# --- residues


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_waters_and_ligands_of_the_chain_are_left_out(tmp_path, suffix):
    free = residue_lines(helix(1)[0] + 40, "GLU", number=90, hetero=True)  # a free amino acid is a ligand
    water = [line("O", "HOH", "A", 101, (30, 0, 0), hetero=True), line("CA", "CA", "A", 102, (35, 0, 0), hetero=True)]
    found = domain(write(tmp_path / f"x{suffix}", [*chain_lines(helix(8)), *free, *water]))
    assert found.sequence == "A" * 8


@pytest.mark.parametrize(("name", "letter"), [("MSE", "M"), ("SEP", "S"), ("UNK", "X"), ("ZZ9", "X"), ("SEC", "X")])
def test_modified_residues_stay(tmp_path, name, letter):
    coords = helix(8)
    lines = chain_lines(coords)
    lines[15:20] = residue_lines(coords[3], name, number=4, hetero=True)
    found = domain(write(tmp_path / "x.pdb", lines))
    assert found.sequence == f"AAA{letter}AAAA"
    assert not found.breaks.any()


def without_entities(path):
    """The same mmCIF file with its atoms only, as many programs write it."""
    block = gemmi.cif.read(str(path))[0]
    for category in block.get_mmcif_category_names():
        if category != "_atom_site.":
            block.find_mmcif_category(category).erase()
    document = gemmi.cif.Document()
    document.add_copied_block(block)
    document.write_file(str(path))
    return path


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_chain_and_ligand_where_the_file_does_not_tell(tmp_path, suffix):
    """A HETATM residue inside the chain or bonded to its end belongs to it, a free one does not."""
    coords = helix(8)
    lines = chain_lines(coords)[:-1]  # no TER
    lines[15:20] = residue_lines(coords[3], "ALA", number=4, hetero=True)
    lines[35:40] = residue_lines(coords[7], "SEP", number=8, hetero=True)
    free = residue_lines(helix(1)[0] + 40, "GLU", number=90, hetero=True)
    path = write(tmp_path / f"x{suffix}", [*lines, *free, line("O", "HOH", "A", 101, (30, 0, 0), hetero=True)])
    if suffix == ".cif":
        without_entities(path)
    assert domain(path).sequence == "AAAAAAAS"


def test_a_chain_goes_on_behind_ter(tmp_path):
    lines = chain_lines(helix(8))
    path = write(tmp_path / "x.pdb", [*lines[:20], "TER", *lines[20:]])
    assert len(domain(path)) == 8


def test_missing_atoms_are_nan(tmp_path):
    coords = helix(8)
    lines = [row for row in chain_lines(coords) if not (" CA " in row and "A   3" in row)]
    found = domain(write(tmp_path / "x.pdb", lines))
    assert np.isnan(found.coords[0, 2, CA]).all()
    assert np.isnan(found.coords).sum() == 3
    assert found.complete.tolist() == [i != 2 for i in range(8)]


def test_repeated_atom_counts_once(tmp_path):
    lines = chain_lines(helix(4))
    found = domain(write(tmp_path / "x.pdb", [*lines[:2], line("CA", "ALA", "A", 1, (9, 9, 9)), *lines[2:]]))
    np.testing.assert_allclose(found.coords[0, 0, CA], helix(4)[0, CA], atol=6e-4)


def test_insertion_codes_and_negative_numbers(tmp_path):
    path = write(
        tmp_path / "x.pdb",
        chain_lines(helix(7), numbers=[-2, -1, 52, 52, 52, 53, 54], insertions=["", "", "", "A", "B", "", ""]),
    )
    assert domain(path).residue_ids == ("-2", "-1", "52", "52A", "52B", "53", "54")
    assert domain(path, residue_range="-2--1").residue_ids == ("-2", "-1")
    assert domain(path, residue_range="52A-53").residue_ids == ("52A", "52B", "53")
    assert domain(path, residue_range="-1-52").residue_ids == ("-1", "52")
    assert domain(path, residue_range="52B").residue_ids == ("52B",)


def test_insertions_before_their_number(tmp_path):
    path = write(tmp_path / "x.pdb", chain_lines(helix(4), numbers=[1, 1, 1, 2], insertions=["B", "A", "", ""]))
    assert domain(path, residue_range="1B-2").residue_ids == ("1B", "1A", "1", "2")


def test_discontinuous_domain_keeps_its_order(tmp_path):
    path = write(tmp_path / "x.pdb", chain_lines(helix(20)))
    found = domain(path, residue_range="2-4,10-12")
    assert found.residue_ids == ("2", "3", "4", "10", "11", "12")
    assert found.breaks.tolist() == [False, False, True, False, False]
    assert domain(path, residue_range="10-12,2-4").residue_ids == ("10", "11", "12", "2", "3", "4")
    assert code_of(domain, path, "A", "2-6,5-9") == "bad_range"


def test_unobserved_ends(tmp_path):
    path = write(tmp_path / "x.pdb", chain_lines(helix(6), numbers=[3, 4, 5, 8, 9, 10]))
    assert domain(path, residue_range="1-4").residue_ids == ("3", "4")
    assert domain(path, residue_range="6-12").residue_ids == ("8", "9", "10")
    assert domain(path, residue_range="4A-9").residue_ids == ("5", "8", "9")
    assert code_of(domain, path, "A", "20-30") == "range_not_found"
    assert code_of(domain, path, "A", "6-7") == "range_not_found"


def test_unobserved_end_where_numbers_fall(tmp_path):
    path = write(tmp_path / "x.pdb", chain_lines(helix(6), numbers=[5, 6, 7, 1, 2, 3]))
    assert domain(path, residue_range="6-7").residue_ids == ("6", "7")
    assert code_of(domain, path, "A", "1-4") == "range_not_found"
    assert code_of(domain, path, "A", "2-6") == "range_not_found"  # 6 stands before 2


# --- alternative locations and types


def with_alternatives(coords, second, occupancies, residue=("ALA", "ALA"), index=3):
    """A helix whose residue `index` is given twice, as A at `coords` and as B at `second`."""
    lines = chain_lines(coords)
    pair = [
        residue_lines(place, name, number=index + 1, altloc=letter, occupancy=share)
        for place, name, letter, share in zip((coords[index], second), residue, "AB", occupancies, strict=True)
    ]
    mixed = (
        [row for rows in zip(*pair, strict=False) for row in rows] if residue[0] == residue[1] else pair[0] + pair[1]
    )
    return lines[: 5 * index] + mixed + lines[5 * index + 5 :]


@pytest.mark.parametrize(
    ("occupancies", "chosen"), [((0.7, 0.3), "first"), ((0.3, 0.7), "second"), ((0.5, 0.5), "first")]
)
@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_one_conformer_of_a_residue(tmp_path, occupancies, chosen, suffix):
    coords = helix(8)
    second = coords[3] + 0.4
    found = domain(write(tmp_path / f"x{suffix}", with_alternatives(coords, second, occupancies)))
    np.testing.assert_allclose(found.coords[0, 3], coords[3] if chosen == "first" else second, atol=6e-4)
    np.testing.assert_allclose(found.coords[0, 4], coords[4], atol=6e-4)


def test_conformers_are_not_mixed_atom_by_atom(tmp_path):
    coords = helix(8)
    lines = chain_lines(coords)
    shares = {"A": [0.9, 0.3, 0.3, 0.3, 0.3], "B": [0.1, 0.7, 0.7, 0.7, 0.7]}
    rows = [
        line(name, "ALA", "A", 4, coords[3, atom] + (letter == "B"), altloc=letter, occupancy=shares[letter][atom])
        for letter in "AB"
        for atom, name in enumerate(NAMES)
    ]
    found = domain(write(tmp_path / "x.pdb", lines[:15] + rows + lines[20:]))
    np.testing.assert_allclose(found.coords[0, 3], coords[3] + 1, atol=6e-4)  # N is of B too, though A has more of it
    assert found.coords[0, 3, N, 0] == pytest.approx(coords[3, N, 0] + 1, abs=6e-4)


@pytest.mark.parametrize(("occupancies", "sequence"), [((0.6, 0.4), "AAASAAAA"), ((0.4, 0.6), "AAAGAAAA")])
@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_of_mixed_types_the_most_occupied(tmp_path, occupancies, sequence, suffix):
    coords = helix(8)
    lines = with_alternatives(coords, coords[3] + 0.3, occupancies, ("SER", "GLY"))
    found = domain(write(tmp_path / f"x{suffix}", lines))
    assert found.sequence == sequence
    np.testing.assert_allclose(found.coords[0, 3, :4], coords[3, :4] + 0.3 * ("G" in sequence), atol=6e-4)
    assert np.isnan(found.coords[0, 3, CB]).all() == ("G" in sequence)


# --- models


def models(*chains):
    return [row for number, lines in enumerate(chains, 1) for row in (f"MODEL     {number:>4}", *lines, "ENDMDL")]


@pytest.mark.parametrize("suffix", [".pdb", ".cif.gz"])
def test_models_become_conformations(tmp_path, suffix):
    sets = [helix(9), helix(9, phi=-60), helix(9, phi=-65)]
    found = domain(write(tmp_path / f"x{suffix}", models(*map(chain_lines, sets))), residue_range="2-8")
    assert found.coords.shape == (3, 7, 5, 3)
    for index, coords in enumerate(sets):
        np.testing.assert_allclose(found.coords[index], coords[1:8], atol=6e-4)


def test_models_with_other_residues_are_left_out(tmp_path):
    chains = [
        chain_lines(helix(9)),
        chain_lines(helix(8)),
        chain_lines(helix(9), ["SER"] * 9),
        chain_lines(helix(9), chain="B"),
        chain_lines(helix(9, phi=-65)),
    ]
    structure = read_structure(write(tmp_path / "x.pdb", models(*chains)))
    found = extract_domain(structure, "A", "", "x")
    assert (found.models, len(structure.models)) == (2, 5)
    np.testing.assert_allclose(found.coords[1], helix(9, phi=-65), atol=6e-4)
    assert extract_domain(structure, "A", "2-8", "x").models == 3  # the shorter one has these residues


def test_resolution_and_method(tmp_path):
    head = ["EXPDTA    X-RAY DIFFRACTION", "REMARK   2 RESOLUTION.    1.80 ANGSTROMS."]
    structure = read_structure(write(tmp_path / "x.pdb", head + chain_lines(helix(5))))
    assert (structure.resolution, structure.method) == (pytest.approx(1.8), "X-ray")
    unknown = read_structure(write(tmp_path / "y.pdb", chain_lines(helix(5))))
    assert np.isnan(unknown.resolution)
    assert unknown.method == ""


@pytest.mark.parametrize("head", ["\n" * 200_000, "# a\n" * 100_000, " \n#\n" * 100_000])
def test_a_long_head_takes_no_time(tmp_path, head):
    """A pattern that looks for the first block went back over all ways to read the lines before it."""
    path = tmp_path / "x.pdb"
    path.write_text(head + "\n".join(chain_lines(helix(12))) + "\n")
    start = time.process_time()
    assert len(extract_domain(read_structure(path), "A", "", "x")) == 12
    assert time.process_time() - start < 5
