"""Every format that `labels` reads, with what real files of it hold."""

import gzip
import os
from typing import get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import chain_lines, helix, write

from cvae_protein.config import load
from cvae_protein.config.settings import LabelSettings
from cvae_protein.core.errors import REASONS, UnusableDomain, UserError
from cvae_protein.core.files import REJECTED_COLUMNS, read_table
from cvae_protein.dataset.classifications.domain import ClassifiedDomain
from cvae_protein.dataset.fetch.sources import CIF_NAMES, PDB_NAMES, Folder
from cvae_protein.dataset.formats import FORMATS, count_rows, detect, read_classification, read_ids, read_names
from cvae_protein.dataset.select import COLUMNS, NAME_COLUMNS, name_folds, select_domains
from cvae_protein.report.results import Results

HEADER = "#------\n# FILE NAME:    CathDomainList.v4.3.0\n#\n# FILE FORMAT:  Cath List File (CLF) Format 2.0\n#------\n"
LIST = HEADER + (
    "1oaiA00     1    10     8    10     1     1     1     1     1    59 1.000\n"
    "1go5A00     1    10     8    10     1     1     1     1     2    69 999.000\n"
    "10gsA02     3    40    30    10     2     7     1     1     1   102 2.200\n"
    "1cukA03     1    10     8    10    11     1     1     1     1    48 1000.000\n"
)
BOUNDARIES = (
    "# FILE FORMAT:  Cath Domall File (CDF) Format 2.0\n"
    "1oaiA  D01 F00  1  A  561 - A  619 -\n"
    "10gsA  D02 F01  2  A    2 - A   78 -  A  187 - A  208 -  1  A   79 - A  186 -  A  209 - A  209 - (1)\n"
    "1hvcA  D02 F01  1  A    1 B A   99 B  1  A    1 A A   99 A  A  200 - A  204 - (5)\n"
    "1amg0  D01 F01  1  0   -5 - 0  360 -  0  361 - 0  361 - (1)\n"
)
DAILY = (
    "1oaiA00 v4_2_0 1.10.8.10.1 561-619:A\n"
    "3frhA01 v4_2_0 1.10.8.10.2 -1-56:A\n"
    "1w5sA01 v4_2_0 1.10.8.60.25 7-16:A,216-293:A\n"
    "1orfA02 putative 2.40.10.10.113 28-120:A,233(A)-244:A\n"
    "1pfzA02 v4_2_0 2.40.70.10.42 79P-14:A,176-328:A\n"
    "5oy0600 putative 1.10.8.110 1-143:6\n"
)
CLA = (
    "# dir.cla.scope.txt\n# SCOPe release 2.08\n"
    "d1ux8a_\t1ux8\tA:\ta.1.1.1\t113449\tcl=46456,cf=46457,sf=46458,fa=46459,dm=46460,sp=116748,px=113449\n"
    "d1kwma2\t1kwm\tA:1A-95A\td.58.3.1\t73080\tcl=53931,cf=54861,sf=54897,fa=54898,dm=54903,sp=75430,px=73080\n"
    "d1a31a1\t1a31\tA:431-626,A:720-765\td.163.1.2\t56362\tcl=53931\n"
    "d1a0h.1\t1a0h\tA:271-320,B:\tb.47.1.2\t50531\tcl=48724\n"
    "d1abc__\t1abc\t-\ta.1.1.1\t1\tcl=46456\n"
)
ASTRAL = (
    ">d1ux8a_ a.1.1.1 (A:) Protozoan/bacterial hemoglobin {Bacillus subtilis [TaxId: 1423]}\nmgqs\nfnap\n"
    ">d1a0hd1 g.14.1.1 (D:164-270) Prothrombin {Cow (Bos taurus) [TaxId: 9913]}\nacde\n"
)
SEGMENTS = (
    "domain\tpdb\tchain\tdomnum\tsegments\tcath\n"
    "17gsA01\t17gs\tA\t01\t2-78_187-208\t3.40.30.10\n"
    "1abcA00\t1abc\tA\t00\t1(A)-131\t2.60.40.10\n"
)
SCOPE_SEGMENTS = (
    "sid\tpdb\tchain\tstart\tend\tsccs\tsunid_of_species_or_domain\n"
    "d1ux8a_\t1ux8\tA\t\t\ta.1.1.1\t46460\n"
    "d1a31a1\t1a31\tA\t431\t626\td.163.1.2\t56362\n"
    "d1cqxa1\t1cqx\tA\t-1\t150\ta.1.1.2\t46528\n"
    "d1a31a1\t1a31\tA\t720\t765\td.163.1.2\t56362\n"
    "d1a0h.1\t1a0h\tA\t271\t320\tb.47.1.2\t50531\n"
    "d1a0h.1\t1a0h\tB\t\t\tb.47.1.2\t50531\n"
)
TABLE = "domain_id\tpdb_id\tchain\tresidue_range\tcath\ts35\nx1\t1abc\tA\t1-50\t1.10.8.10\tc1\n"
SEQRES = "1oaiA00\t1-59\n10gsA02\t78-185,208-209\n"
ECOD_FACTS = 'NO_UNP\tbeta barrels\t"cradle loop barrel"\t"RIFT-related"\t"acid protease"\tF_UNCLASSIFIED'
ECOD_HEAD = "uid\tecod_domain_id\tmanual_rep\tf_id\tpdb\tchain\tpdb_range\tseqid_range\t"
ECOD = (
    "# ECOD Domain List\n#\n"
    f"{ECOD_HEAD}architecture_name\tx_name\th_name\tt_name\tf_name\tassembly_id\tvalid_structure\tligand_pdbnum\n"
    "0\te1aaaA1\tTrue\t1.1.1.3\t1aaa\tA\tA:-3-99\tA:4-106\tbeta barrels\tx\th\tt\tF\t\tTrue\tA:601\n"
    "3\te1bbbB2\tTrue\t101.1.8\t1bbb\tB\tB:1-9,B:20P-40\tB:2-10,B:21-41\ta/b layers\tx\th\tt\t\t\tTrue\t\n"
    "4\te1ccc.1\tFalse\t1.1.1.3\t1ccc\t.\tP:1-43,B:1-329\tP:1-43,B:1-329\tbeta barrels\tx\th\tt\tF\t\tTrue\t\n"
    "5\tP44140_F1_nD2\tFalse\t10.12.1.53\t\t\t131-315\t131-315\tarrays\tx\th\tt\tF\t\tTrue\t\n"
)
ECOD_COMMENTED = (
    "#ECOD version develop280\n#Domain list version 1.6\n"
    f"#{ECOD_HEAD}unp_acc\tarch_name\tx_name\th_name\tt_name\tf_name\n"
    f"002728551\te1aaaA1\tAUTO_NONREP\t1.1.1\t1aaa\tA\tA:-3-99\tA:4-106\t{ECOD_FACTS}\n"
)
ECOD_OLD = f"002728551\te1aaaA1\tAUTO_NONREP\t1.1.1\t1aaa\tA\tA:-3-99\tA:4-106\t{ECOD_FACTS}\n"
ECOD_LIST = (
    "#Domain list version 1.7\n#source_id\tdomain_id\td_type\tt_id\tf_id\tecod_uid\trange\n"
    "1aaa\te1aaaA1\tPDB\t1.1.1\t1.1.1.7\t000007022\tA:4-106\tMANUAL_REP\n"
    "X8FP97_F1\tnD1\tAFDB\t3.1.1\t3.1.1.45\t003961586\t1-175\tAUTOMATIC_NONREP\n"
)
MD5 = "f8de3d42c18e0e27c4f3cf4ee5a22ab8"
TED_REST = "2\t94.2\t21\t4\t7\t11\t10\tproteome-tax_id-1-0_v4"
TED = (
    f"AF-A0A000-F1-model_v4_TED01\t{MD5}\thigh\t11-41_290-389\t131\t{TED_REST}\t3.90.1150.10\tH\tfoldseek\t1\t0.3\n"
    f"AF-A0A000-F1-model_v4_TED02\t{MD5}\tmedium\t50-200\t151\t{TED_REST}\t3.40.50.10,3.40.50.20\tH\tfoldseek\t1\t0.3\n"
    f"AF-P12345-F1-model_v4_TED01\t{MD5}\thigh\t5-80\t76\t{TED_REST}\t-\t-\t-\t1\t0.3\n"
)
TED_CHAINS = (
    f"AF-A0A0N5ATQ5-F1-model_v4\t{MD5}\t502\t2\t13-127,128-183_190-238\t0.80283\n"
    f"AF-A0A1X0B8H0-F1-model_v4\t{MD5}\t686\t0\tNULL\t0\n"
    f"AF-A0A6C0LIE9-F1-model_v4\t{MD5}\t304\t1\t1-276\t0.82204\n"
)
TED_CONSENSUS = f"AF-A0A6C0L9V9-F1-model_v4\t{MD5}\t421\t1\t1\t2\t30-136\t144-421\t138-180_384-421,277-383\n"

