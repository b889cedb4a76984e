"""Files of public reports about other programs, each built small; docs/real-world-files.md lists them."""

import numpy as np
import pytest
from synthetic import chain_lines, helix, line, residue_lines, write

from cvae_protein.core.errors import StructureError
from cvae_protein.io.read import extract_domain, read_structure

HELIX = helix(20)


def read(tmp_path, lines, chain="A", residue_range="", name="x.pdb"):
    return extract_domain(read_structure(write(tmp_path / name, lines)), chain, residue_range, "x")


@pytest.mark.parametrize("name", ["x.pdb", "x.cif"])
def test_numbers_with_and_without_insertion_codes_in_two_stretches(tmp_path, name):
    """molstar/molstar#1730: 7A to 16A stand before 4 to 13; sorted by number they would interleave."""
    numbers = [*range(7, 17), *range(4, 14)]
    lines = chain_lines(HELIX, numbers=numbers, insertions=["A"] * 10 + [""] * 10)
    found = read(tmp_path, lines, name=name)
    assert found.residue_ids == (*(f"{n}A" for n in range(7, 17)), *map(str, range(4, 14)))
    assert not found.breaks.any()
    assert read(tmp_path, lines, residue_range="15A-5", name=name).residue_ids == ("15A", "16A", "4", "5")


