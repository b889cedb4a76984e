"""Damaged files: whatever the bytes, features or a reason code come out, in bounded time and memory, and no CA is lost.

`FUZZ_EXAMPLES=20000 pytest tests/property/test_fuzz_files.py` runs more mutations than the few of every test run.
"""

import gzip
import io
import os
import resource
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from ca_lines import ca_lines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvae_protein.config.settings import FeaturizeSettings, LabelSettings
from cvae_protein.core.errors import REASONS, StructureError
from cvae_protein.core.files import read_table
from cvae_protein.core.structure import CA
from cvae_protein.dataset.featurize import featurize_folder
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.io.write import write_pdb
from cvae_protein.store.read import Store

ROOT = Path(__file__).parents[2]
REAL = {
    "1ubi": ROOT / "tests/data/1ubi.cif.gz",  # one chain
    "1ejg": ROOT / "tests/data/1ejg.cif.gz",  # alternative locations and residue types
    "2lep": ROOT / "data/embedded/le/2lep.cif.gz",
}
FORMATS = ("cif", "pdb", "cif.gz", "bcif")
SPAN = 300  # bytes that one mutation cuts or repeats at most
MORE_MEMORY = 4 * 2**30  # bytes that the reading of a file of 100 kB may ask for

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "40")),
    deadline=timedelta(seconds=20),
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


# --- mutations: (content, place, second place, inserted bytes) -> content; places are shares of the length


def flip(content, place, other, _):
    index = int(place * (len(content) - 1))
    return content[:index] + bytes([content[index] ^ (1 << int(other * 7))]) + content[index + 1 :]


def delete(content, place, other, _):
    index = int(place * len(content))
    return content[:index] + content[index + 1 + int(other * SPAN) :]


def duplicate(content, place, other, _):
    index = int(place * len(content))
    part = content[index : index + 1 + int(other * SPAN)]
    return content[:index] + part * (2 + int(other * 20)) + content[index:]


def truncate(content, place, _, __):
    return content[: int(place * len(content))]


def insert(content, place, _, inserted):
    index = int(place * len(content))
    return content[:index] + inserted + content[index:]


def overwrite(content, place, _, inserted):
    """Same length, so that the columns of the PDB format stay in place."""
    index = int(place * len(content))
    return content[:index] + inserted + content[index + len(inserted) :]


def replace_word(content, place, _, inserted):
    start = content.rfind(b" ", 0, int(place * len(content))) + 1
    end = min((found for sign in b" \n" if (found := content.find(bytes([sign]), start)) >= 0), default=len(content))
    return content[:start] + inserted + content[end:]


def swap_words(content, place, other, _):
    """Two words of one line, as where somebody's script wrote the columns in another order."""
    start = content.rfind(b"\n", 0, int(place * len(content))) + 1
    end = content.find(b"\n", start) if b"\n" in content[start:] else len(content)
    words = content[start:end].split(b" ")
    first, second = int(other * (len(words) - 1)), len(words) // 2
    words[first], words[second] = words[second], words[first]
    return content[:start] + b" ".join(words) + content[end:]


def swap_columns(content, place, other, _):
    """Eight bytes of every atom line with another eight."""
    a, b = sorted((int(place * 70), int(other * 70)))
    lines = content.split(b"\n")
    for index, line in enumerate(lines):
        if line.startswith((b"ATOM", b"HETATM")) and b - a >= 8:
            lines[index] = line[:a] + line[b : b + 8] + line[a + 8 : b] + line[a : a + 8] + line[b + 8 :]
    return b"\n".join(lines)


def move_line(content, place, other, _):
    lines = content.split(b"\n")
    line = lines.pop(int(place * (len(lines) - 1)))
    lines.insert(int(other * len(lines)), line)
    return b"\n".join(lines)


