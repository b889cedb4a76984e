"""Dotted fold labels of CATH, SCOPe or the user: levels, parents, codes, order and ids."""

from __future__ import annotations

import re
import unicodedata
import zlib

SCHEMES = {  # topology or fold, and the part that the superfamily adds
    "cath": re.compile(r"([0-9]+\.[0-9]+\.[0-9]+)(\.[0-9]+)?"),  # three levels if the superfamily is unknown
    "scope": re.compile(r"([a-z]\.[0-9]+)(\.[0-9]+)\.[0-9]+"),
}
CLASSES = {"cath": ("1", "2", "3", "4", "6"), "scope": tuple("abcdefghijkl")}
USUAL_CLASSES: dict[str, tuple[str, ...]] = {"cath": ("1", "2", "3"), "scope": ("a", "b", "c", "d")}
"""All first levels of a classification (`CLASSES`), and those of the folds of ordinary proteins."""


def _levels(code: str) -> tuple[str, str]:
    """Topology and homologous superfamily of a code, each empty if the code does not give it."""
    match = SCHEMES["cath"].fullmatch(code) or SCHEMES["scope"].fullmatch(code)
    return (match[1], match[1] + match[2] if match[2] else "") if match else ("", "")


def superfamily(code: str) -> str:
    """Homologous superfamily: a whole CATH code, three levels of a SCOPe code; empty if the code is shorter."""
    return _levels(code)[1]


def topology(code: str) -> str:
    """Topology (CATH, `3.40.50`) or fold (SCOPe, `c.37`), the level above the superfamily; empty if there is none."""
    return _levels(code)[0]


def architecture(code: str) -> str:
    """The level above the topology: `3.40` for a CATH code, the class `c` for a SCOPe one; empty if there is none."""
    return topology(code).rpartition(".")[0]


ANY = "any"
"""The only label in a run whose structures have no labels."""
RESERVED = {ANY, "all", "worst_decile"}  # other values in columns of fold classes
LONGEST_LEVEL = 40  # characters of one level of a user's label in its code


def own_code(text: str) -> str:
    """The code of a user's label (levels separated by dots), which can be used in ids and file names.

    Text of ASCII letters, digits, `_` and `-` is its own code. Other text keeps these characters and gets a checksum,
    so that different texts have different codes. Raises `ValueError` if a level is empty.
    """
    levels = [" ".join(level.split()) for level in text.split(".")]
    if not all(levels):
        raise ValueError(f"expected text, or levels with one dot between them, got {text!r}")
    return ".".join(map(_level_code, levels))


def is_text_of(text: str, code: str) -> bool:
    """Whether `code` is the code of the user's label `text`."""
    try:
        return own_code(text) == code
    except ValueError:
        return False


def _level_code(level: str) -> str:
    plain = unicodedata.normalize("NFKD", level).encode("ascii", "ignore").decode()
    code = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:LONGEST_LEVEL]
    if code == level and code.lower() not in RESERVED | set(RUNGS):
        return code
    return f"{code or 'class'}-{zlib.crc32(level.encode()):08x}"


def truncate(label: str, level: int) -> str:
    """The first `level` levels of a label."""
    return ".".join(label.split(".")[:level])


def depth_of(label: str) -> int:
    """Number of levels of a label; 0 if it is empty."""
    return label.count(".") + 1 if label else 0


def lineage(label: str) -> list[str]:
    """A label truncated at each of its levels: `3`, `3.40`, `3.40.50`; an empty list for an empty label."""
    return [truncate(label, level) for level in range(1, depth_of(label) + 1)]


def label_ids(vocabulary: tuple[tuple[str, ...], ...], label: str) -> list[int]:
    """Id of a dotted label at each level of a vocabulary; 0 from the first level that is not in it."""
    depth = depth_of(label)
    ids: list[int] = []
    for level, names in enumerate(vocabulary, 1):
        name = truncate(label, level)
        known = depth >= level and name in names and (level == 1 or ids[-1] > 0)
        ids.append(names.index(name) + 1 if known else 0)
    return ids


def is_within(label: str, fold: str) -> bool:
    """Whether a label lies in a fold class: equal to it, or below it as `3.40.50` is in `3.40`."""
    return label == fold or label.startswith(fold + ".")


RUNGS = ("new_member", "new_superfamily", "new_topology")
"""How new a held-out domain is: its superfamily is in training, only its topology is, or neither."""


def first_level(label: str) -> str:
    """First level of a label: `3` of `3.40.50.300`, `c` of `c.37.1.8`."""
    return label.split(".", 1)[0]


CLASS_NAMES = {
    "1": "mainly α", "2": "mainly β", "3": "α and β", "4": "few secondary structures", "6": "special",
    "a": "all α", "b": "all β", "c": "α/β", "d": "α+β", "e": "multi-domain", "f": "membrane", "g": "small",
}  # fmt: skip


def label_order(label: str) -> list[tuple[int, str]]:
    """Sort key that puts `3.9` before `3.10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", label) if part]
