"""What readers of classifications have in common: a row, a row that cannot be used, and the lines of a text file."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..core.errors import UserError

LONGEST_LINE = 100 << 20  # letters; a file that unpacks to more in one line is no table
INSERTION = re.compile(r"\((\w)\)")


class Row(NamedTuple):
    """One domain as a classification tells it; all text, empty where it says nothing.

    `chain` and `residue_range` (`5-100,120-200`) are in author numbering. An empty range is the whole chain, None is
    not known. `resolution` is in Å, `n_residues` a count; `s35 s60 s95` name the sequence cluster at that identity.
    """

    domain_id: str
    pdb_id: str
    chain: str
    residue_range: str | None
    cath: str = ""
    scope: str = ""
    role: str = ""
    group: str = ""
    resolution: str = ""
    method: str = ""
    label: str = ""
    n_residues: str = ""
    s35: str = ""
    s60: str = ""
    s95: str = ""


class Problem(NamedTuple):
    """A row that cannot be used: a code of `errors.REASONS` and a sentence."""

    domain_id: str
    code: str
    detail: str


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is neither empty nor a comment (`#`); gzip is told by the content.

    Raises `UserError` where there is no file, where it is not text, or where compressed data are damaged or end early.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: expected a tab-separated table, a classification file or a folder, found no file there"
        )
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        opened = gzip.GzipFile(fileobj=file) if packed else file
        try:
            text_of = io.TextIOWrapper(opened, "utf-8-sig", errors="replace")
            for number, line in enumerate(iter(lambda: text_of.readline(LONGEST_LINE), ""), 1):
                if len(line) == LONGEST_LINE and line[-1] != "\n":
                    raise UserError(f"{path}, line {number}: a line of more than {LONGEST_LINE:,} letters")
                if number == 1 and "\0" in line:
                    raise UserError(f"{path}: binary data, expected text")
                if (text := line.rstrip("\r\n")) and not text.startswith("#") and not text.isspace():
                    yield number, text
        except EOFError as error:
            raise UserError(f"{path}: the compressed data end too early; get the file again") from error
        except (OSError, zlib.error) as error:
            raise UserError(f"{path}: damaged gzip data ({error}); get the file again") from error


def bad_row(number: int, expected: str, line: str) -> Problem:
    """The problem of a line that is not of its format."""
    cells = line.split(maxsplit=1)
    return Problem(cells[0] if cells else "", "bad_row", f"line {number}: expected {expected}, got {line[:80]!r}")


def author_range(text: str) -> str:
    """A range with commas between its segments and bare insertion codes: `1(A)-20_30-40` gives `1A-20,30-40`."""
    return INSERTION.sub(r"\1", text).replace("_", ",")


def columns_of(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]] | Problem]:
    """Line number and the cells of `columns` of each line of a tab-separated table, or the problem of a short line.

    Raises `UserError` where the header lacks a column.
    """
    lines = lines_of(path)
    header = next(lines, (0, ""))[1].split("\t")
    if missing := [name for name in columns if name not in header]:
        raise UserError(f"{path}: expected the columns {', '.join(columns)}; {', '.join(missing)} not found")
    places = [header.index(name) for name in columns]
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != len(header):
            yield bad_row(number, f"{len(header)} columns", line)
        else:
            yield number, [cells[place] for place in places]