MUTATIONS = (
    flip,
    delete,
    duplicate,
    truncate,
    insert,
    overwrite,
    replace_word,
    swap_words,
    swap_columns,
    move_line,
)
INSERTED = (
    *(b"\0", b"\n", b"\r\n", b"\r", b"\t", b" ", b"\xff\xfe", b"\xef\xbb\xbf", b"'", b'"', b"\n;\n", b"#", b"?", b"."),
    *(
        b"nan",
        b"inf",
        b"-inf",
        b"1e308",
        b"-1e30",
        b"9" * 400,
        b"-2147483648",
        b"4294967296",
        b"0x10",
        b"--1",
        b"1.2.3",
    ),
    *(b"loop_", b"data_", b"save_x", b"stop_", b"global_", b"\nloop_\n_atom_site.id\n", b"\ndata_y\n", b"_atom_site.x"),
    *(b"\nMODEL        1\n", b"\nENDMDL\n", b"\nTER\n", b"\nEND\n", b"\nATOM\n", b"HETATM", b"ZZZ", b"CA", b"A" * 200),
    *(b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdd\x7f\xff\xff\xff"),  # lengths in MessagePack
)
SHARES = st.floats(0, 1)
DAMAGES = st.lists(
    st.tuples(st.sampled_from(MUTATIONS), SHARES, SHARES, st.sampled_from(INSERTED)), min_size=1, max_size=6
)


def damaged(content, damages):
    for mutation, place, other, inserted in damages:
        if content:
            content = mutation(content, place, other, inserted)
    return content


# --- the files to damage


def binary_cif(text):
    """BinaryCIF, written by a library of its own, with the encodings that the archive uses."""
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    source, target = pdbx.CIFFile.read(io.StringIO(text)), pdbx.BinaryCIFFile()
    for name, block in source.items():
        target[name] = pdbx.BinaryCIFBlock(
            {
                category: pdbx.BinaryCIFCategory({key: column.as_array() for key, column in block[category].items()})
                for category in block
            }
        )
    file = io.BytesIO()
    pdbx.compress(target).write(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Bytes by format and entry."""
    folder = tmp_path_factory.mktemp("contents")
    made = {}
    for name, path in REAL.items():
        text = gzip.decompress(path.read_bytes())
        structure = read_structure(path)
        write_pdb([extract_domain(structure, structure.chains[0], "", name)], folder / "x.pdb")
        made["cif", name] = text
        made["pdb", name] = (folder / "x.pdb").read_bytes()
        made["cif.gz", name] = path.read_bytes()
        made["bcif", name] = binary_cif(text.decode())
    return made


@pytest.fixture
def bounded_memory():
    """Asking for far more memory than the file needs is a MemoryError, which fails the test."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    if pages is not None:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MORE_MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(folder, content, suffix):
    """Ids that were stored, and reasons with their sentences, of a file with these bytes."""
    path = folder / f"x.{suffix}"
    path.write_bytes(content)
    featurize_folder(
        path, FeaturizeSettings(), LabelSettings(min_length=10, max_length=4096), folder / "x.h5", folder / "x.tsv"
    )
    with Store(folder / "x.h5") as store:
        for row in range(len(store)):
            assert np.isfinite(store.coords(row)).any()
        return store.ids, [(row["reason"], row["detail"]) for row in read_table(folder / "x.tsv")]


@pytest.mark.parametrize("suffix", FORMATS)
def test_whole_files_are_read(tmp_path, contents, suffix):
    """What the fuzzing starts from is sound, so that a damage is what it meets."""
    for name in REAL:
        stored, dropped = outcome(tmp_path, contents[suffix, name], suffix)
        assert stored == ["x_A"]
        assert dropped == []


@fuzz
@given(st.data())
@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_file_gives_features_or_a_reason(tmp_path, contents, bounded_memory, suffix, data):
    name = data.draw(st.sampled_from(sorted(REAL)))
    content = damaged(contents[suffix, name], data.draw(DAMAGES))
    if suffix == "cif.gz" and data.draw(st.booleans()):
        content = gzip.compress(damaged(contents["cif", name], data.draw(DAMAGES)), 1)
    stored, dropped = outcome(tmp_path, content, suffix)
    assert stored or dropped
    for reason, detail in dropped:
        assert reason in REASONS
        assert detail
        assert "failed with" not in detail, detail  # a library's exception that nobody foresaw
    assert_nothing_lost(tmp_path / f"x.{suffix}")


def assert_nothing_lost(path):
    """Of a text that can be read, every line of a CA is read or counted."""
    try:
        found = read_structure(path)
    except StructureError:
        return
    read = int(np.isfinite(found.coords[:, CA, 0]).sum()) + found.alternates + found.ligands
    assert read >= len(ca_lines(path.read_bytes()))