TEXTS = {
    "table": TABLE,
    "cath-domain-list": LIST,
    "cath-domain-boundaries": BOUNDARIES,
    "cath-seqres-boundaries": SEQRES,
    "cath-daily": DAILY,
    "cath-segments": SEGMENTS,
    "scope-cla": CLA,
    "scope-segments": SCOPE_SEGMENTS,
    "astral": ASTRAL,
    "ecod": ECOD,
    "ted-domains": TED,
    "ted-chains": TED_CHAINS,
}


def settings_of(tmp_path, text, **given):
    path = tmp_path / "table.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return LabelSettings(**{"table": str(path), "min_members": 1, "classes": (), "min_length": 10, **given})


def read(tmp_path, text, **given):
    """Rows by id, and reasons by id, of a classification in `text`."""
    found = list(read_classification(settings_of(tmp_path, text, **given)))
    assert all(row.code in REASONS for row in found if isinstance(row, UnusableDomain))
    return (
        {row.domain_id: row for row in found if isinstance(row, ClassifiedDomain)},
        {row.domain_id: row.code for row in found if isinstance(row, UnusableDomain)},
    )


def ranges(rows):
    return {name: (row.chain, row.residue_range) for name, row in rows.items()}


def test_the_setting_names_every_format():
    assert set(get_args(get_type_hints(LabelSettings)["format"])) == {"auto", *FORMATS}
    assert set(TEXTS) | {"folder"} == set(FORMATS)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("change", ["plain", "gzip", "windows", "mark", "utf-16"])