def test_a_number_whose_last_digit_stands_in_the_column_of_insertion_codes(tmp_path):
    """prody/ProDy#1388: `-1782` takes columns 23 to 27; the residues stay apart, in the file's order."""
    lines = [
        text for n, c in enumerate(HELIX) for text in residue_lines(c, number=-178 + n // 10, insertion=str(n % 10))
    ]
    found = read(tmp_path, lines)
    assert (len(found), len(set(found.residue_ids)), found.breaks.any()) == (20, 20, False)


def test_remarks_between_chains(tmp_path):
    """prody/ProDy#1708: the second chain, behind a REMARK, was lost."""
    far = np.add(HELIX, [50, 0, 0])
    lines = ["REMARK selection A", *chain_lines(HELIX)[:-1], "REMARK selection B", *chain_lines(far, chain="B")[:-1]]
    assert read_structure(write(tmp_path / "x.pdb", lines)).chains == ["A", "B"]
    np.testing.assert_allclose(read(tmp_path, lines, "B").coords[0], far, atol=6e-4)


def test_atoms_of_a_residue_that_stand_at_the_end_of_the_file(tmp_path):
    """mdtraj/mdtraj#1129: 39 residues were read as 78, since some atoms stood behind all residues."""
    lines = chain_lines(HELIX)[:-1]
    apart = [text for text in lines if text[12:16].strip() in ("O", "CB")]
    found = read(tmp_path, [*(text for text in lines if text not in apart), *apart])
    assert len(found) == 20
    np.testing.assert_allclose(found.coords[0], HELIX, atol=6e-4)


def test_caps_and_ter_in_the_middle_of_a_chain(tmp_path):
    """openmm/openmm#2087: a loop that is not there is capped by NME and ACE, with TER between, in one chain."""
    lines = [text for n, c in enumerate(HELIX[:10]) for text in residue_lines(c, number=951 + n)]
    lines += [line("N", "NME", "A", 960, (20, 20, 20), insertion="A", hetero=True), "TER"]
    lines += [line("C", "ACE", "A", 966, (30, 20, 20), insertion="A", hetero=True)]
    lines += [line("CA", "ACE", "A", 966, (31, 20, 20), insertion="A", hetero=True)]
    lines += [text for n, c in enumerate(HELIX[10:]) for text in residue_lines(np.add(c, [40, 0, 0]), number=967 + n)]
    found = read(tmp_path, lines)
    assert (len(found), int(found.breaks.sum()), found.residue_ids[10]) == (20, 1, "967")


@pytest.mark.parametrize("name", ["x.pdb", "x.cif"])
def test_models_whose_numbers_begin_late(tmp_path, name):
    """biotite-dev/biotite#227: a file has the models 21 and 22; by number or by order, there are two."""
    models = [
        ["MODEL       21"],
        chain_lines(HELIX),
        ["ENDMDL", "MODEL       22"],
        chain_lines(helix(20, -60)),
        ["ENDMDL"],
    ]
    found = read(tmp_path, [text for part in models for text in part], name=name)
    assert found.models == 2
    np.testing.assert_allclose(found.coords[1], helix(20, -60), atol=6e-4)


def test_a_unit_cell_that_is_none(tmp_path):
    """biotite-dev/biotite#522: a CRYST1 record of words stopped the reading."""
    assert len(read(tmp_path, ["CRYST1   not determined", *chain_lines(HELIX)])) == 20


@pytest.mark.parametrize("name", ["x.pdb", "x.cif"])
def test_one_name_and_number_and_two_insertion_codes(tmp_path, name):
    """lightdock/lightdock#38, biopython/biopython#481: SER 100 and SER 100A are two residues."""
    numbers, insertions = [*range(91, 101), 100, 100, *range(101, 109)], [""] * 10 + ["A", "B"] + [""] * 8
    found = read(tmp_path, chain_lines(HELIX, ["SER"] * 20, numbers=numbers, insertions=insertions), name=name)
    assert found.sequence == "S" * 20
    assert found.residue_ids[9:12] == ("100", "100A", "100B")


def test_chains_without_names_apart_by_ter(tmp_path):
    """haddocking/pdb-tools#70: chains that TER alone parts are read whole, with a break between them."""
    lines = [*chain_lines(HELIX, chain=" "), *chain_lines(np.add(HELIX, [50, 0, 0]), chain=" ", numbers=range(21, 41))]
    found = read(tmp_path, lines, "")
    assert (len(found), int(found.breaks.sum())) == (40, 1)


@pytest.mark.parametrize("name", ["x.pdb", "x.cif"])
def test_negative_numbers_are_numbers(tmp_path, name):
    """biotite-dev/biotite#406: residues of number -1 were taken for what has no number."""
    found = read(tmp_path, chain_lines(HELIX, numbers=range(-10, 10)), residue_range="-1-3", name=name)
    assert found.residue_ids == ("-1", "0", "1", "2", "3")


def test_a_residue_that_is_not_there_is_named(tmp_path):
    """RosettaCommons/RFdiffusion#355: a range over a gap takes what is there, one within it is told."""
    lines = chain_lines(HELIX, numbers=[*range(378, 388), *range(391, 401)])
    assert len(read(tmp_path, lines, residue_range="380-395")) == 13
    with pytest.raises(StructureError, match="no residues 388 to 390 among 20"):
        read(tmp_path, lines, residue_range="388-390")


@pytest.mark.parametrize("separator", ["END", "TER"])
def test_ligands_behind_a_chain(tmp_path, separator):
    """RosettaCommons/RFdiffusion#353: ligands of the chain's name behind it are no residues of it, and lose none."""
    ligand = [
        line("P", "IMP", "A", 601, (30, 30, 30), hetero=True),
        line("C", "IMP", "A", 601, (31, 30, 30), hetero=True),
    ]
    found = read(tmp_path, [*chain_lines(HELIX)[:-1], separator, *ligand])
    assert len(found) == 20


def test_cross_references_of_a_residue_that_one_model_lacks(tmp_path):
    """project-gemmi/gemmi#435: `_pdbx_sifts_xref_db` has residues as observed that are not in every model."""
    whole, other = chain_lines(HELIX), chain_lines(helix(20, -60))
    lines = ["MODEL        1", *whole, "ENDMDL", "MODEL        2", *other[:20], *other[25:], "ENDMDL"]
    path = write(tmp_path / "x.cif", lines)
    tags = ("entity_id", "asym_id", "seq_id_ordinal", "seq_id", "mon_id", "mon_id_one_letter_code", "unp_res")
    tags += ("unp_num", "unp_acc", "unp_segment_id", "unp_instance_id", "res_type", "observed", "mh_id", "xref_db_name")
    rows = [f"1 Axp 1 {n} ALA A A {n} P0CG48 1 1 . y . ." for n in range(1, 21)]
    table = ["loop_", *(f"_pdbx_sifts_xref_db.{tag}" for tag in tags), *rows, "#", ""]
    path.write_text(path.read_text() + "\n".join(table))
    found = read_structure(path)
    assert [int((found.model == number).sum()) for number in (1, 2)] == [20, 19]


@pytest.mark.parametrize("name", ["x.pdb", "x.cif"])
def test_every_residue_listed_twice(tmp_path, name):
    """mdtraj/mdtraj#658: all residues stand there again with their hydrogens, and were counted twice."""
    lines = chain_lines(HELIX)[:-1]
    again = [line("H", "ALA", "A", n + 1, c[0] + 0.9) for n, c in enumerate(HELIX)]
    assert len(read(tmp_path, [*lines, *again], name=name)) == 20


def test_one_atom_a_residue_and_two_of_one_number(tmp_path):
    """mdtraj/mdtraj#1912: of 189 CA 188 were read, since two residues that follow each other have one number."""
    numbers = [*range(1, 11), 10, *range(11, 20)]
    types = ["ALA"] * 10 + ["SER"] + ["ALA"] * 9
    lines = chain_lines(HELIX, types, numbers=numbers, atoms=("CA",))
    with pytest.raises(StructureError, match="residue 10: its atom CA stands 2 times"):
        read(tmp_path, lines)


def test_names_of_a_chain_by_authors_and_by_label_that_cross(tmp_path):
    """project-gemmi/gemmi#353: the label of one chain is the author's name of another one, with other residues."""
    path = write(tmp_path / "x.cif", chain_lines(HELIX, chain="H") + chain_lines(HELIX[:15] + 50, chain="B"))
    path.write_text(path.read_text().replace(" Hxp ", " B ").replace(" Bxp ", " D "))
    assert len(extract_domain(read_structure(path), "B", "", "x")) == 15
    assert len(extract_domain(read_structure(path), "D", "", "x")) == 15


def test_one_chain_of_a_single_residue(tmp_path):
    """prody/ProDy#1578, nglviewer/ngl#606: chains of three letters, and one that is a single residue."""
    path = write(tmp_path / "x.cif", chain_lines(HELIX) + chain_lines(HELIX[:1] + 50, chain="B"))
    path.write_text(path.read_text().replace(" A 1\n", " AAA 1\n"))
    found = read_structure(path)
    assert found.chains == ["AAA", "B"]
    assert len(extract_domain(found, "AAA", "", "x")) == 20
