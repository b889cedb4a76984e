import pytest

from cvae_protein.config.settings import LabelSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import REJECTED_COLUMNS, read_table, unsafe, write_table
from cvae_protein.core.labels import ANY, own_code
from cvae_protein.dataset.select import COLUMNS, name_folds, select_domains


def row(name, **values):
    full = {"domain_id": name, "pdb_id": "1abc", "chain": "A", "residue_range": "1-100", "cath": "1.10.8.10"}
    return {**full, "scope": "a.4.1.1", "role": "unique", "n_residues": "100", **values}


def select(tmp_path, rows, **settings):
    table = tmp_path / "table.tsv"
    write_table(table, list(rows[0]), rows)
    chosen = LabelSettings(**{"table": str(table), "min_members": 1, **settings})
    count = select_domains(chosen, tmp_path / "domains.tsv", tmp_path / "rejected.tsv")
    kept, dropped = (
        read_table(tmp_path / "domains.tsv", COLUMNS),
        read_table(tmp_path / "rejected.tsv", REJECTED_COLUMNS),
    )
    assert count == len(kept)
    assert count + len(dropped) == len(rows)
    return kept, {r["domain_id"]: r["reason"] for r in dropped}


def test_columns_and_label(tmp_path):
    kept, dropped = select(tmp_path, [row("a"), row("b", cath="3.40.50.300", pdb_id="2XYZ")])
    assert [(r["domain_id"], r["label"], r["pdb_id"]) for r in kept] == [
        ("a", "1.10.8.10", "1abc"),
        ("b", "3.40.50.300", "2xyz"),
    ]
    assert list(kept[0]) == list(COLUMNS)
    assert kept[0]["group"] == kept[0]["method"] == ""
    assert dropped == {}


@pytest.mark.parametrize(
    ("values", "settings", "reason"),
    [
        ({"domain_id": "../../etc/passwd"}, {}, "bad_id"),
        ({"domain_id": ""}, {}, "bad_id"),
        ({"domain_id": ".hidden"}, {}, "bad_id"),
        ({"domain_id": "a b"}, {}, "bad_id"),
        ({"domain_id": "a/b"}, {}, "bad_id"),
        ({"domain_id": "é"}, {}, "bad_id"),
        ({"domain_id": "x" * 100}, {}, "bad_id"),
        ({"pdb_id": "../1abc"}, {}, "bad_id"),
        ({"pdb_id": ""}, {}, "bad_id"),
        ({"domain_id": "good"}, {}, "duplicate_id"),
        ({"cath": ""}, {}, "unlabelled"),
        ({"cath": "3.x.1.1"}, {}, "unlabelled"),
        ({"cath": "3.40"}, {}, "unlabelled"),
        ({"cath": "1.10.8"}, {"depth": 4}, "unlabelled"),
        ({"scope": "1.10.8.10"}, {"scheme": "scope", "classes": ("a",)}, "unlabelled"),
        ({"cath": "4.10.8.10"}, {}, "class_not_selected"),
        ({"cath": "2.10.8.10"}, {"min_members": 2, "classes": ("1", "2")}, "rare_class"),
        ({"n_residues": "39"}, {}, "too_short"),
        ({"n_residues": "257"}, {}, "too_long"),
        ({"residue_range": "100-1"}, {}, "bad_range"),
        ({"residue_range": "A:1-100"}, {}, "bad_range"),
    ],
)
def test_each_reason(tmp_path, values, settings, reason):
    rows = [row("good"), row("fine"), row(**{"name": "bad", **values})]
    kept, dropped = select(tmp_path, rows, **settings)
    assert [r["domain_id"] for r in kept] == ["good", "fine"]
    assert list(dropped.values()) == [reason]


