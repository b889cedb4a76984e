"""CATH files: domain list, domain boundaries, daily lists and names, each as described in CATH's own README."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from sys import intern

from ...core.errors import UnusableDomain
from ...core.files import bad_row, columns_of, lines_of
from ...core.labels import truncate
from .domain import ClassifiedDomain, author_range

DOMAIN_ID = re.compile(r"([0-9][A-Za-z0-9]{3})([A-Za-z0-9]{1,4})([0-9]{2})")
NAME = re.compile(r"([0-9]+(?:\.[0-9]+){0,3})\s+\S+\s+:(.*)")
SEGMENT_COLUMNS = ("domain", "pdb", "chain", "segments", "cath")
NMR = 999.0  # the domain list's placeholder for a resolution; 1000 marks an obsolete entry
BOUNDARIES = "cath-domain-boundaries.txt of the same release"


def _parts(domain_id: str) -> tuple[str, str, str] | UnusableDomain:
    """Entry, chain and domain number from a CATH id such as `1oaiA00`."""
    match = DOMAIN_ID.fullmatch(domain_id)
    if match is None:
        return UnusableDomain(domain_id, "bad_id", f"{domain_id!r}: expected a CATH domain such as 1oaiA00")
    return match[1], match[2], match[3]


def read_domain_list(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of a CathDomainList (format 2.0), which includes the S35, S60 and S95 lists of a release.

    It has no residue ranges: a domain numbered 00 is the whole chain, and the range of the others is None. Domains of
    one S95 cluster form a `group`.
    """
    for number, line in lines_of(path):
        cells = line.split()
        if len(cells) != 12 or not all(map(str.isdecimal, cells[1:11])) or not _is_number(cells[11]):
            yield bad_row(number, "the 12 columns of a CathDomainList", line)
            continue
        parts = _parts(cells[0])
        if isinstance(parts, UnusableDomain):
            yield parts
            continue
        code = intern(".".join(cells[1:5]))
        s35 = intern(f"{code}.{cells[5]}")
        s60 = intern(f"{s35}.{cells[6]}")
        s95 = intern(f"{s60}.{cells[7]}")
        size = float(cells[11])
        yield ClassifiedDomain(
            cells[0],
            *parts[:2],
            "" if parts[2] == "00" else None,
            cath=code,
            group=s95,
            resolution=intern(cells[11]) if 0 < size < NMR else "",
            method="NMR" if size == NMR else "",
            n_residues=intern(cells[10]),
            s35=s35,
            s60=s60,
            s95=s95,
        )


