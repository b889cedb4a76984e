"""Input that somebody's table or folder may hold: a reason code or a clear line for it, and nothing else lost."""

import numpy as np
import pytest
from synthetic import chain_lines, helix, line, residue_lines, write

from cvae_protein.dataset.parse import extract_domain, read_structure
from cvae_protein.errors import StructureError


def refusal(function, *arguments):
    """The error that a call ends with."""
    with pytest.raises(StructureError) as caught:
        function(*arguments)
    return caught.value


# --- files that look like the PDB format


def shifted(rows):
    """Atom lines as PQR and many scripts write them: separated by blanks, in no columns."""
    return [" ".join(row.split()) if row.startswith("ATOM") else row for row in rows]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (shifted, "4"),
        (lambda rows: [row.replace("ATOM  ", "ATOM   ") for row in rows], "-"),
        (lambda rows: [row[:30] + "********" + row[38:] if " CA " in row else row for row in rows], "********"),
        (lambda rows: [row[:30] + " " * 8 + row[38:] if " CA " in row else row for row in rows], "        "),
    ],
    ids=["no columns", "one to the right", "stars", "blank"],
)
def test_atom_line_outside_its_columns_is_never_read_as_numbers(tmp_path, change, found):
    rows = chain_lines(helix(30) - 100.5)
    path = write(tmp_path / "x.pdb", ["HEADER    X", *change(rows)])
    error = refusal(read_structure, path)
    assert error.code == "not_a_structure"
    assert "columns 31-54" in error.detail
    assert "line " in error.detail
    assert found in error.detail


@pytest.mark.parametrize("form", ["{:8.2f}", "{:8.4f}", "{:<8.3f}", "{:8.0f}", "{:8.1e}"])
def test_numbers_of_another_form_stay_readable_in_their_columns(tmp_path, form):
    coords = np.round(helix(12) % 50)
    rows = [
        row[:30] + "".join(form.format(float(row[at : at + 8])) for at in (30, 38, 46)) + row[54:]
        if row.startswith("ATOM")
        else row
        for row in chain_lines(coords)
    ]
    found = extract_domain(read_structure(write(tmp_path / "x.pdb", rows)), "A", "", "x")
    np.testing.assert_allclose(found.coords[0], coords, atol=3)


def test_line_numbers_of_old_files_are_no_charges(tmp_path):
    """Until 1996 columns 73 to 80 held the entry and the number of the line."""
    rows = [
        f"{row[:66]:<72}1BGS{n:4d}" if row.startswith("ATOM") else row
        for n, row in enumerate(chain_lines(helix(30)), 121)
    ]
    found = extract_domain(read_structure(write(tmp_path / "x.pdb", rows)), "A", "", "x")
    assert len(found) == 30
    assert found.complete.all()


# --- chains and ranges


def two_molecules():
    """A homodimer as programs write it that know no chains: one name, the numbers begin again."""
    first, second = chain_lines(helix(30)), chain_lines(helix(40) + 60)
    return {"TER": [*first, *second], "no TER": [*first[:-1], *second]}


@pytest.mark.parametrize("between", ["TER", "no TER"])
@pytest.mark.parametrize("models", [1, 2])
def test_two_molecules_of_one_name(tmp_path, between, models):
    """Their residues stay apart; a range that both have is refused, since it would be a mixture or a guess."""
    rows = two_molecules()[between]
    path = write(tmp_path / "x.pdb", [row for n in range(models) for row in (f"MODEL {n + 1:8d}", *rows, "ENDMDL")])
    structure = read_structure(path)
    whole = extract_domain(structure, "A", "", "x")
    assert (whole.models, len(whole), int(whole.breaks.sum())) == (models, 70, 1)
    np.testing.assert_allclose(whole.coords[-1], np.concatenate([helix(30), helix(40) + 60]), atol=6e-4)
    assert len(extract_domain(structure, "A", "31-40", "x")) == 10
    error = refusal(extract_domain, structure, "A", "5-20", "x")
    assert error.code == "bad_range"
    assert "residue 5 stands 2 times" in error.detail


def test_hydrogens_behind_the_chain_are_no_second_molecule(tmp_path):
    hydrogens = [line("H", "ALA", "A", number, (number, 50, 50)) for number in range(1, 31)]
    found = extract_domain(
        read_structure(write(tmp_path / "x.pdb", [*chain_lines(helix(30))[:-1], *hydrogens])), "A", "", "x"
    )
    assert len(found) == 30


def test_amino_acids_that_are_all_ligands(tmp_path):
    """Such a file had neither a stored chain nor a rejected one."""
    rows = [row for at in range(3) for row in residue_lines(helix(1)[0] + 30 * at, number=at + 1, hetero=True)]
    assert refusal(read_structure, write(tmp_path / "x.pdb", rows)).code == "no_protein"