def test_what_a_range_counts_is_kept(tmp_path):
    rows = [row(name, numbering=name) for name in ("author", "label", "seqres")]
    rows += [row("inserted", numbering="label", residue_range="5A-9")]
    kept, dropped = select(tmp_path, rows)
    assert [each["numbering"] for each in kept] == ["author", "label"]
    assert dropped == {"seqres": "bad_range", "inserted": "bad_range"}
    assert [each["numbering"] for each in select(tmp_path, [row("a")])[0]] == [""]


def test_codes_that_end_at_the_topology_are_labels(tmp_path):
    kept, _ = select(tmp_path, [row("a", cath="1.10.8")])
    assert kept[0]["label"] == "1.10.8"


def test_scope_labels(tmp_path):
    kept, dropped = select(tmp_path, [row("a"), row("b", scope="g.3.1.1")], scheme="scope", classes=("a",))
    assert [r["label"] for r in kept] == ["a.4.1.1"]
    assert dropped == {"b": "class_not_selected"}


def test_no_classes_keeps_everything(tmp_path):
    rows = [row("a"), row("b", cath=""), row("c", cath="6.10.8.10")]
    kept, dropped = select(tmp_path, rows, classes=())
    assert [r["label"] for r in kept] == ["1.10.8.10", "", "6.10.8.10"]
    assert dropped == {}


def test_without_a_length_column_no_length_is_judged(tmp_path):
    rows = [{key: value for key, value in row("a", n_residues="3").items() if key != "n_residues"}]
    assert len(select(tmp_path, rows)[0]) == 1
    assert len(select(tmp_path, [row("a", n_residues="?")])[0]) == 1


def test_alternative_conformers_do_not_make_a_class_common(tmp_path):
    rows = [row("a"), row("b"), row("c", cath="2.10.8.10"), row("d", cath="2.10.8.10", role="alternative")]
    _, dropped = select(tmp_path, rows, min_members=2)
    assert dropped == {"c": "rare_class", "d": "rare_class"}


def test_clear_errors(tmp_path):
    with pytest.raises(UserError, match=r"1 class_not_selected; labels.classes: 3"):
        select(tmp_path, [row("a")], classes=("3",))
    with pytest.raises(UserError, match="role 'other'"):
        select(tmp_path, [row("a", role="other")])
    (tmp_path / "short.tsv").write_text("domain_id\tpdb_id\nx\t1abc\n")
    with pytest.raises(UserError, match="chain, residue_range not found"):
        select_domains(LabelSettings(table=str(tmp_path / "short.tsv")), tmp_path / "d", tmp_path / "r")


