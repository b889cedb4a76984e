"""The fast path from the text of an mmCIF file to its backbone atoms: rows of `_atom_site` as columns of integers.

gemmi reads the rest of the file, so that syntax and entities have one meaning. Rows that are unusual (a quoted chain, a
residue in two parts, an exponent) leave the file to gemmi: both paths give the same atoms, or the fast one gives none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import gemmi
import numpy as np

from ..dataset.atoms import UNTOLD, Atoms, atom_index, entry_facts, name_code
from ..dataset.cells import CELL, Rows, UnusualError, changes, read_integers, read_numbers, require

HEAD = re.compile(rb"\nloop_ *\n((?:_atom_site\.[\w\[\]]+ *\n)+)")
CLOSED = re.compile(
    rb"(?:[ \n]*#[^\n]*\n)*[ \n]*(?:_|loop_|data_|\Z)"
)  # what may stand behind the rows: no more values
KEYS = {  # tell one residue from the next; of several tags the first that is there, as in gemmi
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
NEEDED = {"id", "type_symbol", "label_alt_id", "label_asym_id", "B_iso_or_equiv", "auth_seq_id", "occupancy", *PLACES}
LONGEST_NAME = 7  # bytes; what gemmi's flat structure can hold
BLOCK = 2**24  # bytes of rows that are cut at once, which bounds the memory
DOT, UNKNOWN, ATOM, HETATM = (np.uint64(name_code(name)) for name in (".", "?", "ATOM", "HETATM"))
HASH = np.uint64(0x9E3779B97F4A7C15)  # an odd number, of Fibonacci hashing
Part = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # columns of residues (R,), and of backbone atoms (A,)


def _told(words: np.ndarray) -> np.ndarray:
    """Which cells are neither `.` nor `?`."""
    return (words != DOT) & (words != UNKNOWN)


def _part(rows: Rows, tags: Mapping[str, str]) -> Part:
    """What the first row of every residue says of it, and what each backbone atom has of its own."""
    keys = [rows.cells(tags[name], LONGEST_NAME) for name in KEYS]
    new = changes(*keys)
    first = np.flatnonzero(new)
    heads = {name: key[first] for name, key in zip(KEYS, keys, strict=True)}
    for name, tag in OPTIONAL.items():
        if tag in rows.tags:
            heads[name] = rows.cells(tag, LONGEST_NAME, first)
    if "pdbx_formal_charge" in rows.tags:
        charge = rows.cells("pdbx_formal_charge", LONGEST_NAME)
        if (told := _told(charge)).any():
            read_integers(charge[told])  # gemmi refuses the file where one is no integer
    index = atom_index(rows.cells(tags["atom"], LONGEST_NAME))
    found = np.flatnonzero(index >= 0)
    altloc = rows.cells("label_alt_id", 1)[found]
    occupancy = rows.cells("occupancy", CELL, found)
    level = changes(occupancy)  # mostly of one value
    places = [rows.cells(tag, CELL, found) for tag in PLACES]
    values, _ = read_numbers(np.concatenate([*places, occupancy[level]]))
    return heads, {
        "head": np.cumsum(new)[found] - 1,
        "atom": index[found],
        "altloc": np.where(_told(altloc), altloc, 0).astype(np.uint8),
        "occupancy": values[3 * len(found) :].astype(np.float32)[np.cumsum(level) - 1],
        "position": values[: 3 * len(found)].reshape(3, -1).T,
    }


def _joined(parts: Sequence[Part]) -> Part:
    """Residues and atoms of all blocks; a residue that two blocks share is one."""
    if len(parts) == 1:
        return parts[0]
    heads = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
    atoms = {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}
    offset = np.cumsum([0, *(len(part["model"]) for part, _ in parts[:-1])])
    new = changes(*(heads[name] for name in KEYS))
    head = atoms["head"] + np.repeat(offset, [len(part["head"]) for _, part in parts])
    return {name: column[new] for name, column in heads.items()}, {**atoms, "head": (np.cumsum(new) - 1)[head]}


def _check_heads(heads: Mapping[str, np.ndarray]) -> None:
    """`UnusualError` where a model or residue stands in two parts, which gemmi joins, or a cell has another form."""
    require(len(np.unique(heads["model"])) == np.count_nonzero(changes(heads["model"])))
    key = np.zeros(len(heads["model"]), "<u8")
    for name in KEYS:
        if name != "subchain":
            key = key * HASH + heads[name]  # equal residues have equal keys, others hardly ever
    key.sort()
    require((key[1:] != key[:-1]).all())
    require(all(_told(heads[name]).all() for name in ("chain", "subchain", "residue")))
    if "record" in heads:
        require(((heads["record"] == ATOM) | (heads["record"] == HETATM)).all())


def _entities(subchains: np.ndarray, structure: gemmi.Structure) -> np.ndarray:
    """The number of each subchain's `gemmi.EntityType` (R,)."""
    kinds = {
        part: int(entity.entity_type.value) for entity in reversed(structure.entities) for part in entity.subchains
    }
    new = changes(subchains)
    each = [kinds.get(name.decode(), UNTOLD) for name in subchains[new].view("S8").tolist()]
    return np.array(each)[np.cumsum(new) - 1]


def _atoms(heads: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], structure: gemmi.Structure) -> Atoms:
    _check_heads(heads)
    insertion = np.where(_told(heads["insertion"]), heads["insertion"], 0)
    require(insertion.max() < 256)
    position = heads["position"][_told(heads["position"])] if "position" in heads else heads["number"][:0]
    numbers = read_integers(np.concatenate([heads["model"], heads["number"], position]))
    model, number = numbers[: len(insertion)], numbers[len(insertion) : 2 * len(insertion)]
    chain = heads["chain"][model == model[0]]
    resolution, method = entry_facts(structure)
    head = own["head"]
    return Atoms(
        model=model[head],
        chain=heads["chain"][head].view("S8"),
        subchain=heads["subchain"][head].view("S8"),
        number=number[head],
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
    """Tags of the `_atom_site` loop, where its rows begin and end, and what gemmi makes of the rest of the file."""
    head = HEAD.search(data)
    if not head:
        raise UnusualError
    require(data.count(b"\n;", 0, head.start()) % 2 == 0)  # not inside a text of several lines
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
    require(not structure.shortened_ccd_codes)
    require(document[0].find_values("_struct_asym.id") or not len(structure.entities))
    return tags, begin, end, structure


def read_columns(data: bytes) -> Atoms | None:
    """The backbone atoms of an mmCIF file's text, or None where it has not the common form that is read fast."""
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
    except (UnusualError, ValueError, RuntimeError):  # what gemmi raises of the rest, it raises of the whole
        return None
