"""What a stranger's file, a stranger's server or a careless line of code could do, and does not.

Redirects, addresses and sizes of downloads are tested in test_download.py, damaged and monstrous files in
test_bad_input.py and tests/property/test_fuzz_files.py.
"""

import ast
import gzip
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import gemmi
import numpy as np
import pytest
from synthetic import chain_lines, helix

from cvae_protein.cli.main import run
from cvae_protein.core import files
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.core.structure import Backbone
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import write_store

ROOT = Path(__file__).parents[2]
CODE = [
    path
    for folder in ("cvae_protein", "benchmarks", "experiments", "tools", "data", "tests")
    for path in (ROOT / folder).rglob("*.py")
]
OWN = [path for path in CODE if not path.is_relative_to(ROOT / "tests")]
HOSTILE = [
    "../../escaped",
    "/tmp/escaped",
    "$(touch escaped)",
    "`touch escaped`; touch escaped #",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "{{ 7 * 7 }}",
    "-rf",
    "a\0b",
    "\x1b[2J",
    "A" * 1_000_000,
]
COLUMNS = ("domain_id", "pdb_id", "chain", "residue_range", "cath", "group", "method")


class Tags(HTMLParser):
    """Counts the elements that could act, and the attributes that could."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.handlers += [name for name, value in attrs if name == "onerror" or (value or "").startswith("javascript:")]


def structure_with_chain(name: str) -> str:
    """An mmCIF file whose one chain has any name."""
    structure = gemmi.read_pdb_string("\n".join([*chain_lines(helix(30)), "END"]))
    structure[0][0].name = name.replace("\0", "")
    structure.setup_entities()
    return structure.make_mmcif_document().as_string()


def page_of(folder: Path) -> Tags:
    """The report on a folder, read as a browser reads it."""
    (folder / "models/pca").mkdir(parents=True, exist_ok=True)  # a variant of which nothing is there is refused
    arguments = ["report", "--results", str(folder), "--variants", "pca", "--settings", "{}"]
    assert run([*arguments, "-o", str(folder / "report.html")]) == 0
    page = Tags()
    page.feed((folder / "report.html").read_text())
    return page


@pytest.mark.parametrize("values", [HOSTILE[:-1], HOSTILE[-1:]], ids=["texts", "a megabyte"])
def test_hostile_values_through_the_whole_path(tmp_path, monkeypatch, values):
    """As domain id, entry, chain, range, label, group, method, name of a fold and title: nothing but rows and text."""
    monkeypatch.chdir(tmp_path)
    mirror, out = tmp_path / "mirror", tmp_path / "out"
    mirror.mkdir()
    (mirror / "1abc.cif").write_text(structure_with_chain("A"))
    good = ("good1", "1abc", "A", "", "1.10.8.10", "g", "x-ray")
    table, names, odd = [COLUMNS, good], ["code\tname"], []
    for number, value in enumerate(values):
        entry, label = f"2ab{number}", f"1.10.8.{number + 10}"
        (mirror / f"{entry}.cif").write_text(structure_with_chain(value))
        odd.append(f"odd{number}")
        table.append((odd[-1], entry, value, "", label, value, value))
        table += [(*good[:place], value, *good[place + 1 :]) for place in range(5)]
        names += [f"{label}\t{value}", f"{number + 1}\t{value}"]
    (tmp_path / "table.tsv").write_text("\n".join("\t".join(row) for row in table) + "\n")
    (tmp_path / "names.tsv").write_text("\n".join(names) + "\n")
    own = {"table": "table.tsv", "names": "names.tsv", "min_members": 1, "min_length": 20, "max_length": 100}
    labels = json.dumps(own)
    made = ["--domains", "out/domains.tsv"]
    files_of = ["--entries", "out/entries.tsv", "--label-settings", labels]
    stages = [
        ["select", "--settings", labels, "-o", "out/domains.tsv", "--rejected", "out/rejected/select.tsv"],
        ["fold-names", *made, "--settings", labels, "-o", "out/fold_names.tsv"],
        ["fetch", *made, "--settings", '{"sources": ["mirror"]}', "-o", "out/entries.tsv", "--rejected", "out/f.tsv"],
        ["featurize", *made, *files_of, "-o", "out/0.h5", "--rejected", "out/b.tsv"],
        [
            *("merge", "out/0.h5", "out/rejected/select.tsv", "out/f.tsv", "out/b.tsv"),
            *("-o", "out/domains.h5", "--rejected", "out/rejected.tsv"),
        ],
        ["export", "--store", "out/domains.h5", "-o", "out/domains.cif"],
        ["export", "--store", "out/domains.h5", "-o", "out/domains.pdb"],
    ]
    for stage in stages:
        assert run(stage) == 0, stage[0]
    with Store("out/domains.h5") as store:
        assert set(store.ids) <= {"good1", *odd, "A" * 80}
    assert (out / "rejected.tsv").stat().st_size < 100_000 * len(values)
    for row in read_table(out / "rejected.tsv"):
        assert row["detail"].isprintable()
        assert row["domain_id"].isprintable()
    page = page_of(out)
    assert page.scripts == page_of(tmp_path / "empty").scripts
    assert page.handlers == []
    assert "49" not in re.findall(r"\b49\b", (out / "fold_names.tsv").read_text())
    expected = {"mirror", "out", "table.tsv", "names.tsv", "empty"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert not list(tmp_path.rglob("*escaped*"))
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize("value", HOSTILE[:-1], ids=repr)
def test_a_stranger_s_store_writes_nothing_outside(tmp_path, monkeypatch, value):
    """Ids and labels of a store that somebody sent: exported, they name no path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    value = value.replace("\0", "")
    chain = Backbone(value, "A" * 30, helix(30)[None].astype(np.float32), tuple(map(str, range(1, 31))))
    facts = {"label": value, "variant": value, "seed": 0}
    write_store("x.h5", [Entry(chain, facts)], compression="gzip")
    for name in ("x.pdb", "x.cif", "x.xtc"):
        assert run(["export", "--store", "x.h5", "-o", name]) in (0, 1)
    run(["export", "--store", "x.h5", "-o", "y.pdb", "--by-length"])
    allowed = {"x.h5", "x.pdb", "x.cif", "x.xtc", "y-L30.pdb"}
    records = {f".{name}.made.json" for name in allowed}
    assert {path.name for path in (tmp_path / "work").iterdir()} <= allowed | records
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_a_table_that_unpacks_to_one_endless_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 1 << 20)
    (tmp_path / "bomb.tsv.gz").write_bytes(gzip.compress(b"0" * (8 << 20)))
    with pytest.raises(UserError, match="a line of more than"):
        list(files.lines_of(tmp_path / "bomb.tsv.gz"))
    (tmp_path / "fine.tsv.gz").write_bytes(gzip.compress((b"0" * 999_999 + b"\n") * 8))
    assert len(list(files.lines_of(tmp_path / "fine.tsv.gz"))) == 8