def _of_segments(
    domain_id: str, pdb_id: str, segments: list[tuple[str, str]], number: int, **codes: str
) -> ClassifiedDomain | UnusableDomain:
    """The row of a domain on line `number` from its segments' chains and ranges, or the problem of several chains."""
    chains = list(dict.fromkeys(chain for chain, _ in segments))
    if len(chains) > 1:
        return UnusableDomain(domain_id, "several_chains", f"line {number}: segments of the chains {', '.join(chains)}")
    return ClassifiedDomain(domain_id, pdb_id, chains[0], ",".join(text for _, text in segments), **codes)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def read_boundaries(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows, without codes, of a CathDomall file (format 2.0): the domains of each chain in author numbering.

    The only domain of a chain without fragments has the number 00, otherwise domains are numbered from 01. Fragments,
    which belong to no domain, are skipped.
    """
    for number, line in lines_of(path):
        cells = line.split()
        try:
            domains = _segments(cells)
        except (ValueError, IndexError):
            yield bad_row(number, "the chain, domains and fragments of a CathDomall line", line)
            continue
        whole = len(domains) == 1 and int(cells[2][1:]) == 0
        for index, segments in enumerate(domains, 1):
            domain_id = f"{cells[0][:4]}{segments[0][0]}{0 if whole else index:02d}"
            yield _of_segments(domain_id, cells[0][:4], segments, number)


def _segments(cells: list[str]) -> list[list[tuple[str, str]]]:
    """Chain and range of each segment of each domain on a CathDomall line; ValueError or IndexError if invalid."""
    place = 3
    domains = []
    for _ in range(int(cells[1].removeprefix("D"))):
        segments = []
        for _ in range(int(cells[place])):
            chain, start, letter, end_chain, end, end_letter = cells[place + 1 : place + 7]
            place += 6
            text = f"{start}{letter.strip('-')}-{end}{end_letter.strip('-')}"
            segments += [(chain, text)] if chain == end_chain else [(chain, text), (end_chain, text)]
        domains.append(segments)
        place += 1
    if not domains or not all(domains) or place + 7 * int(cells[2].removeprefix("F")) != len(cells):
        raise ValueError
    return domains


def read_seqres_boundaries(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows, without codes, of a `seqreschopping` file.

    Its numbers are positions in the SEQRES sequence and do not give author numbers, so only whole chains (00) can be
    used; the others are problems.
    """
    for number, line in lines_of(path):
        cells = line.split()
        parts = _parts(cells[0])
        if len(cells) != 2:
            yield bad_row(number, "a domain and its range", line)
        elif isinstance(parts, UnusableDomain):
            yield parts
        elif parts[2] == "00":
            yield ClassifiedDomain(cells[0], *parts[:2], "")
        else:
            why = f"{cells[1]} counts along the SEQRES sequence, not in author numbers; use {BOUNDARIES}"
            yield UnusableDomain(cells[0], "no_range", why)


def read_daily(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of a daily list (`cath-b-*`): `1oaiA00 v4_2_0 1.10.8.10 561-619:A`; a fifth level is the S35 cluster."""
    for number, line in lines_of(path):
        cells = line.split()
        parts = _parts(cells[0])
        if len(cells) != 4:
            yield bad_row(number, "a domain, its status, code and range", line)
            continue
        if isinstance(parts, UnusableDomain):
            yield parts
            continue
        parted = (segment.rpartition(":") for segment in cells[3].split(","))
        segments = [(chain, author_range(text)) for text, _, chain in parted]
        code = intern(truncate(cells[2], 4))
        yield _of_segments(cells[0], parts[0], segments, number, cath=code, s35=cells[2] if cells[2] != code else "")


def read_segments(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of a table with the columns `domain pdb chain segments cath` and segments such as `1(A)-20_30-40`."""
    for line in columns_of(path, SEGMENT_COLUMNS):
        if isinstance(line, UnusableDomain):
            yield line
            continue
        domain, pdb, chain, segments, code = line[1]
        yield ClassifiedDomain(domain, pdb, chain, author_range(segments), cath=intern(code))


def with_ranges(
    rows: Iterable[ClassifiedDomain | UnusableDomain], ranges: dict[str, str | UnusableDomain] | None, source: str
) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of a domain list, each with its range from `ranges` (domain id -> range), or the problem that it has none.

    If a chain has fragments, its only domain is numbered 00 in one file and 01 in another. A domain numbered 00 that is
    not in `ranges` is the whole chain.
    """
    for row in rows:
        if isinstance(row, UnusableDomain):
            yield row
            continue
        name, found = row.domain_id, None
        if ranges is not None:
            other = {"00": "01", "01": "00"}.get(name[-2:], name[-2:])
            found = next((ranges[key] for key in (name, name[:-2] + other, name[:-2]) if key in ranges), None)
        if isinstance(found, str):
            yield row._replace(residue_range=found)
        elif isinstance(found, UnusableDomain):
            yield UnusableDomain(name, found.code, f"{source}: {found.detail}")
        elif row.residue_range is None:
            have = f"{source} does not have this domain" if source else f"give {BOUNDARIES} as labels.boundaries"
            yield UnusableDomain(name, "no_range", f"domain {name[-2:]} of its chain, without a range; {have}")
        else:
            yield row


def read_names(path: Path) -> dict[str, str]:
    """Names of CATH codes in a CathNames file; nodes without a name are left out."""
    found = (NAME.fullmatch(line) for _, line in lines_of(path))
    return {match[1]: match[2].strip() for match in found if match and match[2].strip()}
