"""Input that somebody's table or folder may hold: a reason code or a clear line for it, and nothing else lost."""

import shutil
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from synthetic import DATA, chain_lines, helix, line, residue_lines, write

from cvae_protein.cli.dataset import merge
from cvae_protein.config.settings import FeaturizeSettings, FetchSettings, LabelSettings
from cvae_protein.core.errors import StructureError, UserError
from cvae_protein.core.files import read_table
from cvae_protein.dataset.featurize import featurize, featurize_folder
from cvae_protein.dataset.fetch.fetch import fetch_entries
from cvae_protein.dataset.select import select_domains
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.store.read import Store


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


def test_displacements_of_atoms_that_are_not_there(tmp_path):
    """As where somebody took the ligand out and left its ANISOU lines."""
    rows = [*chain_lines(helix(30)), "ANISOU    1 FE   HEM A 142     1610   2162   1592   -304     14    114      FE"]
    assert len(extract_domain(read_structure(write(tmp_path / "x.pdb", rows)), "A", "", "x")) == 30


def test_coarse_grained_protein_is_told_by_its_atoms(tmp_path):
    rows = [line("BB", "ALA", "A", number, (3.8 * number, 0, 0)) for number in range(1, 31)]
    error = refusal(read_structure, write(tmp_path / "x.pdb", rows))
    assert (error.code, "no amino acid with a backbone atom" in error.detail) == ("no_protein", True)


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


# --- the whole path: one table with good domains and what else people write


COLUMNS = ("domain_id", "pdb_id", "chain", "residue_range", "cath")
GOOD = [("good1", "1abc", "A", "", "1.10.8.10"), ("good2", "2abc", "A", "2-29", "1.10.8.10")]
SETTINGS = LabelSettings(classes=("1",), min_length=20, max_length=100, min_members=1)
CODE = "1.10.8.10"


def text_of(rows):
    return "\n".join("\t".join(row) for row in rows) + "\n"


def through_the_path(folder, mirror, table, settings=SETTINGS):
    """Ids in the merged store, and reason and detail by id of the merged table of rejections, of a table's text."""
    (folder / "table.tsv").write_bytes(table if isinstance(table, bytes) else table.encode())
    settings = replace(settings, table=str(folder / "table.tsv"))
    select_domains(settings, folder / "domains.tsv", folder / "labels.tsv")
    own = FetchSettings(sources=(str(mirror),))
    fetch_entries(folder / "domains.tsv", own, folder / "none", folder / "entries.tsv", folder / "fetch.tsv")
    parts = [folder / "labels.tsv", folder / "fetch.tsv"]
    for batch in range(2):
        shard = [folder / f"shard{batch}.h5", folder / f"shard{batch}.tsv"]
        arguments = (folder / "domains.tsv", folder / "entries.tsv", FeaturizeSettings(), settings, (batch, 2))
        featurize(*arguments, *shard)
        parts += shard
    merge(parts, folder / "merged.h5", folder / "rejected.tsv")
    assert (folder / "rejected.tsv").stat().st_size < 100_000
    with Store(folder / "merged.h5") as store:
        return store.ids, [
            (row["domain_id"], row["reason"], row["detail"]) for row in read_table(folder / "rejected.tsv")
        ]


def ca_only(rows):
    return [row for row in rows if " CA " in row]


