"""mmCIF and BinaryCIF: the columns of `_atom_site` as arrays, with a fast path for rows of the usual form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import gemmi
import numpy as np

from ..core.errors import StructureError
from .residues import UNKNOWN_ENTITY, AtomTable, UnusualError, atom_index, changes, entry_facts, name_code, require

CELL = 8  # bytes of a cell that are read
POWERS = np.array([float(10**power) for power in range(CELL + 1)])
BLANK, NEWLINE = (np.uint8(ord(sign)) for sign in " \n")
PAIR = np.uint64(0x000000FF000000FF)


def _eight(sign: str | int) -> np.uint64:
    """The same byte eight times."""
    return np.uint64((sign if isinstance(sign, int) else ord(sign)) * 0x0101010101010101)


def read_numbers(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parse plain decimal numbers of up to eight bytes (A,) to float64, and say which have a decimal point.

    Eight digits are read by three multiplications, as in Lemire (2021) Softw. Pract. Exper. 51, 1700. An integer below
    2^53 divided by a power of ten is exact to the last bit. Raises `UnusualError` if a number has another form.
    """
    negative = words.astype(np.uint8) == ord("-")
    if negative.any():
        words = np.where(negative, words >> 8, words)
    unlike = words ^ _eight(".")
    point = (unlike - _eight(1)) & ~unlike & _eight(0x80)  # the lowest set bit marks the first point
    before = ((point & (~point + np.uint64(1))) >> 7) - np.uint64(1)  # the bytes before it; all bytes if there is none
    digits = (words & before) | ((words >> 8) & ~before)
    count = np.bitwise_count((digits + _eight(0x7F)) & _eight(0x80)).astype("<u8")  # nonzero bytes
    require(count.min(initial=CELL) > 0)
    right = (digits << (8 * (CELL - count))) | (_eight("0") >> (8 * count))
    require(not np.bitwise_or.reduce((right + _eight(0x46)) | (right - _eight("0"))) & _eight(0x80))
    right -= _eight("0")
    right = right * np.uint64(10) + (right >> 8)
    value = (
        (right & PAIR) * np.uint64(0x000F424000000064) + ((right >> 16) & PAIR) * np.uint64(0x0000271000000001)
    ) >> 32
    has_point = point != 0
    decimals = np.where(has_point, count - (np.bitwise_count(before) >> 3), 0)
    return np.where(negative, -1.0, 1.0) * value / POWERS[decimals], has_point


def read_integers(words: np.ndarray) -> np.ndarray:
    """Parse integers of up to eight bytes to int32 (A,); `UnusualError` if one has another form."""
    values, has_point = read_numbers(words)
    require(not has_point.any())
    return values.astype(np.int32)


class Free:
    """Positions of the cells in lines that are split at blanks."""

    def __init__(self, text: np.ndarray, lines: bytes, columns: int) -> None:
        blank = text <= BLANK
        if (blank[1:] & blank[:-1]).any():
            edges = np.append(0, np.flatnonzero(blank[1:] != blank[:-1]) + 1)
            start, stop = edges[0::2], edges[1::2]
        else:  # one blank between cells
            stop = np.flatnonzero(blank)
            start = np.append(0, stop[:-1] + 1)
        require(len(start) % columns == 0)
        self.start, self.stop = start.reshape(-1, columns), stop.reshape(-1, columns)
        ends = np.flatnonzero(text == NEWLINE)
        require(len(ends) == len(self.start))
        require((ends >= self.stop[:, -1]).all() and (ends[:-1] < self.start[1:, 0]).all())
        self.words = np.ndarray(len(lines), "<u8", lines + bytes(CELL), 0, (1,))  # eight bytes from each position

    def column_of(self, place: np.ndarray) -> np.ndarray:
        """The columns of the cells that begin at the given byte positions."""
        return np.searchsorted(self.start.ravel(), place) % self.start.shape[1]

    def cells(self, column: int, longest: int, rows: np.ndarray | slice) -> np.ndarray:
        """See `Rows.cells`."""
        start = self.start[rows, column]
        length = self.stop[rows, column] - start
        require(length.max(initial=0) <= longest)
        return self.words[start] & (~np.uint64(0) >> (8 * (CELL - length)).view("<u8"))