def test_formats_are_told_by_content(tmp_path, name, change):
    text = TEXTS[name]
    data = {
        "plain": text.encode(),
        "gzip": gzip.compress(text.encode(), mtime=0),
        "windows": text.replace("\n", "\r\n").encode(),
        "mark": b"\xef\xbb\xbf" + text.encode(),
        "utf-16": text.encode("utf-16"),
    }[change]
    expected = list(read_classification(settings_of(tmp_path, text)))
    assert detect(tmp_path / "table.txt") == name
    assert len(expected) > 1 or name == "table"
    given = settings_of(tmp_path, data)
    assert detect(tmp_path / "table.txt") == name
    assert list(read_classification(given)) == expected
    segments_over = {"scope-segments": 2}.get(name, 0)  # lines that continue a domain
    chains = {"cath-domain-boundaries": 4, "ted-chains": 3}
    assert count_rows(given) == chains.get(name, len(expected) + segments_over)


def test_domain_list(tmp_path):
    rows, dropped = read(tmp_path, LIST)
    assert dropped == {"10gsA02": "no_range", "1cukA03": "no_range"}
    row = rows["1oaiA00"]
    assert (row.pdb_id, row.chain, row.residue_range, row.cath) == ("1oai", "A", "", "1.10.8.10")
    assert (row.resolution, row.n_residues, row.method) == ("1.000", "59", "")
    assert (row.s35, row.s60, row.s95) == ("1.10.8.10.1", "1.10.8.10.1.1", "1.10.8.10.1.1.1")
    assert (rows["1go5A00"].resolution, rows["1go5A00"].method) == ("", "NMR")


@pytest.mark.parametrize("name", ["cath-domain-boundaries", "cath-seqres-boundaries", "cath-daily"])
def test_domain_list_with_a_file_of_ranges(tmp_path, name):
    (tmp_path / "ranges.txt").write_text(TEXTS[name])
    rows, dropped = read(tmp_path, LIST, boundaries=str(tmp_path / "ranges.txt"))
    if name == "cath-domain-boundaries":
        assert ranges(rows)["10gsA02"] == ("A", "79-186")
        assert rows["10gsA02"].cath == "3.40.30.10"
    assert ranges(rows)["1oaiA00"] == ("A", "" if name == "cath-seqres-boundaries" else "561-619")
    assert ranges(rows)["1go5A00"] == ("A", "")
    assert dropped.get("1cukA03") == "no_range"


def test_only_domain_of_a_chain_with_fragments_is_01_or_00(tmp_path):
    (tmp_path / "b.txt").write_text(BOUNDARIES)
    for name in ("1amg000", "1amg001"):
        line = f"{name} 1 10 8 10 1 1 1 1 1 59 1.000\n"
        rows, _ = read(tmp_path, line, boundaries=str(tmp_path / "b.txt"))
        assert ranges(rows) == {name: ("0", "-5-360")}


def test_unreadable_ranges_of_a_chain_are_said(tmp_path):
    (tmp_path / "b.txt").write_text(BOUNDARIES.replace("A  209 - (1)", "A"))
    settings = settings_of(tmp_path, LIST, boundaries=str(tmp_path / "b.txt"))
    problem = next(row for row in read_classification(settings) if row.domain_id == "10gsA02")
    assert problem.code == "bad_row"
    assert "b.txt: line 3" in problem.detail


def test_boundaries_alone(tmp_path):
    rows, dropped = read(tmp_path, BOUNDARIES)
    assert ranges(rows) == {
        "1oaiA00": ("A", "561-619"),
        "10gsA01": ("A", "2-78,187-208"),
        "10gsA02": ("A", "79-186"),
        "1hvcA01": ("A", "1B-99B"),
        "1hvcA02": ("A", "1A-99A"),
        "1amg001": ("0", "-5-360"),
    }
    assert dropped == {}


def test_boundaries_over_two_chains(tmp_path):
    rows, dropped = read(tmp_path, "1abcA  D02 F00  2  A    1 - A   50 -  B    1 - B   50 -  1  A   60 - A   99 -\n")
    assert dropped == {"1abcA01": "several_chains"}
    assert ranges(rows) == {"1abcA02": ("A", "60-99")}
    assert read(tmp_path, "1abcA  D01 F00  1  A    1 - B   50 -\n")[1] == {"1abcA00": "several_chains"}


@pytest.mark.parametrize(
    "line",
    [
        "10gsA  D02 F00  2  A    2 - A   78 -",
        "10gsA  D01 F00  2  A    2 - A   78 -",
        "10gsA  D01 F01  1  A    2 - A   78 -",
        "10gsA  D01 F00  1  A    2 - A   78 -  A 99 - A 99 - (1)",
        "10gsA  D00 F00  1",
        "10gsA  D01 F00  0",
    ],
)
def test_boundaries_that_do_not_add_up(tmp_path, line):
    rows, dropped = read(tmp_path, f"{BOUNDARIES}{line}")
    assert len(rows) == 6
    assert dropped == {"10gsA": "bad_row"}


