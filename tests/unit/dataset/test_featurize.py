import shutil
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from synthetic import DATA, chain_lines, helix, residue_lines, write

from cvae_protein.config.settings import FeaturizeSettings, LabelSettings
from cvae_protein.core.files import read_table, sha256, write_table
from cvae_protein.core.geometry import torsions
from cvae_protein.core.secondary_structure import secondary_structure
from cvae_protein.dataset import featurize
from cvae_protein.dataset.featurize import featurize_folder
from cvae_protein.dataset.select import COLUMNS
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.store.read import Store
from cvae_protein.store.write import merge_stores

SETTINGS = FeaturizeSettings()
LABELS = LabelSettings(min_length=20, max_length=100)
FACTS = ["label", "cath", "scope", "role", "group", "superfamily", "resolution", "method", "source"]
FACTS += ["source_hash", "breaks", "missing"]


def prepare(tmp_path, files):
    """domains.tsv and entries.tsv of `files`, path by pdb_id; the domain of 1abc is 1abcA00, of its chain A."""
    rows = [
        {**dict.fromkeys(COLUMNS, ""), "domain_id": f"{name}A00", "pdb_id": name, "chain": "A", "label": "1.10.8.10"}
        for name in files
    ]
    entries = [
        {"pdb_id": name, "source": "embedded", "path": path, "sha256": sha256(path), "bytes": 1}
        for name, path in files.items()
        if path.is_file()
    ]
    write_table(tmp_path / "domains.tsv", COLUMNS, rows)
    write_table(tmp_path / "entries.tsv", ["pdb_id", "source", "path", "sha256", "bytes"], entries)


def run(tmp_path, batch=(0, 1), name="shard", settings=SETTINGS, labels=LABELS):
    output, rejected = tmp_path / f"{name}.h5", tmp_path / f"{name}.tsv"
    arguments = (tmp_path / "domains.tsv", tmp_path / "entries.tsv", settings, labels, batch, output, rejected)
    count = featurize.featurize(*arguments)
    with Store(output) as store:
        assert len(store.ids) == count
    return output, {row["domain_id"]: row["reason"] for row in read_table(rejected)}


@pytest.fixture(scope="module")
def ubiquitin():
    return extract_domain(read_structure(DATA / "1ubi.cif.gz"), "A", "", "1ubi")


# --- the stage


def test_what_a_shard_holds(tmp_path, ubiquitin):
    prepare(tmp_path, {"1ubi": DATA / "1ubi.cif.gz"})
    output, dropped = run(tmp_path)
    assert dropped == {}
    with Store(output) as store:
        assert list(store.columns) == ["id", "model", *FACTS]
        entry = store.entry("1ubiA00")
    np.testing.assert_allclose(entry.backbone.coords, ubiquitin.coords, atol=0.0051)
    assert entry.ss == secondary_structure(ubiquitin)
    assert entry.backbone.sequence == ubiquitin.sequence
    assert entry.backbone.residue_ids == ubiquitin.residue_ids
    facts = dict(entry.facts)
    assert np.isnan(facts.pop("resolution"))
    assert (facts["source_hash"], facts["breaks"], facts["missing"]) == (sha256(DATA / "1ubi.cif.gz"), 0, 0)
    assert (facts["label"], facts["source"]) == ("1.10.8.10", "embedded")


def test_a_range_counts_what_its_row_says(tmp_path, ubiquitin):
    structure = gemmi.read_structure(str(DATA / "1ubi.cif.gz"))
    for residue in structure[0]["A"]:
        residue.seqid.num += 500
    structure.make_mmcif_document().write_file(str(tmp_path / "1ubi.cif"))
    prepare(tmp_path, {"1ubi": tmp_path / "1ubi.cif"})
    (row,) = read_table(tmp_path / "domains.tsv")
    for numbering, residue_range in (("label", "11-50"), ("author", "511-550"), ("", "511-550")):
        changed = row | {"numbering": numbering, "residue_range": residue_range}
        write_table(tmp_path / "domains.tsv", COLUMNS, [changed])
        with Store(run(tmp_path, name=f"{numbering}cut")[0]) as store:
            np.testing.assert_allclose(store.backbone("1ubiA00").ca, ubiquitin.ca[:, 10:50], atol=0.0051)


def test_same_input_same_bytes(tmp_path):
    prepare(tmp_path, {"1ubi": DATA / "1ubi.cif.gz", "1ejg": DATA / "1ejg.cif.gz"})
    (first, _), (second, _) = run(tmp_path, name="a"), run(tmp_path, name="b")
    assert first.read_bytes() == second.read_bytes()