def ribosome():
    """A file with 120 chains of several letters, a third of them RNA."""
    structure = gemmi.Structure()
    model = gemmi.Model(1)
    for number in range(120):
        chain = gemmi.Chain("ABCDEFGHIJKL"[number // 10] + "abcdefghij"[number % 10])
        if number % 3:
            rows = chain_lines(helix(25) + 40 * number)
        else:
            rows = [line("P", "A", "A", at, (at * 5.0, 40.0 * number, 0.0)) for at in range(1, 30)]
        for residue in gemmi.read_pdb_string("\n".join(rows))[0][0]:
            chain.add_residue(residue)
        model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    return structure.make_mmcif_document().as_string()


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """A folder with good and odd files."""
    mirror = tmp_path_factory.mktemp("mirror")
    write(mirror / "1abc.pdb", chain_lines(helix(30)))
    write(mirror / "2abc.cif.gz", chain_lines(helix(30)))
    write(mirror / "4odd.pdb", chain_lines(helix(30), numbers=range(-9, 21)))
    inserted = [*range(1, 16), *[15] * 5, *range(16, 26)]
    write(mirror / "5odd.cif", chain_lines(helix(30), numbers=inserted, insertions=[""] * 15 + [*"ABCDE"] + [""] * 10))
    write(mirror / "6odd.pdb", ca_only(chain_lines(helix(30))))
    (mirror / "7odd.cif").write_text(ribosome())
    write(mirror / "8odd.pdb", two_molecules()["TER"])
    (mirror / "9odd.pdb").write_bytes(b"")
    (mirror / "9dir.pdb").mkdir()
    (mirror / "9lop.pdb").symlink_to(mirror / "9lop.pdb")
    (mirror / "9gon.pdb").symlink_to(mirror / "gone")
    shutil.copy(DATA / "1ejg.cif.gz", mirror)
    write(mirror / "9big.cif", chain_lines(helix(30)))
    text = (mirror / "9big.cif").read_text()
    (mirror / "9big.cif").write_text(text.replace(" A 3 ", " A 2147483647 ").replace(" 3 A ", " 2147483647 A "))
    return mirror


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("x", "1abc", "A", "29-2", CODE), "bad_range"),
        (("x", "1abc", "A", "2-20,15-29", CODE), "bad_range"),
        (("x", "1abc", "A", "1-99999999", CODE), "bad_range"),
        (("x", "1abc", "A", "five-six", CODE), "bad_range"),
        (("x", "1abc", "A", "50-80", CODE), "range_not_found"),
        (("x", "1abc", "B", "", CODE), "chain_not_found"),
        (("x", "1abc", "AA", "", CODE), "chain_not_found"),
        (("x", "1abc", "0", "", CODE), None),
        (("x", "1abc", "", "", CODE), None),
        (("x", "7odd", "0", "", CODE), "chain_not_found"),
        (("x", "7odd", "", "", CODE), "chain_not_found"),
        (("x", "7odd", "Lj", "", CODE), None),
        (("x", "7odd", "Aa", "", CODE), "no_protein"),
        (("x", "7odd", "Ab", "2-24", CODE), None),
        (("x", "4odd", "A", "-9-15", CODE), None),
        (("x", "4odd", "A", "-9--5", CODE), "too_short"),
        (("x", "4odd", "A", "-5--9", CODE), "bad_range"),
        (("x", "5odd", "A", "1-15E", CODE), None),
        (("x", "5odd", "A", "15B-15D", CODE), "too_short"),
        (("x", "6odd", "A", "", CODE), "no_complete_residue"),
        (("x", "8odd", "A", "2-29", CODE), "bad_range"),
        (("x", "8odd", "A", "", CODE), None),
        (("x", "1ejg", "A", "", CODE), None),
        (("x", "9odd", "A", "", CODE), "empty_file"),
        (("x", "9dir", "A", "", CODE), "not_found"),
        (("x", "9lop", "A", "", CODE), "not_found"),
        (("x", "9gon", "A", "", CODE), "not_found"),
        (("x", "9big", "A", "", CODE), "not_a_structure"),
        (("x", "9zzz", "A", "", CODE), "not_found"),
        (("x", "1abc", "A", "", ""), "unlabelled"),
        (("x", "1abc", "A", "", "helical"), "unlabelled"),
        (("x", "1abc", "A", "", "4.10.8.10"), "class_not_selected"),
        (("good1", "1abc", "A", "", CODE), "duplicate_id"),
        (("../../etc/passwd", "1abc", "A", "", CODE), "bad_id"),
        (("x", "../../etc/passwd", "A", "", CODE), "bad_id"),
        (("x", "/etc/passwd", "A", "", CODE), "bad_id"),
        (("x\0y", "1abc", "A", "", CODE), "bad_id"),
        (("x", "1a\0c", "A", "", CODE), "bad_id"),
        (("x\x1b[31m", "1abc", "A", "", CODE), "bad_id"),
        (("x" * 10_000_000, "1abc", "A", "", CODE), "bad_id"),
        (("x", "1" * 10_000_000, "A", "", CODE), "bad_id"),
        (("x", "1abc", "A" * 10_000_000, "", CODE), "chain_not_found"),
        (("x", "1abc", "A", "1" * 10_000_000, CODE), "bad_range"),
        (("x", "1abc", "A", "", "1." * 5_000_000), "unlabelled"),
        (("", "1abc", "A", "", CODE), "bad_id"),
        (("-rf", "1abc", "A", "", CODE), "bad_id"),
        (("né", "1abc", "A", "", CODE), "bad_id"),
    ],
    ids=lambda value: repr(value)[:70],
)
def test_bad_row_has_its_reason_and_good_ones_come_through(tmp_path, mirror, row, reason):
    stored, dropped = through_the_path(tmp_path, mirror, text_of([COLUMNS, GOOD[0], row, GOOD[1]]))
    if reason is None:
        assert sorted(stored) == ["good1", "good2", "x"]
        assert dropped == []
    else:
        assert sorted(stored) == ["good1", "good2"]
        assert {code for _, code, _ in dropped} == {reason}
        assert all(detail and detail.isprintable() for _, _, detail in dropped)


def test_unlabelled_domains_are_kept_where_all_classes_are(tmp_path, mirror):
    row = ("x", "1abc", "A", "2-29", "")
    stored, dropped = through_the_path(tmp_path, mirror, text_of([COLUMNS, *GOOD, row]), replace(SETTINGS, classes=()))
    assert (sorted(stored), dropped) == (["good1", "good2", "x"], [])


@pytest.mark.parametrize("place", range(5))
def test_row_in_two_lines_stops_the_run_before_it_begins(tmp_path, mirror, place):
    row = [*GOOD[1]]
    row[place] = "x\ny"
    with pytest.raises(UserError, match=r"table\.tsv, line [34]: expected 5 columns, found"):
        through_the_path(tmp_path, mirror, text_of([COLUMNS, GOOD[0], row]))
    assert not list(tmp_path.glob("*.h5"))


def test_only_line_of_10_mb(tmp_path, mirror):
    with pytest.raises(UserError, match="the format is none that is known") as caught:
        through_the_path(tmp_path, mirror, "x" * 10_000_000)
    assert len(str(caught.value)) < 3000


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that nobody can read, root neither")
def test_unreadable_file_in_a_folder(tmp_path):
    source = tmp_path / "mine"
    source.mkdir()
    write(source / "good.pdb", chain_lines(helix(30)))
    (source / "odd.pdb").symlink_to("/proc/self/mem")
    (source / "loop").symlink_to(source)
    (source / "named.cif").mkdir()
    count = featurize_folder(source, FeaturizeSettings(), SETTINGS, tmp_path / "x.h5", tmp_path / "x.tsv")
    assert count == 1
    assert [(row["domain_id"], row["reason"]) for row in read_table(tmp_path / "x.tsv")] == [("odd", "unreadable")]