def test_sequence_numbers_are_not_taken_for_author_numbers(tmp_path):
    rows, dropped = read(tmp_path, SEQRES)
    assert ranges(rows) == {"1oaiA00": ("A", "")}
    assert dropped == {"10gsA02": "no_range"}


def test_daily_list(tmp_path):
    rows, _ = read(tmp_path, DAILY)
    assert ranges(rows) == {
        "1oaiA00": ("A", "561-619"),
        "3frhA01": ("A", "-1-56"),
        "1w5sA01": ("A", "7-16,216-293"),
        "1orfA02": ("A", "28-120,233A-244"),
        "1pfzA02": ("A", "79P-14,176-328"),
        "5oy0600": ("6", "1-143"),
    }
    assert (rows["1orfA02"].cath, rows["1orfA02"].s35) == ("2.40.10.10", "2.40.10.10.113")
    assert (rows["5oy0600"].cath, rows["5oy0600"].s35) == ("1.10.8.110", "")
    assert read(tmp_path, DAILY + "1abcA00 putative 1.10.8.10 1-50:A,3-60:B\n")[1] == {"1abcA00": "several_chains"}


def test_chains_of_several_letters(tmp_path):
    rows, _ = read(tmp_path, DAILY + "7abcAB102 putative 1.10.8.10 1-50:AB1\n")
    assert ranges(rows)["7abcAB102"] == ("AB1", "1-50")


def test_tables_of_segments(tmp_path):
    rows, _ = read(tmp_path, SEGMENTS)
    assert ranges(rows) == {"17gsA01": ("A", "2-78,187-208"), "1abcA00": ("A", "1A-131")}
    rows, dropped = read(tmp_path, SCOPE_SEGMENTS)
    assert ranges(rows) == {"d1ux8a_": ("A", ""), "d1a31a1": ("A", "431-626,720-765"), "d1cqxa1": ("A", "-1-150")}
    assert dropped == {"d1a0h.1": "several_chains"}


def test_scope(tmp_path):
    rows, dropped = read(tmp_path, CLA)
    assert ranges(rows) == {
        "d1ux8a_": ("A", ""),
        "d1kwma2": ("A", "1A-95A"),
        "d1a31a1": ("A", "431-626,720-765"),
        "d1abc__": ("", ""),
    }
    assert rows["d1kwma2"].scope == "d.58.3.1"
    assert dropped == {"d1a0h.1": "several_chains"}
    assert read(tmp_path, CLA + "d1xyza1\t1xyz\tA:,A:5-90\ta.1.1.1\t2\tcl=1\n")[1]["d1xyza1"] == "bad_range"
    rows, _ = read(tmp_path, ASTRAL)
    assert ranges(rows) == {"d1ux8a_": ("A", ""), "d1a0hd1": ("D", "164-270")}
    assert rows["d1a0hd1"].pdb_id == "1a0h"
    assert count_rows(settings_of(tmp_path, ASTRAL)) == 2


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("cath-domain-list", "4wp2F00 1 10 8 10 6 1", "bad_row"),
        ("cath-domain-list", "4wp2F00 1 10 8 10 6 1 1 x 1 59 1.0", "bad_row"),
        ("cath-domain-list", "4wp2F00 1 10 8 10 6 1 1 1 1 59 1.0.0", "bad_row"),
        ("cath-domain-list", "../../etc/passwd 1 10 8 10 6 1 1 1 1 59 1.0", "bad_id"),
        ("cath-domain-list", "4wp2\0F00 1 10 8 10 6 1 1 1 1 59 1.0", "bad_id"),
        ("cath-domain-list", "1oaiA00 1 10 8 10 1 1 1 1 1 59 1.0", "duplicate_id"),
        ("cath-domain-list", "4wp2F00 1 10 8 10 6 1 1 1 1 9 1.0", "too_short"),
        ("cath-daily", "4wp2F00 v4_2_0 1.10.8.10.6", "bad_row"),
        ("cath-daily", "4wp2F00 v4_2_0 1.10.8.10.6 100-5:F", "bad_range"),
        ("cath-daily", "4wp2F00 v4_2_0 1.10.8.10.6 1-5-:F", "bad_range"),
        ("cath-daily", "4wp2F00 v4_2_0 1.10 1-50:F", "unlabelled"),
        ("cath-segments", "17gsA02\t17gs\tA\t02", "bad_row"),
        ("cath-segments", "../../etc/passwd\t17gs\tA\t02\t1-50\t1.10.8.10", "bad_id"),
        ("cath-segments", "17gsA02\t../x\tA\t02\t1-50\t1.10.8.10", "bad_id"),
    ],
)
def test_each_bad_line_has_its_reason(tmp_path, name, line, reason):
    settings = settings_of(tmp_path, TEXTS[name] + line)
    before = settings_of(tmp_path, TEXTS[name])
    count = select_domains(before, tmp_path / "d", tmp_path / "r")
    rejected = len(read_table(tmp_path / "r"))
    (tmp_path / "table.txt").write_text(TEXTS[name] + line)
    assert select_domains(settings, tmp_path / "d", tmp_path / "r") == count
    dropped = read_table(tmp_path / "r", REJECTED_COLUMNS)
    assert len(dropped) == rejected + 1
    assert reason in [row["reason"] for row in dropped]
    assert "\0" not in (tmp_path / "r").read_text()
    assert all(row["detail"] for row in dropped)


