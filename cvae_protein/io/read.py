"""Reads structure files of any format, checks that they are complete, and extracts domains by residue range."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import gemmi
import numpy as np

from ..core.errors import StructureError
from ..core.files import DAMAGED_GZIP, open_unpacked, read_unpacked, safe_id
from ..core.structure import Backbone
from .mmcif import read_binary_cif, read_blocks, read_columns
from .pdb import read_pdb
from .residues import AtomTable, ParsedStructure, group_residues

Made = TypeVar("Made")
SEGMENT = re.compile(r"(-?[0-9]{1,6})([A-Za-z]?)(?:-(-?[0-9]{1,6})([A-Za-z]?))?")


class ResidueId(NamedTuple):
    """Author residue number and insertion code (empty if none)."""

    number: int
    insertion: str


class Segment(NamedTuple):
    """First and last residue of a contiguous segment of a chain."""

    start: ResidueId
    end: ResidueId


NUMBERINGS = ("author", "label")
"""What a range counts: residue numbers of the authors (`auth_seq_id`), or positions in SEQRES (`label_seq_id`)."""


def parse_range(text: str, numbering: str = "author") -> list[Segment]:
    """Segments of a range such as `5-100,120-200`, `-5--1`, `52A-60` or `7`; empty = whole chain.

    Raises `StructureError("bad_range")` if the text cannot be parsed, a segment ends before it starts, `numbering` is
    not one of `NUMBERINGS`, or a position (counted from 1) is below 1 or has an insertion code. Author numbers with an
    insertion code may decrease (`79P-14`), as in a propeptide with its own numbering.
    """
    if numbering not in NUMBERINGS:
        raise StructureError("bad_range", f"numbering {numbering!r}: expected {' or '.join(NUMBERINGS)}")
    segments = []
    for part in text.split(",") if text.strip() else ():
        match = SEGMENT.fullmatch(part.strip())
        if match is None:
            raise StructureError("bad_range", f"{text!r}: expected segments such as 5-100 or 52A-60, got {part!r}")
        start = ResidueId(int(match[1]), match[2])
        end = start if match[3] is None else ResidueId(int(match[3]), match[4])
        if start.number > end.number and not start.insertion and not end.insertion:
            raise StructureError("bad_range", f"{text!r}: the segment {part.strip()} ends before it starts")
        if numbering == "label" and (start.number < 1 or start.insertion or end.insertion):
            raise StructureError(
                "bad_range", f"{text!r}: expected positions from 1 on for numbering label, got {part!r}"
            )
        segments.append(Segment(start, end))
    return segments


HEAD = 1 << 24  # bytes in which the format must show, after any comments
CHUNK = 1 << 20
MESSAGE_PACK_MAP = (*range(0x80, 0x90), 0xDE, 0xDF)  # first byte of a BinaryCIF file, but never of text
CODE = re.compile(r"(?:pdb_0000)?([1-9][a-z0-9]{3})")  # PDB code, short or extended, in lower case
EXTENDED = re.compile(r"pdb_[0-9][a-z0-9]{7}")
BLOCK = re.compile(rb"^data_(\S+)", re.IGNORECASE | re.MULTILINE)
ENTRY = re.compile(rb"^_entry\.id\s+['\"]?([^\s'\"]+)", re.IGNORECASE | re.MULTILINE)
HEADER = re.compile(rb"^HEADER.{56}(.{4})", re.MULTILINE)  # columns 63 to 66 of the PDB format
RECORD = re.compile(rb"^(ATOM  |HETATM|HEADER|MODEL |CRYST1|REMARK|TITLE |COMPND)", re.MULTILINE)


def check_structure(path: Path, name: str, most_bytes: int, certain: bool) -> None:
    """Raise `StructureError` if the file at `path` is not the entry `name`.

    With `certain`, the file must name its entry, as every file of the archive does; otherwise a file passes if it names
    none, or not by a PDB code. Codes: bad_download, or too_large for more than `most_bytes` unpacked.
    """
    head = _unpacked_head(path, most_bytes)
    if not head.strip():
        raise StructureError("bad_download", "no content")
    if head[0] in MESSAGE_PACK_MAP:
        named = _name_in_binary(path)
    elif head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        raise StructureError("bad_download", "an HTML or XML page instead of a structure")
    else:
        named = _name_in_text(_plain(head))
    if certain and not named:
        raise StructureError("bad_download", f"the file does not say that it is {name}")
    found, wanted = (CODE.fullmatch(text.lower()) for text in (named, name))
    differ = found[1] != wanted[1] if found and wanted else certain and named.lower() != name.lower()
    if differ:
        raise StructureError("bad_download", f"the file is of the entry {named}, not {name}")


def _unpacked_head(path: Path, most_bytes: int) -> bytes:
    """The first bytes of a file, decompressed; the whole file is read, as a check."""
    head, size = b"", 0
    try:
        with open_unpacked(path) as opened:
            while piece := opened.read(CHUNK):
                head += piece[: HEAD - len(head)]
                size += len(piece)
                if size > most_bytes:
                    raise StructureError("too_large", f"more than {most_bytes} bytes once unpacked")
    except EOFError as error:
        raise StructureError("bad_download", f"the gzip data end early, after {size} bytes unpacked") from error
    except DAMAGED_GZIP as error:
        raise StructureError("bad_download", f"damaged gzip data ({error})") from error
    return head


def _name_in_text(head: bytes) -> str:
    """The entry named in mmCIF or PDB text; empty if there is none."""
    if block := BLOCK.search(head):
        entry = ENTRY.search(head)
        return (entry or block)[1].decode("latin-1")
    if not RECORD.search(head):
        raise StructureError("bad_download", f"neither PDB nor mmCIF; it begins with {head.strip()[:40]!r}")
    header = HEADER.search(head)
    return header[1].decode("latin-1").strip() if header else ""


def _name_in_binary(path: Path) -> str:
    """The entry named in a BinaryCIF file."""
    from biotite.structure.io.pdbx import BinaryCIFFile

    try:
        with open_unpacked(path) as opened:
            return next(iter(BinaryCIFFile.read(opened)))  # the block's name, which needs no decoding
    except Exception as error:  # libraries may raise anything for arbitrary bytes
        raise StructureError("bad_download", f"not readable as BinaryCIF ({error})") from error


ENDING = r"\.(?:pdb|ent|cif|mmcif|bcif)(?:\.gz)?"
SUFFIX = re.compile(rf"{ENDING}$", re.IGNORECASE)
STRUCTURE_FILE = re.compile(rf"(?:pdb(?=.{{4}}\.ent))?(.+){ENDING}", re.IGNORECASE | re.DOTALL)


def structure_files(source: Path, deepest: int | None = None) -> list[tuple[Path, str]]:
    """Sorted files with their names without a structure file's suffix; the name is empty if they lack one.

    They are `source` itself if it is a file, or the files below the folder `source`, down to `deepest` levels. Links
    are followed, except into a folder that contains them. A broken link is included if it has such a suffix, or none at
    all like a folder.
    """
    found = [source] if source.is_file() else sorted(_below(source, deepest, ()))
    names = [(path, STRUCTURE_FILE.fullmatch(path.name)) for path in found]
    named = [(path, match[1] if match else "" if path.suffix or path.is_file() else path.name) for path, match in names]
    return [(path, name) for path, name in named if name or path.is_file()]


def ids_of_files(source: Path, files: Sequence[tuple[Path, str]]) -> list[str]:
    """An id for each structure file in the folder `source` and its subfolders, given with its name without suffix.

    It is the name, made safe if needed; if several folders contain the same name, the folder's name is put before it.
    """
    places = Counter(name for _, name in {(path.parent, name.lower()) for path, name in files})

    def is_shared(path: Path, name: str) -> bool:
        divided = path.parent.name.lower() == name[1:3].lower()  # wwPDB layout: equal names are one entry
        return places[name.lower()] > 1 and path.parent != source and not divided

    return [safe_id(f"{path.parent.name}_{name}" if is_shared(path, name) else name) for path, name in files]


def _below(folder: Path, deepest: int | None, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Files below a folder, broken links, and special files with a structure file's name, such as a pipe.

    `above` identifies the folders on the way to it.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.isdir(entry.path):  # false for a link to itself
                if deepest is None or len(above) < deepest:
                    yield from _below(Path(entry.path), deepest, (*above, here))
            elif os.path.isfile(entry.path) or entry.is_symlink() or STRUCTURE_FILE.fullmatch(entry.name):
                yield Path(entry.path)


def is_code(name: str) -> bool:
    """Whether a name is a PDB code, short or extended, in upper or lower case."""
    return any(form.fullmatch(name.lower()) for form in (CODE, EXTENDED))


def spellings(name: str) -> list[str]:
    """Possible file names for the entry `name`: as given, then, for a PDB code, its short and extended forms."""
    code = CODE.fullmatch(name.lower())
    return list(dict.fromkeys([name, *((code[1], f"pdb_0000{code[1]}") if code else ())]))


class Names:
    """File names, looked up first by exact spelling, then ignoring case."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._small: dict[str, list[str]] = {}
        for name in self._names:
            self._small.setdefault(name.lower(), []).append(name)

    def of(self, name: str) -> str:
        """The file name for `name`; `StructureError("not_found")` if there is none, or more than one."""
        for spelling in spellings(name):
            if spelling in self._names:
                return spelling
            if len(found := self._small.get(spelling.lower(), [])) == 1:
                return found[0]
            if found:
                said = f"{', '.join(sorted(found))} differ in capitals alone, and none is {spelling}"
                raise StructureError("not_found", said)
        raise StructureError("not_found", f"no file of the folder is named {name}")