def _extremes(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest byte of every column of a grid (A, width), comparing 32 rows at once for speed."""
    rows, width = grid.shape
    most = rows - rows % 32
    long = grid[:most].reshape(-1, 32 * width)
    if not most:
        return grid.min(axis=0), grid.max(axis=0)
    small, large = long.min(axis=0).reshape(32, width), long.max(axis=0).reshape(32, width)
    rest = grid[most - 1 :]  # never empty
    return np.minimum(small.min(axis=0), rest.min(axis=0)), np.maximum(large.max(axis=0), rest.max(axis=0))


class Fixed:
    """Positions of the cells in lines of equal width with aligned columns, as in the archive's files."""

    def __init__(self, text: np.ndarray, lines: bytes, columns: int) -> None:
        self.width = lines.find(b"\n") + 1
        require(len(text) % self.width == 0)
        grid = text.reshape(-1, self.width)
        require((grid[:, -1] == NEWLINE).all() and np.count_nonzero(text == NEWLINE) == len(grid))
        self.blank = grid <= BLANK
        narrowest, widest = _extremes(grid)
        gap = np.append(True, widest <= BLANK)
        self.low, self.high = np.flatnonzero(gap[:-1] & ~gap[1:]), np.flatnonzero(~gap[:-1] & gap[1:])
        require(len(self.low) == columns and not self.blank[:, self.low].any())
        flat = self.blank.ravel()
        require(1 + np.count_nonzero(flat[:-1] & ~flat[1:]) == len(grid) * columns)  # exactly one cell per column
        self.ragged = np.minimum.reduceat(narrowest, np.stack([self.low, self.high], 1).ravel())[0::2] <= BLANK
        self.lines = lines + bytes(CELL)

    def column_of(self, place: np.ndarray) -> np.ndarray:
        """The columns of the cells that begin at the given byte positions."""
        return np.searchsorted(self.low, place % self.width)

    def cells(self, column: int, longest: int, rows: np.ndarray | slice) -> np.ndarray:
        """See `Rows.cells`."""
        low, high = int(self.low[column]), int(self.high[column])
        require(high - low <= longest or self.blank[rows, low + longest : high].all())
        words = np.ndarray(len(self.blank), "<u8", self.lines, low, (self.width,))[rows]
        words = words & (~np.uint64(0) >> np.uint64(8 * max(0, CELL - high + low)))
        if self.ragged[column]:  # trailing blanks become zero
            words &= ((((words ^ _eight(" ")) + _eight(0x7F)) & _eight(0x80)) >> 7) * np.uint64(0xFF)
        return words


class Rows:
    """Whole lines of a loop, split into cells.

    Only the columns `quotable` may contain quoted cells, of three letters or more. Raises `UnusualError` if a line does
    not have exactly one cell per tag, or if a byte could have a special meaning.
    """

    def __init__(self, lines: bytes, tags: Sequence[str], quotable: Sequence[str]) -> None:
        self.tags = tags
        text = np.frombuffer(lines, np.uint8)
        require(text[0] > BLANK and text[-1] == NEWLINE and text.max() <= ord("~"))
        require(np.count_nonzero(text <= BLANK) == np.count_nonzero(text == BLANK) + np.count_nonzero(text == NEWLINE))
        require(not any(sign in lines for sign in (b"#", b"_", b";", b"$", b"[", b"]")))
        self.layout: Free | Fixed
        try:
            self.layout = Fixed(text, lines, len(tags))
        except UnusualError:
            self.layout = Free(text, lines, len(tags))
        if b"'" in lines or b'"' in lines:
            self._check_quotes(text, quotable)

    def _check_quotes(self, text: np.ndarray, quotable: Sequence[str]) -> None:
        place = np.flatnonzero((text == ord("'")) | (text == ord('"')))
        place = place[(place == 0) | (text[place - 1] <= BLANK)]
        blank = np.flatnonzero(text <= BLANK)
        last = blank[np.searchsorted(blank, place)] - 1
        require({self.tags[column] for column in set(self.layout.column_of(place).tolist())} <= set(quotable))
        require((text[place] == text[last]).all() and (last > place + 3).all())

    def cells(self, tag: str, longest: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """A column as integers (A,), the first letter in the lowest byte; no cell may exceed `longest` bytes."""
        return self.layout.cells(self.tags.index(tag), longest, rows)


HEAD = re.compile(rb"\nloop_ *\n((?:_atom_site\.[\w\[\]]+ *\n)+)")
CLOSED = re.compile(
    rb"(?:[ \n]*#[^\n]*\n)*[ \n]*(?:_|loop_|data_|\Z)"
)  # what may follow the rows: no further values of the loop
KEYS = {  # distinguish a residue from the next; of several tags, the first present is used
    "model": ("pdbx_PDB_model_num",),
    "chain": ("auth_asym_id", "label_asym_id"),
    "subchain": ("label_asym_id",),
    "number": ("auth_seq_id",),
    "insertion": ("pdbx_PDB_ins_code",),
    "residue": ("auth_comp_id", "label_comp_id"),
}
NAMES = ("auth_atom_id", "label_atom_id")
OPTIONAL = {"record": "group_PDB", "position": "label_seq_id", "entity": "label_entity_id"}  # of a residue's first row
PLACES = ("Cartn_x", "Cartn_y", "Cartn_z")
NEEDED = {"label_alt_id", "label_asym_id", "auth_seq_id", "occupancy", *PLACES}
LONGEST_NAME = CELL  # bytes
BLOCK = 2**24  # bytes of rows that are split at once, to limit memory
DOT, UNKNOWN, ATOM, HETATM = (np.uint64(name_code(name)) for name in (".", "?", "ATOM", "HETATM"))
Part = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # columns of residues (R,), and of backbone atoms (A,)


def _given(words: np.ndarray) -> np.ndarray:
    """Which cells are neither `.` nor `?`."""
    return (words != DOT) & (words != UNKNOWN)


def _part(rows: Rows, tags: Mapping[str, str]) -> Part:
    """Residue columns, from the first row of each residue, and atom columns, from each backbone atom."""
    keys = [rows.cells(tags[name], LONGEST_NAME) for name in KEYS]
    new = changes(*keys)
    first = np.flatnonzero(new)
    heads = {name: key[first] for name, key in zip(KEYS, keys, strict=True)}
    for name, tag in OPTIONAL.items():
        if tag in rows.tags:
            heads[name] = rows.cells(tag, LONGEST_NAME, first)
    index = atom_index(rows.cells(tags["atom"], LONGEST_NAME))
    found = np.flatnonzero(index >= 0)
    altloc = rows.cells("label_alt_id", 1)[found]
    occupancy = rows.cells("occupancy", CELL, found)
    level = changes(occupancy)  # occupancy rarely changes between rows
    places = [rows.cells(tag, CELL, found) for tag in PLACES]
    values, _ = read_numbers(np.concatenate([*places, occupancy[level]]))
    return heads, {
        "head": np.cumsum(new)[found] - 1,
        "atom": index[found],
        "altloc": np.where(_given(altloc), altloc, 0).astype(np.uint8),
        "occupancy": values[3 * len(found) :].astype(np.float32)[np.cumsum(level) - 1],
        "position": values[: 3 * len(found)].reshape(3, -1).T,
    }


def _joined(parts: Sequence[Part]) -> Part:
    """Residues and atoms of all blocks; a residue divided between two blocks is joined."""
    if len(parts) == 1:
        return parts[0]
    heads = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
    atoms = {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}
    offset = np.cumsum([0, *(len(part["model"]) for part, _ in parts[:-1])])
    new = changes(*(heads[name] for name in KEYS))
    head = atoms["head"] + np.repeat(offset, [len(part["head"]) for _, part in parts])
    return {name: column[new] for name, column in heads.items()}, {**atoms, "head": (np.cumsum(new) - 1)[head]}


def _check_heads(heads: Mapping[str, np.ndarray]) -> None:
    """Raise `UnusualError` if a cell has another form."""
    require(all(_given(heads[name]).all() for name in ("chain", "subchain", "residue")))
    if "record" in heads:
        require(((heads["record"] == ATOM) | (heads["record"] == HETATM)).all())


def _entities(subchains: np.ndarray, structure: gemmi.Structure) -> np.ndarray:
    """The number of the `gemmi.EntityType` of each residue's subchain (R,)."""
    kinds = {
        part: int(entity.entity_type.value) for entity in reversed(structure.entities) for part in entity.subchains
    }
    new = changes(subchains)
    each = [kinds.get(name.decode(), UNKNOWN_ENTITY) for name in subchains[new].view("S8").tolist()]
    return np.array(each)[np.cumsum(new) - 1]


def _atoms(heads: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], structure: gemmi.Structure) -> AtomTable:
    _check_heads(heads)
    insertion = np.where(_given(heads["insertion"]), heads["insertion"], 0)
    require(insertion.max() < 256)
    given = _given(heads["position"]) if "position" in heads else np.zeros(len(insertion), bool)
    position = heads["position"][given] if given.any() else heads["number"][:0]
    numbers = read_integers(np.concatenate([heads["model"], heads["number"], position]))
    model, number = numbers[: len(insertion)], numbers[len(insertion) : 2 * len(insertion)]
    label_number = np.zeros(len(insertion), np.int32)
    label_number[given] = numbers[2 * len(insertion) :]
    chain = heads["chain"][model == model[0]]
    resolution, method = entry_facts(structure)
    head = own["head"]
    return AtomTable(
        model=model[head],
        chain=heads["chain"][head].view("S8"),
        subchain=heads["subchain"][head].view("S8"),
        number=number[head],
        label_number=label_number[head],
        insertion=insertion[head].astype(np.uint8),
        residue=heads["residue"][head].view("S8"),
        atom=own["atom"],
        altloc=own["altloc"],
        entity=_entities(heads["subchain"], structure)[head],
        hetero=heads["record"][head] == HETATM if "record" in heads else np.zeros(len(head), bool),
        occupancy=own["occupancy"],
        position=own["position"],
        chains=tuple(name.decode() for name in chain[changes(chain)].view("S8").tolist()),
        resolution=resolution,
        method=method,
    )


def _rest(data: bytes) -> tuple[list[str], int, int, gemmi.Structure]:
    """Tags of the `_atom_site` loop, start and end of its rows, and the rest of the file as read by gemmi."""
    head = HEAD.search(data)
    if not head:
        raise UnusualError
    require(data.count(b"\n;", 0, head.start()) % 2 == 0)  # not inside a multi-line text
    begin = head.end()
    tags = head[1].replace(b"_atom_site.", b"").decode().split()
    require(len(set(tags)) == len(tags) and set(tags) >= NEEDED)
    found = [place for sign in (b"#", b"_") if (place := data.find(sign, begin)) >= 0]
    end = data.rfind(b"\n", begin - 1, min(found)) + 1 if found else len(data)
    require(begin < end and CLOSED.match(data, end))
    rest = data[: head.start() + 1] + data[end:]
    while data[end - 2 : end] == b"\n\n":  # empty lines
        end -= 1
    require(b"_atom_site." not in rest.lower())
    document = gemmi.cif.read_string(rest)
    require(len(document) == 1)
    structure = gemmi.make_structure_from_block(document[0])
    require(document[0].find_values("_struct_asym.id") or not len(structure.entities))
    return tags, begin, end, structure


def read_columns(data: bytes) -> AtomTable | None:
    """The backbone atoms of an mmCIF text; None if it lacks the common form that can be read fast."""
    try:
        tags, begin, end, structure = _rest(data)
        choices = {**KEYS, "atom": NAMES}
        used = {name: next((tag for tag in choice if tag in tags), "") for name, choice in choices.items()}
        require(all(used.values()))
        parts = []
        while begin < end:
            stop = end if end - begin <= BLOCK else data.rfind(b"\n", begin, begin + BLOCK) + 1
            require(stop > begin)
            parts.append(_part(Rows(data[begin:stop], tags, NAMES), used))
            begin = stop
        return _atoms(*_joined(parts), structure)
    except (UnusualError, ValueError, RuntimeError):  # gemmi raises the same error for the whole file
        return None


ALIKE = {"chain": KEYS["chain"], "number": ("auth_seq_id", "label_seq_id"), "residue": KEYS["residue"]}
Texts = Mapping[str, np.ndarray]  # columns of `_atom_site` by lower-case tag, cells as text (A,)


def read_blocks(data: bytes, name: str) -> AtomTable:
    """The backbone atoms of any mmCIF text; further blocks with atoms become further models.

    Raises `StructureError` with the code truncated, or not_a_structure if a column needed for the backbone is missing
    or contains something else.
    """
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("latin-1").encode()
    try:
        document = gemmi.cif.read_string(data, 0)  # unchecked: concatenated files may repeat block names
        for number, block in enumerate(document, 1):
            block.name += f" {number}"
        document.check_for_missing_values()
        document.check_for_duplicates()
    except ValueError as error:
        cut = any(sign in str(error) for sign in ("Wrong number of values", "unterminated", "expected value"))
        raise StructureError("truncated" if cut else "not_a_structure", f"{name}: {error}") from error
    tables = []
    for block in (part for each in document for part in (each, *_frames(each))):
        table = block.find_mmcif_category("_atom_site.")
        if not len(table):
            continue
        tags = [tag.partition(".")[2].lower() for tag in table.tags]
        columns = {
            tag: np.array([_unquoted(cell) for cell in table.column(index)])
            for index, tag in enumerate(tags)
            if tag in ATOM_TAGS
        }
        table.erase()
        tables.append(_of_columns(columns, gemmi.make_structure_from_block(block), name))
    if not tables:
        raise StructureError("not_a_structure", f"{name}: an mmCIF file without _atom_site coordinates")
    return _one_after_another(tables)


def _frames(block: gemmi.cif.Block) -> list[gemmi.cif.Block]:
    """The save frames of a block."""
    return [item.frame for item in block if item.frame is not None]


def _unquoted(cell: str) -> str:
    """Text of a cell without its quotes and the padding blanks inside them, as in `' CA '`."""
    return gemmi.cif.as_string(cell).strip() if cell[0] in "'\";" else cell


def _of_columns(columns: Texts, structure: gemmi.Structure, name: str) -> AtomTable:
    """The backbone atoms of columns of text; `structure` is the rest of the file as read by gemmi."""
    where = f"{name}: _atom_site"
    for tags in (*((tag,) for tag in PLACES), NAMES, KEYS["residue"], ALIKE["number"]):
        if not any(tag.lower() in columns for tag in tags):
            raise StructureError("not_a_structure", f"{where} has no column {' or '.join(tags)}")
    index = _index(next(columns[tag] for tag in NAMES if tag in columns))
    found = np.flatnonzero(index >= 0)

    def cells(*tags: str) -> np.ndarray:
        """For each atom, the first given value among these columns; empty if there is none."""
        text = np.zeros(len(found), "U1")
        for column in (columns[tag.lower()][found] for tag in tags if tag.lower() in columns):
            text = np.where((text == "") & (column != ".") & (column != "?"), column, text)
        return text

    model = _converted(cells(*KEYS["model"]), int, 1, where, KEYS["model"][0])
    numbers = cells(*ALIKE["number"])
    if len(found) and not (numbers != "").any():
        raise StructureError("not_a_structure", f"{where}: no number in {' or '.join(ALIKE['number'])}")
    subchain, entity = cells(*KEYS["subchain"]), cells(OPTIONAL["entity"])
    every = np.full(len(index), "")
    chain = next((columns[tag] for tag in KEYS["chain"] if tag in columns), every)
    in_model = columns.get(KEYS["model"][0].lower(), every)
    parts = {part: int(each.entity_type.value) for each in reversed(structure.entities) for part in each.subchains}
    kinds = {each.name: int(each.entity_type.value) for each in structure.entities}
    resolution, method = entry_facts(structure)
    return AtomTable(
        model=model.astype(np.int32),
        chain=_encoded(cells(*ALIKE["chain"])),
        subchain=_encoded(subchain),
        number=_converted(numbers, int, 0, where, ALIKE["number"][0]).astype(np.int32),
        label_number=_converted(cells("label_seq_id"), _position, 0, where, "label_seq_id").astype(np.int32),
        insertion=_converted(cells(*KEYS["insertion"]), _byte, 0, where, KEYS["insertion"][0]).astype(np.uint8),
        residue=_encoded(cells(*ALIKE["residue"])),
        atom=index[found],
        altloc=_converted(cells("label_alt_id"), _byte, 0, where, "label_alt_id").astype(np.uint8),
        entity=_looked_up(subchain, parts) if parts else _looked_up(entity, kinds),
        hetero=cells(OPTIONAL["record"]) == "HETATM",
        occupancy=_converted(cells("occupancy"), gemmi.cif.as_number, 1, where, "occupancy").astype(np.float32),
        position=np.stack([_decimals(cells(tag)) for tag in PLACES], 1),
        chains=tuple(dict.fromkeys(chain[in_model == in_model[0]].tolist())),
        resolution=resolution,
        method=method,
    )


def _index(names: np.ndarray) -> np.ndarray:
    """Index in `structure.ATOMS` of each atom name, given as text; -1 for other names; int8 (A,)."""
    texts, which = np.unique(names, return_inverse=True)
    own = np.array([name_code(text) if text.isascii() and len(text) <= CELL else 0 for text in texts.tolist()], "<u8")
    return atom_index(own)[which]


def _encoded(texts: np.ndarray) -> np.ndarray:
    """Text as UTF-8, S8 or longer (A,)."""
    distinct, which = np.unique(texts, return_inverse=True)
    names = [text.encode() for text in distinct.tolist()]
    return np.array(names, f"S{max([CELL, *map(len, names)])}")[which]


def _converted(texts: np.ndarray, kind: Callable[[str], float], empty: float, where: str, tag: str) -> np.ndarray:
    """`kind` applied to each text (A,), `empty` for empty text; `StructureError` names the column."""
    distinct, which = np.unique(texts, return_inverse=True)
    try:
        return np.array([kind(text) if text else empty for text in distinct.tolist()])[which]
    except ValueError as error:
        raise StructureError("not_a_structure", f"{where}.{tag}: {error}") from error


def _position(text: str) -> int:
    """A position in SEQRES; text that is not a number gives 0, as if the file gave none."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,8}", text) else 0


def _byte(text: str) -> int:
    """An insertion code or alternative location as a byte; `ValueError` if it has more than one letter."""
    if len(text) > 1 or ord(text) > 255:
        raise ValueError(f"expected one letter, got {text!r}")
    return ord(text)


def _decimals(texts: np.ndarray) -> np.ndarray:
    """Numbers, with or without a standard uncertainty as in `1.234(5)`; NaN for other text."""
    try:
        return texts.astype(np.float64)
    except ValueError:
        return np.array([gemmi.cif.as_number(text) for text in texts.tolist()])


def _looked_up(texts: np.ndarray, kinds: Mapping[str, int]) -> np.ndarray:
    distinct, which = np.unique(texts, return_inverse=True)
    return np.array([kinds.get(text, UNKNOWN_ENTITY) for text in distinct.tolist()], int)[which]


def _one_after_another(tables: Sequence[AtomTable]) -> AtomTable:
    """The atoms of all blocks; models are renumbered if blocks use the same numbers."""
    if len(tables) == 1:
        return tables[0]
    numbers = [sorted(set(table.model.tolist())) for table in tables]
    if len({number for each in numbers for number in each}) < sum(map(len, numbers)):
        before = np.cumsum([0, *map(len, numbers)])
        tables = [
            replace(table, model=(np.searchsorted(each, table.model) + first + 1).astype(np.int32))
            for table, each, first in zip(tables, numbers, before.tolist(), strict=False)
        ]
    arrays = [field.name for field in fields(AtomTable) if isinstance(getattr(tables[0], field.name), np.ndarray)]
    joined: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in tables]) for name in arrays}
    return replace(tables[0], **joined)


READ = (*KEYS.values(), *ALIKE.values(), NAMES, NEEDED, OPTIONAL.values())
ATOM_TAGS = {tag.lower() for tags in READ for tag in tags}
TAGS: dict[str, tuple[str, ...]] = {
    "entity": ("id", "type"),
    "struct_asym": ("id", "entity_id"),
    "exptl": ("method",),
    "refine": ("pdbx_refine_id", "ls_d_res_high"),
}
MOST_ROWS = 10_000_000
MOST_LETTERS = 2**30  # of a column whose cells are all padded to its longest


def read_binary_cif(data: bytes, name: str) -> AtomTable:
    """The backbone atoms of a BinaryCIF file; further blocks with atoms become further models.

    Raises `StructureError` with the code truncated, not_a_structure or too_large.
    """
    import msgpack  # slow to import, and needed for few files
    from biotite.structure.io.pdbx import BinaryCIFBlock

    tables = []
    try:
        for content in msgpack.unpackb(data)["dataBlocks"]:  # several may share a name
            categories = {category["name"].lstrip("_"): category for category in content["categories"]}
            if "atom_site" in categories:
                _check_sizes({key: categories[key] for key in ("atom_site", *TAGS) if key in categories}, name)
                block = BinaryCIFBlock.deserialize(content)
                atoms = {tag.lower(): block["atom_site"][tag].as_array(str) for tag in block["atom_site"]}
                atoms = {tag: column for tag, column in atoms.items() if tag in ATOM_TAGS}
                tables.append(_of_columns(atoms, gemmi.make_structure_from_block(_as_text(block)), name))
    except (StructureError, MemoryError):
        raise
    except Exception as error:  # libraries may raise anything for arbitrary bytes
        cut = "incomplete input" in str(error)
        detail = f"{name}: not readable as BinaryCIF ({type(error).__name__}: {error})"
        raise StructureError("truncated" if cut else "not_a_structure", detail) from error
    if not tables:
        raise StructureError("not_a_structure", f"{name}: a BinaryCIF file without atom_site coordinates")
    return _one_after_another(tables)


def _check_sizes(content: Any, name: str, rows: int = 1) -> None:
    """Raise `StructureError("too_large")` if an encoding, itself perhaps a few bytes, declares too much content."""
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
    if isinstance(content, Mapping):
        rows = content.get("rowCount", rows)
        sizes = [size for key in ("rowCount", "srcSize") if (size := content.get(key)) is not None]
        if content.get("kind") == "RunLength" and "srcSize" not in content:
            raise StructureError("not_a_structure", f"{name}: a run-length encoding without srcSize")
        if max(sizes, default=0) > MOST_ROWS or rows * len(content.get("stringData", "")) > MOST_LETTERS:
            raise StructureError("too_large", f"{name}: a column of more than {MOST_ROWS} rows, or of too long texts")
    for part in parts:
        _check_sizes(part, name, rows)


def _as_text(block: Any) -> gemmi.cif.Block:
    """The categories `TAGS` of a block, as a text CIF block."""
    made = gemmi.cif.Block("binary")
    for category, tags in TAGS.items():
        if category not in block:
            continue
        columns = {tag: block[category][tag].as_array(str) for tag in tags if tag in block[category]}
        if columns:
            loop = made.init_mmcif_loop(f"_{category}.", list(columns))
            loop.set_all_values([_quoted(column) for column in columns.values()])
    return made


def _quoted(column: np.ndarray) -> list[str]:
    """Cells as they are written in a CIF file."""
    values, which = np.unique(column, return_inverse=True)
    texts = [value if value in (".", "?") else gemmi.cif.quote(value) for value in values.tolist()]
    return [texts[index] for index in which.tolist()]