def test_clear_errors(tmp_path):
    with pytest.raises(UserError) as caught:
        read(tmp_path, "# comment\nid;entry;fold\n1;2;3\n")
    text = str(caught.value)
    assert "first line is 'id;entry;fold'" in text
    assert all(name in text for name in FORMATS)
    with pytest.raises(UserError, match=r"labels\.include"):
        read(tmp_path, "1oaiA00\n1go5A00\n")
    with pytest.raises(UserError, match="empty"):
        read(tmp_path, "# nothing\n\n")
    with pytest.raises(UserError, match="binary"):
        read(tmp_path, b"\x00\x01\x02\n")
    with pytest.raises(UserError, match="end too early"):
        read(tmp_path, gzip.compress(DAILY.encode() * 500)[:-30])
    with pytest.raises(UserError, match="damaged gzip"):
        read(tmp_path, gzip.compress(DAILY.encode())[:12] + b"\xff" * 40)
    with pytest.raises(UserError, match="no file there"):
        detect(tmp_path / "absent.txt")
    with pytest.raises(UserError, match="tells the residues itself"):
        read(tmp_path, DAILY, boundaries=str(tmp_path / "table.txt"))
    with pytest.raises(UserError, match="expected a file with residue ranges"):
        read(tmp_path, LIST, boundaries=str(tmp_path / "table.txt"))
    with pytest.raises(UserError, match="found a file"):
        read(tmp_path, LIST, format="folder")
    for name in ("table", "cath-segments", "scope-segments"):
        with pytest.raises(UserError, match="expected the columns"):
            read(tmp_path, LIST, format=name)