# --- what the code may not do


UNPICKLING = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "jsonpickle"}
FORBIDDEN = {
    "eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.load",
    "torch.save", "tempfile.mktemp", "subprocess.getoutput", "subprocess.getstatusoutput", "pd.read_pickle",
}  # fmt: skip


def calls(path: Path):
    """Dotted name, line and keywords of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            yield ast.unparse(node.func), node.lineno, keywords


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_neither_unpickles_nor_calls_a_shell(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not UNPICKLING & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in UNPICKLING
    for name, line, keywords in calls(path):
        # The weights of others' packages may be pickles; of them torch reads tensors alone where it is told to.
        tensors_alone = name == "torch.load" and ast.unparse(keywords.get("weights_only", ast.Constant(None))) == "True"
        assert name not in FORBIDDEN or tensors_alone, f"line {line}"
        assert "shell" not in keywords, f"line {line}: a command is a list of words"
        assert "allow_pickle" not in keywords, f"line {line}"
        assert "verify" not in keywords, f"line {line}: certificates are always checked"
        assert not name.endswith(".extractall"), f"line {line}: where would it write?"


def test_http_goes_by_one_door():
    """One file of the package asks servers; its certificates, redirects and addresses are tested with it."""
    client = re.compile(r"^\s*(import|from) (httpx|requests|urllib3|urllib\.request|http\.client|aiohttp)\b", re.M)
    users = {
        path.name for path in OWN if path.is_relative_to(ROOT / "cvae_protein") and client.search(path.read_text())
    }
    assert users == {"download.py"}


RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))
# Wildcards are held to letters and digits by `wildcard_constraints`; the others are numbers or made by the workflow.
UNQUOTED = re.compile(
    r"\{(threads|wildcards\.(variant|seed|batch)|params\.(batch|depth|scheme|variants|seeds|\w*jobs)|resources\.\w+)\}"
)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_what_enters_a_shell_is_quoted(path):
    shells = re.findall(r"^    shell:\n((?:        .*\n)+)", path.read_text(), re.M)
    for given in re.findall(r"(?<!\{)\{[a-z][^{}]*\}", "".join(shells)):
        assert given.endswith(":q}") or UNQUOTED.fullmatch(given), f"{path.name}: {given} enters the shell unquoted"


def test_wildcards_hold_nothing_but_letters_and_digits():
    text = (ROOT / "workflow/Snakefile").read_text()
    for name, pattern in (("batch", r"\d+"), ("seed", r"\d+"), ("variant", "[a-z][a-z0-9_]*")):
        assert f'{name}=r"{pattern}"' in text


# --- dependencies


def pinned() -> dict[str, str]:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line) for line in lines)
    return dict(line.split("==") for line in lines)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_to_one_version():
    names = {plain(name) for name in pinned()}
    text = (ROOT / "pyproject.toml").read_text()
    asked = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)[1]
    for requirement in re.findall(r'"([A-Za-z0-9_.-]+)', asked):
        assert plain(requirement) in names


def test_every_pinned_package_has_its_licence_listed():
    listed = dict(re.findall(r"^\| ([\w.-]+) \| ([^|]+?) \|", (ROOT / "docs/licences.md").read_text(), re.M))
    for name, version in pinned().items():
        assert listed.get(name) == version, f"{name}: run `make licences`"
    for licence in re.findall(r"^\| [\w.-]+ \| [^|]+ \| ([^|]*?) \|$", (ROOT / "docs/licences.md").read_text(), re.M):
        assert licence


def test_no_secret_and_no_key_is_tracked():
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("no checkout")
    assert not [name for name in found.stdout.split() if re.search(r"\.(pem|key|p12|env)$|id_rsa|\.netrc", name)]
