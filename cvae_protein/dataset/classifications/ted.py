"""Tables of TED, The Encyclopedia of Domains in the AlphaFold database, and of the programs used to make it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from sys import intern

from ...core.errors import UnusableDomain
from ...core.files import bad_row, lines_of
from ...core.labels import SCHEMES, truncate
from .domain import ClassifiedDomain

CHOPPING = r"\d+-\d+(?:_\d+-\d+)*"
DOMAIN = re.compile(r"(\S+?)(?:-model_v\d+)?_TED\d+")
SUMMARY = re.compile(rf"\S+_TED\d+\t\w{{32}}\t(high|medium)\t{CHOPPING}\t.*")
BOUNDARIES = re.compile(rf"\S+_TED\d+\t{CHOPPING}\t(high|medium)")
CHAIN = re.compile(r"\S+\t[0-9a-f]{32}\t\d+\t\d+\t[\w,-]+\t[\d.e-]+")
CONSENSUS = re.compile(r"\S+\t[0-9a-f]{32}\t\d+(\t\d+){3}(\t[\w,-]+){3}")
HEADER = ("ted_id", "chain_id", "target_id")
NONE = ("", "-", "na", "NULL", "0", "NO_SS")  # no domain or no label


def _entry(name: str) -> str:
    """The model of a chain, without the version of its file."""
    return re.sub(r"-model_v\d+$", "", name)


def _domain(name: str, entry: str, chopping: str, label: str = "", length: str = "") -> ClassifiedDomain:
    """A domain of chain A; in these models positions equal residue numbers."""
    found = [code for code in label.split(",") if code not in NONE]
    if len(found) > 1:  # of several assignments, keep the levels on which they agree
        shared = 0
        while shared < 4 and len({truncate(code, shared + 1) for code in found}) == 1:
            shared += 1
        found = [truncate(found[0], shared)] if shared else []
    code = found[0] if found and SCHEMES["cath"].fullmatch(found[0]) else ""
    ranges = chopping.replace("_", ",")
    return ClassifiedDomain(name, entry, "A", ranges, cath=intern(code), numbering="label", n_residues=length)


def read_summary(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of `ted_365m.domain_summary`, with CATH codes, or of the boundaries table, without."""
    for number, line in lines_of(path):
        cells = line.split("\t")
        match = DOMAIN.fullmatch(cells[0])
        if cells[0] in HEADER:
            continue
        if match and SUMMARY.fullmatch(line) and len(cells) > 13:
            yield _domain(cells[0], match[1], cells[3], cells[13], cells[4])
        elif match and BOUNDARIES.fullmatch(line):
            yield _domain(cells[0], match[1], cells[1])
        else:
            yield bad_row(number, "a domain of TED with its chopping", line)


def read_chains(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Domains of each chain, from a consensus (high and medium) or from one chopping program; ids `CHAIN_D1`, ….

    A chain without domains gives no row.
    """
    for number, line in lines_of(path):
        cells = line.split("\t")
        if cells[0] in HEADER:
            continue
        if CONSENSUS.fullmatch(line):
            choppings = cells[6:8]
        elif CHAIN.fullmatch(line):
            choppings = cells[4:5]
        else:
            yield bad_row(number, "a chain with the chopping of its domains", line)
            continue
        parts = [part for chopping in choppings if chopping not in NONE for part in chopping.split(",")]
        for index, part in enumerate(parts, 1):
            if re.fullmatch(CHOPPING, part):
                yield _domain(f"{cells[0]}_D{index}", _entry(cells[0]), part)
            else:
                yield UnusableDomain(f"{cells[0]}_D{index}", "bad_range", f"expected 5-100_120-200, got {part!r}")