def test_a_named_format_is_read_as_it_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no domain of 4 is left \(4 bad_row"):
        select_domains(settings_of(tmp_path, LIST, format="cath-daily"), tmp_path / "d", tmp_path / "r")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_line_stops_a_reader(tmp_path_factory, line):
    folder = tmp_path_factory.mktemp("line")
    for name in ("cath-domain-list", "cath-domain-boundaries", "cath-seqres-boundaries", "cath-daily", "scope-cla"):
        text = (TEXTS[name] + line.replace("#", "")).encode("utf-8", "replace")
        assert list(read_classification(settings_of(folder, text, format=name)))


# Folders


def test_folder_of_structures(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder / "Two.pdb", chain_lines(helix(12)) + chain_lines(helix(11) + 40, chain="B"))
    write(folder / "my file.cif", chain_lines(helix(12)))
    (folder / "notes.txt").write_text("nothing")
    (folder / "cut.pdb").write_text("ATOM   ")
    settings = LabelSettings(table=str(folder), scheme="cluster")
    assert select_domains(settings, tmp_path / "d", tmp_path / "r") == 3
    kept = read_table(tmp_path / "d", COLUMNS)
    assert [(row["domain_id"], row["pdb_id"], row["chain"], row["label"]) for row in kept] == [
        ("Two_A", "Two", "A", ""),
        ("Two_B", "Two", "B", ""),
        ("my_file-9e189a_A", "my_file-9e189a", "A", ""),
    ]
    dropped = {row["domain_id"]: row["reason"] for row in read_table(tmp_path / "r")}
    assert dropped.pop("cut") in ("not_a_structure", "truncated")
    assert not dropped
    assert count_rows(settings) == 3
    assert name_folds(tmp_path / "d", settings, tmp_path / "n") == 0
    assert read_table(tmp_path / "n", NAME_COLUMNS) == []


def test_a_folder_a_class_is_labels_of_ones_own(tmp_path):
    """Whatever folders and files are called: names that cannot be ids are changed, and their files found."""
    folder, names = (
        tmp_path / "files",
        ("one.pdb", "two (copy).pdb", "α/β.pdb".replace("/", " "), "-rf.pdb", "one two.pdb"),
    )
    for label, name in zip(("ab", "mostly alpha", "ab", "mostly alpha", "c"), names, strict=True):
        (folder / label).mkdir(parents=True, exist_ok=True)
        write(folder / label / name, chain_lines(helix(12)))
    write(folder / "loose.pdb", chain_lines(helix(12)))
    settings = LabelSettings(table=str(folder), scheme="own", classes=(), min_members=1)
    assert select_domains(settings, tmp_path / "d", tmp_path / "r") == 5
    kept = read_table(tmp_path / "d", COLUMNS)
    assert [row["domain_id"] for row in read_table(tmp_path / "r")] == ["loose_A"]
    source = Folder("files", folder, (*CIF_NAMES, *PDB_NAMES))
    found = {next(path for path in source.candidates(row["pdb_id"]) if path.is_file()): row["label"] for row in kept}
    assert {path.name for path in found} == set(names)
    by_folder = {(path.parent.name, label) for path, label in found.items()}
    assert len(by_folder) == len({label for _, label in by_folder}) == 3
    assert ("ab", "ab") in by_folder


def test_files_of_one_name_in_several_classes_are_all_taken(tmp_path):
    """As `rank_1.pdb` is in a folder for each class; those of the divided layout and lone ones keep their names."""
    folder, places = tmp_path / "files", ("A", "B", "C", "bc")
    for place in places:
        (folder / place).mkdir(parents=True)
        write(folder / place / "rank_1.pdb", chain_lines(helix(12)))
    write(folder / "B/rank_2.pdb", chain_lines(helix(12)))
    write(folder / "B/Rank_1.ent", chain_lines(helix(12)))
    write(folder / "bc/1bcd.pdb", chain_lines(helix(12)))
    settings = LabelSettings(table=str(folder), scheme="own", classes=(), min_members=1)
    assert select_domains(settings, tmp_path / "d", tmp_path / "r") == 6
    kept = {row["domain_id"]: row for row in read_table(tmp_path / "d", COLUMNS)}
    assert {"A_rank_1_A", "B_rank_1_A", "B_Rank_1_A", "bc_rank_1_A", "rank_2_A"} < set(kept)
    source = Folder("files", folder, (*CIF_NAMES, *PDB_NAMES))
    for row in kept.values():
        (path,) = {path for path in source.candidates(row["pdb_id"]) if path.is_file()}
        assert path.parent.name == row["label"]


def test_folder_keeps_the_case_of_file_names(tmp_path):
    write(tmp_path / "1ABC.pdb", chain_lines(helix(12)))
    select_domains(LabelSettings(table=str(tmp_path), scheme="cluster"), tmp_path / "d", tmp_path / "r")
    assert read_table(tmp_path / "d")[0]["pdb_id"] == "1ABC"


def test_what_a_folder_passes_over_is_told(tmp_path, capsys):
    """Other endings, hidden folders, and a pipe, which a reader would wait for."""
    for name in ("a.pdb", "b.pdb1", "notes.txt"):
        write(tmp_path / name, chain_lines(helix(30)))
    (tmp_path / ".kept").mkdir()
    write(tmp_path / ".kept/c.pdb", chain_lines(helix(30)))
    os.mkfifo(tmp_path / "d.pdb")
    rows = list(read_classification(LabelSettings(table=str(tmp_path))))
    assert [(row.domain_id, getattr(row, "code", "")) for row in rows] == [("a_A", ""), ("d", "not_found")]
    assert "select: 3 files of " in capsys.readouterr().err


def test_folder_without_structures(tmp_path):
    with pytest.raises(UserError, match=r"ends in \.pdb"):
        select_domains(LabelSettings(table=str(tmp_path), scheme="cluster"), tmp_path / "d", tmp_path / "r")


# Lists of ids and names


@pytest.mark.parametrize(
    "text",
    [
        "1oaiA00\n3frhA01\n",
        "# S40\r\n1oaiA00\r\n3frhA01",
        ">cath|4_3_0|1oaiA00/561-619\nACDE\n>cath|4_3_0|3frhA01/-1-56\nACDE\n",
        "1oaiA00 1 10 8 10 1 1 1 1 1 59 1.0\n3frhA01 1 10 8 10 2 1 1 1 1 58 1.2\n",
        "1oaiA00 v4_2_0 1.10.8.10.1 561-619:A\n3frhA01 v4_2_0 1.10.8.10.2 -1-56:A\n",
    ],
)
def test_lists_of_ids(tmp_path, text):
    (tmp_path / "ids").write_bytes(text.encode())
    assert read_ids(str(tmp_path / "ids")) == {"1oaiA00", "3frhA01"}
    settings = settings_of(tmp_path, DAILY, include=str(tmp_path / "ids"))
    assert count_rows(settings) == 2
    assert select_domains(settings, tmp_path / "d", tmp_path / "r") == 2
    assert {row["reason"] for row in read_table(tmp_path / "r")} == {"not_included"}


def test_astral_ids(tmp_path):
    (tmp_path / "ids").write_text(ASTRAL)
    assert read_ids(str(tmp_path / "ids")) == {"d1ux8a_", "d1a0hd1"}


CATH_NAMES = (
    "# FILE FORMAT:  Cath Names File (CNF) Format 2.0\n"
    "1    1oaiA00    :Mainly Alpha\n1.10    1oaiA00    :Orthogonal Bundle\n1.10.8.10    1oaiA00    :\n"
    "3.40.30    10gsA02    :<b>Gluta\tredoxin; $x_1$</b>\n"
)
DES = (
    "# dir.des\n46456\tcl\ta\t-\tAll alpha proteins\n46457\tcf\ta.1\t-\tGlobin-like\n"
    "113449\tpx\ta.1.1.1\td1ux8a_\t1ux8 A:\n46459\tfa\ta.1.1.1\t-\tTruncated hemoglobin\n"
)
TREE = (
    "46456\t0\tAll alpha proteins\n46457\t46456\tGlobin-like\n46458\t46457\tGlobin-like\n"
    "46459\t46458\tTruncated hemoglobin\n46460\t46459\tProtozoan hemoglobin\n0\tNone\troot\n"
)


@pytest.mark.parametrize(
    ("table", "text", "scheme", "expected"),
    [
        (DAILY, CATH_NAMES, "cath", {"1": "Mainly Alpha", "1.10": "Orthogonal Bundle"}),
        (DAILY, "code\tname\n2.40\tBarrel\n9\tUnused\n", "cath", {"2.40": "Barrel"}),
        (CLA, DES, "scope", {"a": "All alpha proteins", "a.1": "Globin-like", "a.1.1.1": "Truncated hemoglobin"}),
        (
            SCOPE_SEGMENTS,
            TREE,
            "scope",
            {
                "a": "All alpha proteins",
                "a.1": "Globin-like",
                "a.1.1": "Globin-like",
                "a.1.1.1": "Truncated hemoglobin",
            },
        ),
    ],
)
def test_names_of_folds(tmp_path, table, text, scheme, expected):
    (tmp_path / "names").write_text(text)
    settings = settings_of(tmp_path, table, names=str(tmp_path / "names"), scheme=scheme)
    select_domains(settings, tmp_path / "d", tmp_path / "r")
    assert name_folds(tmp_path / "d", settings, tmp_path / "fold_names.tsv") == len(expected)
    rows = read_table(tmp_path / "fold_names.tsv", NAME_COLUMNS)
    assert {row["code"]: row["name"] for row in rows} == expected


def test_names_in_the_report(tmp_path):
    (tmp_path / "names").write_text(CATH_NAMES)
    settings = settings_of(tmp_path, SEGMENTS, names=str(tmp_path / "names"))
    select_domains(settings, tmp_path / "d", tmp_path / "r")
    name_folds(tmp_path / "d", settings, tmp_path / "fold_names.tsv")
    results = Results(tmp_path, [], [])
    assert results.class_name("3.40.30") == "3.40.30 <b>Gluta redoxin; $x_1$</b>"  # the page escapes what it prints
    assert results.class_name("3") == "3 α and β"
    assert results.class_name("3.40") == "3.40"
    assert Results(tmp_path / "none", [], []).class_name("1") == "1 mainly α"


def test_strange_names(tmp_path):
    (tmp_path / "names").write_text("1,alpha\n2,beta\n")
    with pytest.raises(UserError, match="expected cath-names"):
        read_names(str(tmp_path / "names"), "")


# Settings together


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scheme": "cluster", "depth": 2}, "labels.depth: expected 1 for the scheme cluster"),
        (
            {"scheme": "scope", "classes": ["1", "2", "3"]},
            "labels.classes: expected classes of scope such as a, b, c, d, got 1, 2, 3",
        ),
        ({"classes": ["a"]}, "labels.classes: expected classes of cath such as 1, 2, 3, got a"),
    ],
)
def test_settings_that_disagree(given, said):
    with pytest.raises(UserError, match=said):
        load.load({"labels": given})