def test_batches_are_the_rows_in_turn(tmp_path):
    files = {f"{n}abc": write(tmp_path / f"{n}.pdb", chain_lines(helix(20 + n))) for n in range(5)}
    prepare(tmp_path, files)
    shards = [run(tmp_path, (index, 2), f"s{index}")[0] for index in range(2)]
    with Store(shards[0]) as even, Store(shards[1]) as odd:
        assert even.ids == ["0abcA00", "2abcA00", "4abcA00"]
        assert odd.ids == ["1abcA00", "3abcA00"]
    assert merge_stores(shards, tmp_path / "merged.h5") == 5
    with pytest.raises(ValueError, match="batch"):
        run(tmp_path, (2, 2))


def test_each_file_is_read_once_and_order_is_kept(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{n}.pdb", chain_lines(helix(30 + n))) for n in range(2)]
    prepare(tmp_path, {"1abc": paths[0], "2abc": paths[1]})
    rows = read_table(tmp_path / "domains.tsv")
    again = [{**row, "domain_id": f"{row['pdb_id']}A01", "residue_range": "1-25"} for row in rows]
    write_table(tmp_path / "domains.tsv", COLUMNS, [*rows, *again])
    read = []
    monkeypatch.setattr(featurize, "read_structure", lambda path: read.append(path.name) or read_structure(path))
    output, _ = run(tmp_path)
    assert read == ["0.pdb", "1.pdb"]
    with Store(output) as store:
        assert store.ids == ["1abcA00", "2abcA00", "1abcA01", "2abcA01"]


def test_few_results_wait_for_their_turn(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{n}.pdb", chain_lines(helix(30 + n))) for n in range(2)]
    prepare(tmp_path, {"1abc": paths[0], "2abc": paths[1]})
    rows = read_table(tmp_path / "domains.tsv")
    many = [
        {**row, "domain_id": f"{row['pdb_id']}A{turn}", "residue_range": f"1-{25 + turn}"}
        for turn in range(5)
        for row in rows
    ]
    write_table(tmp_path / "domains.tsv", COLUMNS, many)
    whole, _ = run(tmp_path, name="whole")
    monkeypatch.setattr(featurize, "MOST_WAITING", 2)
    read = []
    monkeypatch.setattr(featurize, "read_structure", lambda path: read.append(path.name) or read_structure(path))
    few, _ = run(tmp_path, name="few")
    assert few.read_bytes() == whole.read_bytes()
    assert 2 < len(read) <= 6


def test_ensemble_has_a_row_a_model(tmp_path):
    lines = []
    for number, phi in enumerate((-57, -60, -63), 1):
        lines += [f"MODEL     {number:>4}", *chain_lines(helix(25, phi=phi)), "ENDMDL"]
    prepare(tmp_path, {"1abc": write(tmp_path / "x.pdb", lines)})
    with Store(run(tmp_path)[0]) as store:
        assert store.columns["model"].tolist() == [0, 1, 2]
        backbone = store.backbone("1abcA00")
    angles = torsions(backbone.coords, backbone.breaks)
    assert angles.shape == (3, 25, 3)
    assert np.degrees(angles[2, 5, 0]) == pytest.approx(-63, abs=1)  # stored to 0.01 Å


def without(lines, atom, numbers):
    return [row for row in lines if not (row[12:16].strip() == atom and int(row[22:26] or -1) in numbers)]


def bad_structures():
    coords = helix(30)
    together, far = coords.copy(), coords.copy()
    together[7] = together[8]
    far[20:] += 700
    lines = chain_lines(coords)
    return {
        "no_complete_residue": without(lines, "O", range(31)),
        "too_short": chain_lines(helix(19)),
        "too_long": chain_lines(helix(101)),
        "incomplete": without(lines, "CA", range(1, 8)),
        "bad_geometry": chain_lines(together),
        "bad_geometry 2": chain_lines(far),
        "not_a_structure": ["REMARK nothing here"],
        "chain_not_found": chain_lines(coords, chain="B"),
    }


@pytest.mark.parametrize("name", bad_structures())
def test_bad_structure_has_its_reason_and_stops_nothing(tmp_path, name):
    good = write(tmp_path / "good.pdb", chain_lines(helix(30)))
    prepare(tmp_path, {"1bad": write(tmp_path / "bad.pdb", bad_structures()[name]), "2abc": good})
    output, dropped = run(tmp_path)
    assert dropped == {"1badA00": name.split()[0]}
    with Store(output) as store:
        assert store.ids == ["2abcA00"]


def test_infinite_coordinates(tmp_path):
    path = write(tmp_path / "x.cif", chain_lines(helix(30)))
    text = path.read_text()
    rows = [row for row in text.splitlines() if row.startswith("ATOM")]
    value = rows[10].split()[10]
    path.write_text(text.replace(rows[10], rows[10].replace(f" {value} ", " 1e30 ")))
    prepare(tmp_path, {"1bad": path})
    assert run(tmp_path)[1] == {"1badA00": "bad_geometry"}


def test_few_missing_atoms_are_kept_and_counted(tmp_path):
    lines = without(chain_lines(helix(30)), "CA", [4, 12])
    prepare(tmp_path, {"1abc": write(tmp_path / "x.pdb", lines)})
    output, dropped = run(tmp_path)
    assert dropped == {}
    with Store(output) as store:
        assert (store.fact("1abcA00", "missing"), store.fact("1abcA00", "breaks")) == (2, 4)
        assert np.isnan(store.coords(0)[[3, 11], 1]).all()


def test_what_a_library_raises_is_a_reason_with_its_text(tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("seven")

    prepare(tmp_path, {"1abc": DATA / "1ubi.cif.gz"})
    monkeypatch.setattr(featurize, "check_quality", fail)
    _, dropped = run(tmp_path)
    assert dropped == {"1abcA00": "not_a_structure"}
    assert "ZeroDivisionError: seven" in read_table(tmp_path / "shard.tsv")[0]["detail"]


def test_domains_without_an_entry_are_passed_over(tmp_path):
    prepare(tmp_path, {"1abc": DATA / "1ubi.cif.gz", "2abc": tmp_path / "absent.cif"})
    output, dropped = run(tmp_path)
    assert dropped == {}
    with Store(output) as store:
        assert store.ids == ["1abcA00"]


# --- a folder of files


def folder_run(tmp_path, source, **options):
    output, rejected = tmp_path / "folder.h5", tmp_path / "folder.tsv"
    featurize_folder(source, SETTINGS, LABELS, output, rejected, **options)
    with Store(output) as store:
        return store.ids, {row["domain_id"]: row["reason"] for row in read_table(rejected)}


def test_folder_gives_whole_chains(tmp_path):
    source = tmp_path / "mine"
    (source / "deep").mkdir(parents=True)
    shutil.copy(DATA / "1ubi.cif.gz", source / "deep" / "1ubi.cif.gz")
    write(source / "my protein (1).pdb", chain_lines(helix(25)) + chain_lines(helix(25) + 60, chain="B"))
    write(source / "deep" / "my_protein_(1).ent", chain_lines(helix(22)))
    (source / "broken.pdb").write_text("<html>")
    (source / "notes.txt").write_text("hello")
    found, dropped = folder_run(tmp_path, source)
    assert sorted(found) == ["1ubi_A", "my_protein__1_-2_A", "my_protein__1_-2_B", "my_protein__1__A"]
    assert dropped == {"broken": "not_a_structure"}


def test_one_file_whatever_its_name(tmp_path):
    path = write(tmp_path / "x.pdb", chain_lines(helix(25))).rename(tmp_path / "structure.dat")
    assert folder_run(tmp_path, path) == (["structure.dat_A"], {})


def test_folder_with_a_table(tmp_path):
    shutil.copy(DATA / "1ubi.cif.gz", tmp_path / "pdb1ubi.ent.gz")
    rows = [
        {"domain_id": name, "pdb_id": pdb_id, "chain": "A", "residue_range": part, "cath": "3.10.20.90"}
        for name, pdb_id, part in (
            ("d1", "1UBI", "1-40"),
            ("d2", "1ubi", "41-76"),
            ("d2", "1ubi", "1-76"),
            ("../d3", "1ubi", "1-40"),
            ("d4", "9zzz", "1-40"),
            ("d5", "1ubi", "40-1"),
            ("d6", "1ubi", "90-95"),
        )
    ]
    write_table(tmp_path / "table.tsv", list(rows[0]), rows)
    found, dropped = folder_run(tmp_path, tmp_path, domains=tmp_path / "table.tsv")
    assert found == ["d1", "d2"]
    assert dropped == {
        "d2": "duplicate_id",
        "../d3": "bad_id",
        "d4": "not_found",
        "d5": "bad_range",
        "d6": "range_not_found",
    }


def test_folder_without_structures(tmp_path):
    for source in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ValueError, match=r"expected|no file there"):
            folder_run(tmp_path, source)


# --- identity and account


def rows_of(path):
    return [(row["domain_id"], row["reason"]) for row in read_table(path)]


@pytest.mark.parametrize("length", [20, 59, 60, 61, 75, 200])
def test_names_that_differ_at_their_end_are_two_domains(tmp_path, length):
    source = tmp_path / "mine"
    source.mkdir()
    for number in range(3):
        write(source / f"{'n' * length}_{number}.pdb", chain_lines(helix(25 + number)))
    found, dropped = folder_run(tmp_path, source)
    assert len(set(found)) == 3
    assert dropped == {}
    with Store(tmp_path / "folder.h5") as store:
        assert sorted(len(store.backbone(name)) for name in found) == [25, 26, 27]


def test_a_long_chain_name_and_its_beginning(tmp_path):
    source = tmp_path / "mine"
    source.mkdir()
    path = write(source / "x.cif", chain_lines(helix(25)) + chain_lines(helix(26) + 60, chain="B"))
    text = path.read_text().replace(" A ", " immunoglobulin_1 ").replace(" B ", " immunoglobulin_2 ")
    path.write_text(text)
    found, dropped = folder_run(tmp_path, source)
    assert (len(found), dropped) == (2, {})


@pytest.mark.parametrize("names", [("designA", "designa"), ("AbcD", "abcd"), ("Prot", "PROT")])
def test_names_that_differ_in_case_are_two_files(tmp_path, names):
    source = tmp_path / "mine"
    source.mkdir()
    for number, name in enumerate(names):
        write(source / f"{name}.pdb", chain_lines(helix(25 + number)))
    rows = [{"domain_id": f"d{n}", "pdb_id": name, "chain": "", "residue_range": ""} for n, name in enumerate(names)]
    rows.append({**rows[0], "domain_id": "d2", "pdb_id": names[0].swapcase()})
    write_table(tmp_path / "t.tsv", list(rows[0]), rows)
    found, dropped = folder_run(tmp_path, source, domains=tmp_path / "t.tsv")
    assert found == ["d0", "d1"]
    assert dropped == {"d2": "not_found"}
    assert "differ in capitals alone" in read_table(tmp_path / "folder.tsv")[0]["detail"]
    with Store(tmp_path / "folder.h5") as store:
        assert [len(store.backbone(name)) for name in found] == [25, 26]


def test_a_table_names_files_of_long_names_and_no_two_of_one_name(tmp_path):
    names = [f"{'n' * 70}_1", f"{'n' * 70}_2", "a/design", "b/design"]
    for number, name in enumerate(names):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "mine" / f"{name}.pdb", chain_lines(helix(25 + number)))
    rows = [
        {"domain_id": f"d{n}", "pdb_id": name, "chain": "A", "residue_range": ""}
        for n, name in enumerate([*names[:2], "design"])
    ]
    write_table(tmp_path / "t.tsv", list(rows[0]), rows)
    (tmp_path / "t.tsv").write_bytes((tmp_path / "t.tsv").read_text().encode("utf-16"))  # as spreadsheets write
    assert folder_run(tmp_path, tmp_path / "mine", domains=tmp_path / "t.tsv") == (["d0", "d1"], {"d2": "not_found"})
    assert "2 files are named design: " in read_table(tmp_path / "folder.tsv")[0]["detail"]
    with Store(tmp_path / "folder.h5") as store:
        assert [len(store.backbone(name)) for name in ("d0", "d1")] == [25, 26]


@pytest.mark.parametrize(("file", "named"), [("pdb_00001ubi", "1ubi"), ("1ubi", "pdb_00001UBI"), ("1UBI", "1ubi")])
def test_both_forms_of_a_code_name_one_entry(tmp_path, file, named):
    source = tmp_path / "mine"
    source.mkdir()
    shutil.copy(DATA / "1ubi.cif.gz", source / f"{file}.cif.gz")
    row = {"domain_id": "d", "pdb_id": named, "chain": "A", "residue_range": ""}
    write_table(tmp_path / "t.tsv", list(row), [row])
    assert folder_run(tmp_path, source, domains=tmp_path / "t.tsv") == (["d"], {})


def test_models_that_are_left_out_have_a_row(tmp_path):
    lines = [row for length in (25, 25, 22) for row in (*chain_lines(helix(length)), "END")]
    prepare(tmp_path, {"1abc": write(tmp_path / "x.pdb", lines)})
    output, dropped = run(tmp_path)
    assert dropped == {"1abcA00": "other_models"}
    assert "1 of 3 models" in read_table(tmp_path / "shard.tsv")[0]["detail"]
    with Store(output) as store:
        assert store.backbone("1abcA00").models == 2


def test_amino_acids_outside_of_chains_have_a_row(tmp_path):
    free = residue_lines(helix(1)[0] + 40, "GLU", number=90, hetero=True)
    source = write(tmp_path / "x.pdb", [*chain_lines(helix(25)), *free])
    assert folder_run(tmp_path, source) == (["x_A"], {"x": "ligand"})


def test_a_repeated_row_is_told(tmp_path):
    prepare(tmp_path, {"1abc": write(tmp_path / "x.pdb", chain_lines(helix(25)))})
    rows = read_table(tmp_path / "domains.tsv")
    write_table(tmp_path / "domains.tsv", COLUMNS, [*rows, {**rows[0], "residue_range": "2-24"}])
    output, dropped = run(tmp_path)
    assert dropped == {"1abcA00": "duplicate_id"}
    with Store(output) as store:
        assert len(store.backbone("1abcA00")) == 25


def test_links_are_followed_and_one_that_leads_nowhere_is_told(tmp_path):
    source, staged = tmp_path / "mine", tmp_path / "staged"
    (staged / "deep").mkdir(parents=True)
    source.mkdir()
    write(staged / "deep" / "a.pdb", chain_lines(helix(25)))
    (source / "linked").symlink_to(staged)
    (source / "b.pdb").symlink_to(staged / "deep" / "a.pdb")
    (source / "gone.pdb").symlink_to(tmp_path / "absent.pdb")
    (source / "gone.txt").symlink_to(tmp_path / "absent.txt")
    (source / "itself.pdb").symlink_to(source / "itself.pdb")
    (staged / "back").symlink_to(source)
    assert folder_run(tmp_path, source) == (["b_A", "a_A"], {"gone": "not_found", "itself": "not_found"})


def featurized(tmp_path, settings=SETTINGS):
    """Models and length of each domain of the folder `in`, and reasons."""
    featurize_folder(tmp_path / "in", settings, LABELS, tmp_path / "f.h5", tmp_path / "f.tsv")
    with Store(tmp_path / "f.h5") as store:
        found = {name: (store.backbone(name).models, len(store.backbone(name))) for name in store.ids}
    return found, [row["reason"] for row in read_table(tmp_path / "f.tsv")]


def test_models_of_other_residues_are_domains_of_their_own(tmp_path):
    """As our samples of several lengths in one file, and the objects that PyMOL writes as blocks."""
    (tmp_path / "in").mkdir()
    lengths = (40, 30, 40, 12, 30)
    parts = [["MODEL", *chain_lines(helix(length)), "ENDMDL"] for length in lengths]
    write(tmp_path / "in/s.pdb", [text for part in parts for text in part])
    assert featurized(tmp_path) == ({"s_A": (2, 40), "s_A-2": (2, 30)}, ["too_short"])


@pytest.mark.parametrize(("least", "stored"), [(0.0, 1), (60.0, 1), (62.0, 0)])
def test_models_of_low_confidence_are_left_out(tmp_path, least, stored):
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in/AF-P69905-F1-model_v6.cif", chain_lines(helix(30)))
    rows = "".join(f"A ALA {n} 2 {31.0 if n <= 15 else 91.0} 1 {n}\n" for n in range(1, 31))
    tags = ("label_asym_id", "label_comp_id", "label_seq_id", "metric_id", "metric_value", "model_id", "ordinal_id")
    path.write_text(path.read_text() + "\nloop_\n" + "".join(f"_ma_qa_metric_local.{t}\n" for t in tags) + rows)
    found, reasons = featurized(tmp_path, replace(SETTINGS, min_plddt=least))
    assert (len(found), reasons) == (stored, [] if stored else ["low_confidence"])


def test_names_that_unicode_writes_in_two_ways_and_those_that_lose_their_letters_are_two_files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for length, name in enumerate(("\u00e91", "e\u03011", "a b", "a_b", "a%b", "*"), 20):
        write(folder / f"{name}.pdb", chain_lines(helix(length)))
    count = featurize_folder(folder, SETTINGS, LABELS, tmp_path / "x.h5", tmp_path / "x.tsv")
    assert count == 6
    with Store(tmp_path / "x.h5") as store:
        assert len(set(store.ids)) == 6
        assert sorted(store.lengths.tolist()) == list(range(20, 26))
