"""Residue ranges in author numbering, as CATH, SCOPe and the domain table write them."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..core.errors import StructureError

SEGMENT = re.compile(r"(-?[0-9]{1,6})([A-Za-z]?)(?:-(-?[0-9]{1,6})([A-Za-z]?))?")


class ResidueId(NamedTuple):
    """Author residue number and insertion code (empty where there is none)."""

    number: int
    insertion: str


class Segment(NamedTuple):
    """First and last residue of an unbroken stretch of a chain."""

    start: ResidueId
    end: ResidueId


def parse_range(text: str) -> list[Segment]:
    """Segments of a range in author numbering such as `5-100,120-200`, `-5--1`, `52A-60` or `7`; empty = whole chain.

    Raises `StructureError("bad_range")` where the text cannot be read or a segment ends before it starts. Numbers with
    an insertion code may fall (`79P-14`), as where a propeptide has numbers of its own.
    """
    segments = []
    for part in text.split(",") if text.strip() else ():
        match = SEGMENT.fullmatch(part.strip())
        if match is None:
            raise StructureError("bad_range", f"{text!r}: expected segments such as 5-100 or 52A-60, got {part!r}")
        start = ResidueId(int(match[1]), match[2])
        end = start if match[3] is None else ResidueId(int(match[3]), match[4])
        if start.number > end.number and not start.insertion and not end.insertion:
            raise StructureError("bad_range", f"{text!r}: the segment {part.strip()} ends before it starts")
        segments.append(Segment(start, end))
    return segments