def test_examples_over_the_users_file_are_valid(root):
    import yaml

    base = yaml.safe_load((root / "config/config.yaml").read_text())
    paths = sorted((root / "config/examples").glob("*.yaml"))
    assert {"cath-s40", "scope", "my-structures", "benchmark"} <= {path.stem for path in paths}
    for path in paths:
        merged = {**base}
        for key, value in yaml.safe_load(path.read_text()).items():
            merged[key] = {**base.get(key, {}), **value} if isinstance(value, dict) else value
        assert load.load(merged).results != base["results"], path.stem


def test_what_a_folder_lists_is_found_in_it(tmp_path):
    (tmp_path / "s").mkdir()
    for name in ("ok.PDB", "ok2.ENT", "Ok3.Pdb.GZ"):
        written = write(tmp_path / (f"x{name[name.index('.') :]}".lower()), chain_lines(helix(12)))
        written.rename(tmp_path / "s" / name)
    rows = list(read_classification(LabelSettings(table=str(tmp_path / "s"))))
    folder = Folder("s", tmp_path / "s", (*CIF_NAMES, *PDB_NAMES))
    assert len(rows) == 3
    for row in rows:
        assert any(path.is_file() for path in folder.candidates(row.pdb_id))


def test_a_file_that_pdbe_has_updated_is_found_by_its_code(tmp_path):
    (tmp_path / "1ubi_updated.cif").write_text("data_1UBI\n")
    folder = Folder("s", tmp_path, (*CIF_NAMES, *PDB_NAMES))
    assert next(path for path in folder.candidates("1UBI") if path.is_file()).name == "1ubi_updated.cif"
    (tmp_path / "1ubi.cif").write_text("data_1UBI\n")
    assert next(path for path in folder.candidates("1ubi") if path.is_file()).name == "1ubi.cif"