def unused(text: str, taken: Container[str], otherwise: str) -> str:
    """`text` as an id of letters, digits and `._+-` that is not in `taken`; `otherwise` if no character remains."""
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", text).lstrip("._+-") or otherwise
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique


def guarded(function: Callable[..., Made], *arguments: object) -> Made:
    """`function(*arguments)`; errors that a library raises for one structure become a `StructureError`."""
    try:
        return function(*arguments)
    except (StructureError, MemoryError):
        raise
    except OSError as error:
        raise StructureError("unreadable", str(error)) from error
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise StructureError("not_a_structure", f"{function.__name__} failed with {text}") from error


PDB_RECORD = re.compile(rb"^(ATOM  |HETATM|HEADER|MODEL\b|CRYST1|REMARK|TITLE |COMPND|EXPDTA|SEQRES)", re.MULTILINE)
CIF_BLOCK = re.compile(  # possessive, so that a long head is scanned once
    rb"(?:[ \t\n]++|#[^\n]*+\n)*+(?:data_|global_)", re.IGNORECASE
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MARKS = {BYTE_ORDER_MARK: "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}  # byte order marks
LARGEST_COORDINATE = 9999.999  # Å; the maximum of the PDB format
LARGEST_FILE = 2**28  # bytes, unpacked
SOLE_CHAIN = ("", "0", "_")  # how classifications denote a chain without a name


def _read_bytes(path: Path) -> bytes:
    """The file's content, decompressed if it is gzip; never decompresses more than `LARGEST_FILE`."""
    if not path.is_file():
        raise StructureError("not_found", f"{path}: no file there")
    if path.stat().st_size > LARGEST_FILE:
        raise StructureError("too_large", f"{path.name}: more than {LARGEST_FILE} bytes")
    try:
        data = read_unpacked(path, LARGEST_FILE)
    except EOFError as error:
        raise StructureError("truncated", f"{path.name}: the compressed data end too early") from error
    except DAMAGED_GZIP as error:
        raise StructureError("not_a_structure", f"{path.name}: damaged gzip data ({error})") from error
    if len(data) > LARGEST_FILE:
        raise StructureError("too_large", f"{path.name}: more than {LARGEST_FILE} bytes once unpacked")
    if not data.strip():
        raise StructureError("empty_file", f"{path.name}: nothing in it")
    return data


def _plain(data: bytes) -> bytes:
    """Text without byte order marks, the first of which determines the encoding, and with `\\n` line ends.

    Further marks occur where programs added their own or files were concatenated.
    """
    for mark, encoding in MARKS.items():
        if data.startswith(mark) and encoding != "utf-8":
            data = data.decode(encoding, "replace").encode()
    if BYTE_ORDER_MARK in data:
        data = data.replace(BYTE_ORDER_MARK, b"")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _read_atoms(data: bytes, name: str) -> AtomTable:
    """The backbone atoms in a file's bytes; the format is recognised by the content, not the suffix."""
    if data[0] in MESSAGE_PACK_MAP and b"dataBlocks" in data:
        return read_binary_cif(data, name)
    data = _plain(data)
    if b"\0" in data:
        raise StructureError("not_a_structure", f"{name}: binary data, expected PDB, mmCIF or BinaryCIF")
    if CIF_BLOCK.match(data):
        return read_columns(data) or read_blocks(data, name)
    if PDB_RECORD.search(data):
        return read_pdb(data, name)
    first = data.strip()[:40].decode("latin-1").partition("\n")[0]
    raise StructureError("not_a_structure", f"{name}: neither PDB nor mmCIF; it begins with {first!r}")


def read_structure(path: str | Path) -> ParsedStructure:
    """The protein in a PDB, mmCIF or BinaryCIF file, gzip-compressed or not, recognised by its content.

    Raises `StructureError` with the code not_found, empty_file, too_large, truncated, not_a_structure or no_protein.
    """
    path = Path(path)
    data = _read_bytes(path)
    try:
        return group_residues(_read_atoms(data, path.name), path.name)
    except StructureError:
        raise
    except (ValueError, RuntimeError, IndexError, OverflowError) as error:  # raised by gemmi for malformed content
        raise StructureError("not_a_structure", f"{path.name}: {error}") from error


def read_confidence(path: Path) -> dict[str, float]:
    """Local pLDDT, 0 to 100, by residue number, of a predicted model in mmCIF; empty if the file has none.

    Read from `_ma_qa_metric_local` of ModelCIF, whose numbers equal the residue numbers in such files.
    """
    data = _plain(_read_bytes(path))
    if b"_ma_qa_metric_local." not in data:
        return {}
    block = gemmi.cif.read_string(data).sole_block()
    names = {row[0]: row[1] for row in block.find("_ma_qa_metric.", ["id", "name"])}
    rows = block.find("_ma_qa_metric_local.", ["label_seq_id", "metric_value", "metric_id"])
    return {row[0]: float(row[1]) for row in rows if "plddt" in names.get(row[2], "pLDDT").lower()}


def _chain_mask(structure: ParsedStructure, chain: str) -> np.ndarray:
    """Residues (R,) of a chain, found by its author id or else its label id."""
    if chain in SOLE_CHAIN and chain not in structure.chains and len(structure.chains) == 1:
        chain = structure.chains[0]
    for ids in (structure.chain, structure.subchain) if chain else (structure.chain,):  # PDB files have no label ids
        mask = ids == chain.encode()
        if mask.any():
            return mask
    if chain in structure.other_chains:
        raise StructureError("no_protein", f"{structure.name}: chain {chain} has no amino-acid residue")
    raise StructureError(
        "chain_not_found", f"{structure.name}: no chain {chain!r}; it has {', '.join(structure.chains[:20])}"
    )


def _ends(number: np.ndarray, insertion: np.ndarray, segment: Segment) -> np.ndarray:
    """Indices of a segment's residues in a chain (L,).

    Observed ends are found by name, whatever the order of the numbers. An unobserved end can be placed only if the
    author numbers never decrease along the chain.
    """
    found = [np.flatnonzero((number == end.number) & (insertion == end.insertion)) for end in segment]
    for end, places in zip(segment, found, strict=True):
        if len(places) > 1:
            text = f"residue {end.number}{end.insertion} stands {len(places)} times in the chain, as in two molecules"
            raise StructureError("bad_range", f"{text} of one name")
    if len(found[0]) and len(found[1]):
        return np.arange(found[0][0], found[1][0] + 1)
    if (np.diff(number) < 0).any():
        return np.zeros(0, int)
    (first, first_letter), (last, last_letter) = segment
    after = (number > first) | ((number == first) & (insertion >= first_letter))
    before = (number < last) | ((number == last) & (insertion <= last_letter))
    return np.flatnonzero(after & before)


def _positions(structure: ParsedStructure, rows: np.ndarray) -> np.ndarray:
    """Positions in SEQRES of a chain's residues (L,), 0 where unknown; `StructureError` if all are unknown."""
    positions = structure.label_number[rows]
    if not positions.any():
        raise StructureError(
            "bad_range",
            f"{structure.name}: no label_seq_id, which a range of numbering label counts; it needs mmCIF or BinaryCIF",
        )
    known = positions[positions > 0]
    if len(np.unique(known)) < len(known):
        raise StructureError(
            "bad_range", f"{structure.name}: a label_seq_id stands twice in the chain; name its label id"
        )
    return positions


def _select(
    structure: ParsedStructure, rows: np.ndarray, segments: list[Segment], residue_range: str, numbering: str
) -> np.ndarray:
    """The part of a chain's `rows` selected by a range, in the order of its segments."""
    if not segments:
        return rows
    positions = _positions(structure, rows) if numbering == "label" else None
    parts = []
    for segment in segments:
        if positions is None:
            part = _ends(structure.number[rows], structure.insertion[rows], segment)
        else:
            part = np.flatnonzero((positions >= segment.start.number) & (positions <= segment.end.number))
        if not len(part):
            (first, letter), (last, last_letter) = segment
            raise StructureError(
                "range_not_found",
                f"{structure.name}: no residues {first}{letter} to {last}{last_letter} among {len(rows)} of the chain",
            )
        parts.append(part)
    picked = np.concatenate(parts)
    if len(np.unique(picked)) < len(picked):
        raise StructureError("bad_range", f"{residue_range!r}: its segments overlap")
    return rows[picked]


def conformers(structure: ParsedStructure, chain: str) -> list[list[int]]:
    """Groups of model numbers in which an author's chain has the same residues, one list per set of residues."""
    rows = np.flatnonzero(structure.chain == chain.encode())
    found: dict[bytes, list[int]] = {}
    for part in np.split(rows, np.flatnonzero(np.diff(structure.model[rows])) + 1):
        columns = (structure.number[part], structure.insertion[part], structure.letter[part])
        key = b"|".join(column.tobytes() for column in columns)
        found.setdefault(key, []).append(int(structure.model[part[0]]))
    return list(found.values())


def extract_domain(
    structure: ParsedStructure,
    chain: str,
    residue_range: str,
    domain_id: str,
    numbering: str = "author",
    models: Sequence[int] = (),
) -> Backbone:
    """The residues of a range of one chain as a `Backbone` with one conformation per model.

    `numbering` is one of `NUMBERINGS`. `chain` is an author chain id, or a label id if no author id matches; an empty
    range means the whole chain, and empty `models` all models. Unobserved residues of the range are left out, in either
    numbering. A model whose residues differ from those of the first model is left out: compare `Backbone.models` with
    the number of `ParsedStructure.models`. Raises `StructureError` with the code chain_not_found, no_protein, bad_range
    or range_not_found.
    """
    segments = parse_range(residue_range, numbering)
    mask = _chain_mask(structure, chain)
    chosen: list[np.ndarray] = []
    for model in models or structure.models:
        try:
            whole = np.flatnonzero(mask & (structure.model == model))
            rows = _select(structure, whole, segments, residue_range, numbering)
        except StructureError:
            if not chosen:
                raise
            continue
        if not chosen or _same_residues(structure, chosen[0], rows):
            chosen.append(rows)
    first = chosen[0]
    if not len(first):
        raise StructureError("chain_not_found", f"{structure.name}: chain {chain!r} is not in the first model")
    return structure.backbone(np.stack(chosen), domain_id)


def _same_residues(structure: ParsedStructure, first: np.ndarray, other: np.ndarray) -> bool:
    columns = (structure.number, structure.insertion, structure.letter)
    return len(first) == len(other) and all(np.array_equal(column[first], column[other]) for column in columns)
