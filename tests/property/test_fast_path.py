"""The fast mmCIF reader gives what the reader of all forms gives, or leaves the file to it, also of damaged files."""

import gzip
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvae_protein.core.errors import StructureError
from cvae_protein.io import mmcif, residues
from cvae_protein.io.residues import group_residues

ROOT = Path(__file__).parents[2]
EMBEDDED = sorted((ROOT / "data/embedded").glob("*/*.cif.gz"))
SMALL = [ROOT / "tests/data/1ubi.cif.gz", ROOT / "tests/data/1ejg.cif.gz", ROOT / "data/embedded/le/2lep.cif.gz"]
SIGNS = st.sampled_from([*" \n\t\r.?-+'\"#_;$[]~|0158AEHNXaé\0", "loop_\n", "data_x\n", "_a.b c\n", "\n;\n", "\n\n"])


def whole(data):
    """What the reader of all forms makes of the text, or the reason why not."""
    try:
        return group_residues(mmcif.read_blocks(data, "x"), "x")
    except StructureError as error:
        return error.code
    except (ValueError, RuntimeError, IndexError, OverflowError):  # as in `read_structure`
        return "not_a_structure"


def fast(data):
    """What the fast path makes of it, None where it leaves it to the other."""
    atoms = mmcif.read_columns(data)
    try:
        return atoms and group_residues(atoms, "x")
    except StructureError as error:
        return error.code


def assert_same(found, expected):
    if isinstance(found, str) or isinstance(expected, str):
        assert found == expected
        return
    for field in fields(expected):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name), field.name)


@pytest.mark.parametrize("part", range(5))
def test_every_embedded_file_is_read_fast_and_alike(part):
    for path in EMBEDDED[part::5]:
        data = gzip.decompress(path.read_bytes())
        found = fast(data)
        assert found is not None, path.name
        assert_same(found, whole(data))


@pytest.mark.parametrize("block", [2000, 4567])
def test_blocks_are_joined(monkeypatch, block):
    data = gzip.decompress(SMALL[1].read_bytes())
    expected = fast(data)
    monkeypatch.setattr(mmcif, "BLOCK", block)
    assert_same(fast(data), expected)


def parted(data):
    """Lines of a file before its table of atoms, the cells of that table, and lines behind it."""
    lines = data.decode().splitlines()
    head = lines.index(next(line for line in lines if line.startswith("_atom_site.")))
    first = head + next(i for i, line in enumerate(lines[head:]) if not line.startswith("_atom_site."))
    last = first
    while last < len(lines) and lines[last][:1].isalnum():
        last += 1
    return lines[:first], [line.split() for line in lines[first:last]], lines[last:]


def padded(data):
    """The same file as the archive writes it: columns of one width, left-aligned."""
    before, table, behind = parted(data)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = ["".join(f"{cell:<{width + 1}}" for cell, width in zip(row, widths, strict=True)) for row in table]
    return "\n".join([*before, *rows, "#", *behind, ""]).encode()


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.name)
def test_padded_columns(path):
    data = padded(gzip.decompress(path.read_bytes()))
    found = fast(data)
    assert found is not None
    assert_same(found, whole(data))


@pytest.mark.parametrize(
    "behind", ["#\n. 7\n", "#\n# more\n\nATOM\n", "# a\nloop_x\n", "#", "#\n_a.b 7\n", "loop_\n_a.b\n7\n"]
)
def test_values_behind_a_comment_belong_to_the_rows(behind):
    data = gzip.decompress(SMALL[0].read_bytes()) + behind.encode()
    found = fast(data)
    if found is not None:
        assert_same(found, whole(data))
    if "_a.b" in behind:
        assert found is not None


TEXTS = [gzip.decompress(path.read_bytes())[:12000].rsplit(b"\n", 1)[0] + b"\n" for path in SMALL]
TEXTS += [padded(text) for text in TEXTS]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(TEXTS),
    st.lists(st.tuples(st.floats(0, 1), SIGNS, st.integers(0, 3)), min_size=1, max_size=3),
)
def test_damaged_text_is_read_alike_or_left(data, damages):
    for place, sign, removed in damages:
        at = int(place * len(data))
        data = data[:at] + sign.encode() + data[at + removed :]
    found = fast(data)
    if found is not None:
        assert_same(found, whole(data))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TEXTS), st.integers(0, 400), st.integers(0, 400), st.booleans())
def test_moved_lines_are_read_alike_or_left(data, source, target, keep):
    lines = data.splitlines(keepends=True)
    line = lines[source % len(lines)]
    if not keep:
        lines.remove(line)
    lines.insert(target % len(lines), line)
    data = b"".join(lines)
    found = fast(data)
    if found is not None:
        assert_same(found, whole(data))


GAPS = (" ", "  ", "\t", "\n", "\n\n", " \n ", " # told\n", "\n# ATOM 1 CA\n")
FORMS = ("{}", "'{}'", '"{}"', "' {} '", "\n;{}\n;")  # of a cell; what is `.` or `?` means another thing in quotes
TABLES = [(before, rows[:50], behind) for before, rows, behind in map(parted, TEXTS[:3])]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2),
    st.lists(st.sampled_from(GAPS), min_size=1, max_size=4),
    st.lists(st.sampled_from(FORMS), min_size=1, max_size=4),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_rows_are_read_however_their_cells_are_packed(which, gaps, forms, strides):
    """Several rows a line and several lines a row, cells in quotes or as text of their own, comments in between."""
    before, rows, behind = TABLES[which]
    expected = whole("\n".join([*before, *map(" ".join, rows), *behind, ""]).encode())
    assert not isinstance(expected, str)
    text, place = "", 0
    for number, cell in enumerate(cell for row in rows for cell in row):
        gap, form = "\n" if number % len(rows[0]) == 0 else " ", "{}"
        if number == place:  # the others are as usual
            place += strides[number % len(strides)]
            gap, form = gaps[number % len(gaps)], forms[number % len(forms)] if cell not in (".", "?") else "{}"
        text += gap + form.format(cell)
    data = "\n".join([*before, text.lstrip(), *behind, ""]).encode()
    assert_same(whole(data), expected)
    if (found := fast(data)) is not None:
        assert_same(found, expected)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.from_regex(r"-?([0-9]{1,7}|[0-9]{0,3}\.[0-9]{1,3}|[0-9]{1,6}\.)", fullmatch=True), min_size=1))
def test_numbers_are_exact(texts):
    words = np.array([text.encode() for text in texts], "S8").view("<u8")
    values, has_point = mmcif.read_numbers(words)
    np.testing.assert_array_equal(values, [float(text) for text in texts])
    assert has_point.tolist() == ["." in text for text in texts]


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789.-+eE xX?/:", min_size=1, max_size=8))
def test_what_is_no_plain_number_is_left(text):
    word = np.array([text.encode()], "S8").view("<u8")
    try:
        (value,), _ = mmcif.read_numbers(word)
    except residues.UnusualError:
        return
    assert value == float(text)