def test_links_of_a_folder(tmp_path):
    (tmp_path / "s").mkdir()
    write(tmp_path / "a.pdb", chain_lines(helix(12)))
    (tmp_path / "s/b.pdb").symlink_to(tmp_path / "a.pdb")
    (tmp_path / "s/gone.pdb").symlink_to(tmp_path / "absent")
    good, bad = read_classification(LabelSettings(table=str(tmp_path / "s")))
    assert good.domain_id == "b_A"
    assert (bad.domain_id, bad.code) == ("gone", "not_found")


def test_a_table_that_a_spreadsheet_wrote(tmp_path):
    text = 'domain_id\tpdb_id\tchain\t"residue_range"\tcath\r\na\t1ubi\tA\t"1-30,41-76"\t3.10.20.90\r\n'
    (tmp_path / "t.tsv").write_text(text)
    (row,) = read_classification(LabelSettings(table=str(tmp_path / "t.tsv")))
    assert row.residue_range == "1-30,41-76"


def test_ecod(tmp_path):
    rows, dropped = read(tmp_path, ECOD)
    assert dropped == {"e1ccc.1": "several_chains"}
    assert ranges(rows) == {
        "e1aaaA1": ("A", "4-106"), "e1bbbB2": ("B", "2-10,21-41"), "P44140_F1_nD2": ("A", "131-315"),
    }  # fmt: skip
    assert {row.numbering for row in rows.values()} == {"label"}
    assert [row.pdb_id for row in rows.values()] == ["1aaa", "1bbb", "AF-P44140-F1"]
    assert [row.superfamily for row in rows.values()] == ["1.1", "101.1", "10.12"]
    assert rows["e1bbbB2"].label == "a/b layers.101.1.8"


@pytest.mark.parametrize("text", [ECOD_COMMENTED, ECOD_OLD, ECOD_LIST])
def test_releases_of_ecod(tmp_path, text):
    rows, dropped = read(tmp_path, text)
    assert (rows["e1aaaA1"].chain, rows["e1aaaA1"].residue_range, dropped) == ("A", "4-106", {})
    if text is ECOD_LIST:
        assert rows["X8FP97_F1_nD1"][1:4] == ("AF-X8FP97-F1", "A", "1-175")
        assert rows["e1aaaA1"].label == "1.1.1.7"
    elif text is ECOD_COMMENTED:
        assert rows["e1aaaA1"].label == "beta barrels.1.1.1"


def test_ecod_lines_that_are_none(tmp_path):
    long = "7\te1eeeA1\tTrue\t1.1.1\t1eee\tA\tA:1:9\tA:1:9" + "\tx" * 8
    _, dropped = read(tmp_path, f"{ECOD}6\te1dddA1\tTrue\n{long}\n")
    assert dropped == {"e1ccc.1": "several_chains", "6": "bad_row", "e1eeeA1": "bad_range"}


def test_ted(tmp_path):
    rows, dropped = read(tmp_path, TED)
    names = [
        f"AF-{name}" for name in ("A0A000-F1-model_v4_TED01", "A0A000-F1-model_v4_TED02", "P12345-F1-model_v4_TED01")
    ]
    assert (list(rows), dropped) == (names, {})
    assert [row.cath for row in rows.values()] == ["3.90.1150.10", "3.40.50", ""]
    first = rows[names[0]]
    assert first[1:4] == ("AF-A0A000-F1", "A", "11-41,290-389")
    assert (first.numbering, first.n_residues) == ("label", "131")
    rows, _ = read(tmp_path, TED_CHAINS)
    assert [row.residue_range for row in rows.values()] == ["13-127", "128-183,190-238", "1-276"]
    rows, _ = read(tmp_path, TED_CONSENSUS)
    assert {name[-2:]: row.residue_range for name, row in rows.items()} == {"D1": "30-136", "D2": "144-421"}
    _, dropped = read(tmp_path, TED + "AF-x_TED01\tnonsense\n")
    assert dropped == {"AF-x_TED01": "bad_row"}


@pytest.mark.parametrize(("kept", "most"), [(10, 50), (20_000, 250)], ids=["few kept", "all kept"])
def test_a_long_table_is_read_in_little_memory(tmp_path, kept, most):
    """Rows that are left out go to the table of rejections as they are met; of the others the id is in memory, and
    the rest packed."""
    import tracemalloc

    table, cells = tmp_path / "t.tsv", "1abc\tA\t1-20,41-76"
    with open(table, "w") as handle:
        handle.write("domain_id\tpdb_id\tchain\tresidue_range\tcath\tresolution\n")
        for n in range(20_000):
            handle.write(f"d{n}\t{cells}\t{1 if n < kept else 4}.10.{n % 90}.10\t{n % 7}.{n % 10}\n")
    tracemalloc.start()
    found = select_domains(LabelSettings(table=str(table), min_members=1), tmp_path / "o.tsv", tmp_path / "r.tsv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == kept
    assert len(read_table(tmp_path / "r.tsv")) == 20_000 - kept
    assert [row["domain_id"] for row in read_table(tmp_path / "o.tsv")] == [f"d{n}" for n in range(kept)]
    assert peak < 20_000 * most  # bytes a row; as tuples of texts they would take 450