def test_table_of_a_spreadsheet(tmp_path):
    text = "domain_id\tpdb_id\tchain\tresidue_range\tcath\r\na\t1abc\tA\t1-100\t1.10.8.10\r\n\r\n"
    (tmp_path / "t.tsv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    settings = LabelSettings(table=str(tmp_path / "t.tsv"), min_members=1)
    assert select_domains(settings, tmp_path / "d.tsv", tmp_path / "r.tsv") == 1


@pytest.mark.parametrize("name", ["1abcA00", "d1abca_", "AF-P12345-F1-model_v4", "d1n13.4", "x+1"])
def test_usual_ids_are_safe(name):
    assert not unsafe(name)


# Filters


def member(name, **values):
    return row(name, **{"resolution": "2.0", "method": "X-ray", "group": "", "s35": "", **values})


@pytest.mark.parametrize(
    ("values", "settings", "reason"),
    [
        ({"resolution": "2.51"}, {"max_resolution": 2.5}, "low_resolution"),
        ({"resolution": ""}, {"max_resolution": 2.5}, "low_resolution"),
        ({"resolution": "nan"}, {"max_resolution": 2.5}, "low_resolution"),
        ({"resolution": "0"}, {"max_resolution": 2.5}, "low_resolution"),
        ({"method": "NMR"}, {"methods": ("X-ray", "EM")}, "other_method"),
        ({"method": ""}, {"methods": ("X-ray",)}, "other_method"),
    ],
)
def test_filters_by_quality(tmp_path, values, settings, reason):
    rows = [member("good"), member("edge", resolution="2.5", method="X-RAY DIFFRACTION"), member("bad", **values)]
    kept, dropped = select(tmp_path, rows, **settings)
    assert [r["domain_id"] for r in kept] == ["good", "edge"]
    assert dropped == {"bad": reason}


def test_without_a_limit_any_resolution_passes(tmp_path):
    assert len(select(tmp_path, [member("a", resolution=""), member("b", resolution="9")])[0]) == 2


def test_one_domain_a_cluster_the_best_resolved(tmp_path):
    rows = [
        member("a", s35="c1"),
        member("b", s35="c1", resolution="1.5"),
        member("c", s35="c1", resolution="1.5"),
        member("d", s35="c2", resolution=""),
        member("e", s35="c2", n_residues="20", resolution="1.0"),
        member("f"),
        member("g"),
    ]
    kept, dropped = select(tmp_path, rows, redundancy="s35")
    assert [r["domain_id"] for r in kept] == ["b", "d", "f", "g"]
    assert dropped == {"a": "redundant", "c": "redundant", "e": "too_short"}


def test_clusters_that_the_table_does_not_tell(tmp_path):
    with pytest.raises(UserError, match=r"no s60 clusters.*labels\.max_per_cluster"):
        select(tmp_path, [member("a", s35="c1")], redundancy="s60")


def test_superfamilies_are_capped_by_resolution(tmp_path):
    rows = [
        member("a", resolution="3.0"),
        member("b", resolution=""),
        member("c", resolution="1.0"),
        member("d", resolution="3.0"),
        member("e", cath="1.10.8.20", resolution=""),
        member("f", cath="1.10.8"),
    ]
    kept, dropped = select(tmp_path, rows, max_per_superfamily=2)
    assert [r["domain_id"] for r in kept] == ["a", "c", "e", "f"]
    assert dropped == {"b": "superfamily_full", "d": "superfamily_full"}


def test_scope_superfamilies_have_three_levels(tmp_path):
    rows = [member("a", scope="a.4.1.1"), member("b", scope="a.4.1.2"), member("c", scope="a.4.2.1")]
    kept, _ = select(tmp_path, rows, scheme="scope", classes=("a",), max_per_superfamily=1)
    assert [r["domain_id"] for r in kept] == ["a", "c"]


def test_alternatives_go_and_stay_with_their_unique_domain(tmp_path):
    rows = [
        member("a", group="g1", s35="c1"),
        member("a2", group="g1", s35="c1", role="alternative", resolution="0.9"),
        member("b", group="g2", s35="c1", resolution="1.0"),
        member("b2", group="g2", s35="c1", role="alternative"),
        member("x", group="g9", role="alternative"),
    ]
    for settings in ({"redundancy": "s35"}, {"max_per_superfamily": 1}):
        kept, dropped = select(tmp_path, rows, **settings)
        assert [r["domain_id"] for r in kept] == ["b", "b2", "x"]
        assert set(dropped) == {"a", "a2"}
        assert len(set(dropped.values())) == 1


def test_an_alternative_stays_while_any_unique_domain_of_its_group_does(tmp_path):
    rows = [member("a", group="g", s35="c", resolution="1.0"), member("b", group="g", s35="c")]
    kept, dropped = select(tmp_path, [*rows, member("x", group="g", role="alternative")], redundancy="s35")
    assert [r["domain_id"] for r in kept] == ["a", "x"]
    assert dropped == {"b": "redundant"}


def test_classes_are_counted_after_the_caps(tmp_path):
    rows = [member("a"), member("b"), member("c", cath="2.10.8.10"), member("d", cath="2.20.8.10")]
    _, dropped = select(tmp_path, rows, max_per_superfamily=1, min_members=2)
    assert dropped == {"a": "rare_class", "b": "superfamily_full"}


def test_the_choice_does_not_depend_on_the_order_where_resolutions_differ(tmp_path):
    rows = [member(f"d{k}", resolution=str(1 + k / 10), s35=f"c{k % 3}") for k in range(9)]
    first, _ = select(tmp_path, rows, redundancy="s35")
    second, _ = select(tmp_path, rows[::-1], redundancy="s35")
    assert {r["domain_id"] for r in first} == {r["domain_id"] for r in second} == {"d0", "d1", "d2"}


def test_scheme_cluster_needs_no_label_and_no_class(tmp_path):
    rows = [row("a"), row("b", cath="", scope=""), row("c", cath="no code")]
    kept, dropped = select(tmp_path, rows, scheme="cluster", min_members=50)
    assert [(r["domain_id"], r["label"], r["cath"]) for r in kept] == [
        ("a", "", "1.10.8.10"),
        ("b", "", ""),
        ("c", "", "no code"),
    ]
    assert dropped == {}


def test_own_labels(tmp_path):
    rows = [row("a", label="kinase"), row("b", label="β barrel.small"), row("c", label=""), row("d", label="x..y")]
    kept, dropped = select(tmp_path, rows, scheme="own", classes=())
    assert [r["label"] for r in kept] == ["kinase", own_code("β barrel.small")]
    assert dropped == {"c": "unlabelled", "d": "unlabelled"}
    kept, dropped = select(tmp_path, rows, scheme="own", classes=("β barrel",))
    assert [r["domain_id"] for r in kept] == ["b"]
    assert dropped["a"] == "class_not_selected"
    settings = LabelSettings(table=str(tmp_path / "table.tsv"), scheme="own")
    name_folds(tmp_path / "domains.tsv", settings, tmp_path / "names.tsv")
    names = {r["code"]: r["name"] for r in read_table(tmp_path / "names.tsv")}
    assert names == {own_code("β barrel"): "β barrel", own_code("β barrel.small"): "β barrel.small"}


def test_one_class_for_all(tmp_path):
    kept, _ = select(tmp_path, [row("a", cath=""), row("b", cath="9.9.9.9")], scheme="none", min_members=2)
    assert {r["label"] for r in kept} == {ANY}


def test_what_to_change_where_nothing_is_labelled(tmp_path):
    with pytest.raises(UserError, match=r"2 unlabelled.*set labels\.scheme to own .*none .*or cluster"):
        select(tmp_path, [row("a", cath=""), row("b", cath="")])


@pytest.mark.parametrize("members", [["4ake.cif.gz_A", "1a0n_MODEL_1_B", "x1"], ["4ake_A", "1a0n_B.pdb", "x1.pdb"]])
def test_clusters_of_foldseek_are_superfamilies(tmp_path, members):
    rows = [row("4akeA01", pdb_id="4ake"), row("d2", pdb_id="1a0n", chain="B"), row("x1", pdb_id="other"), row("alone")]
    rows = [{**each, "superfamily": "mine"} for each in rows]
    (tmp_path / "c.tsv").write_text("".join(f"rep{i % 2}\t{name}\n" for i, name in enumerate(["zzz", *members])))
    kept, _ = select(tmp_path, rows, superfamilies=str(tmp_path / "c.tsv"))
    assert [r["superfamily"] for r in kept] == ["rep1", "rep0", "rep1", "mine"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\ta\nb\ta\n", "line 2: a is in two clusters, of a and b"),
        ("a a\n", "line 1: expected representative and member of a cluster, got 'a a'"),
        ("q\tq\n", "expected members such as a, found none of 1 domains"),
    ],
)
def test_tables_of_clusters_that_are_none(tmp_path, text, said):
    (tmp_path / "c.tsv").write_text(text)
    with pytest.raises(UserError, match=said):
        select(tmp_path, [row("a")], superfamilies=str(tmp_path / "c.tsv"))
