"""Dotted fold labels of CATH, SCOPe and of one's own: their levels, parents, codes, order and ids."""

from __future__ import annotations

import re
import unicodedata
import zlib

SCHEMES = {  # a topology or fold, and what follows it in the superfamily
    "cath": re.compile(r"([0-9]+\.[0-9]+\.[0-9]+)(\.[0-9]+)?"),  # three levels where the superfamily is not known
    "scope": re.compile(r"([a-z]\.[0-9]+)(\.[0-9]+)\.[0-9]+"),
}
CLASSES = {"cath": ("1", "2", "3", "4", "6"), "scope": tuple("abcdefghijkl")}
USUAL_CLASSES: dict[str, tuple[str, ...]] = {"cath": ("1", "2", "3"), "scope": ("a", "b", "c", "d")}
"""First levels of a classification, and those of whole folds of ordinary proteins."""


def _levels(code: str) -> tuple[str, str]:
    """Topology and homologous superfamily of a code, empty where it does not say."""
    match = SCHEMES["cath"].fullmatch(code) or SCHEMES["scope"].fullmatch(code)
    return (match[1], match[1] + match[2] if match[2] else "") if match else ("", "")


def superfamily(code: str) -> str:
    """Homologous superfamily: all of a CATH code, the first three levels of a SCOPe one; empty where it ends above."""
    return _levels(code)[1]


def topology(code: str) -> str:
    """Topology (CATH, `3.40.50`) or fold (SCOPe, `c.37`), the level above the superfamily; empty if there is none."""
    return _levels(code)[0]


def architecture(code: str) -> str:
    """The level above the topology: `3.40` of a CATH code, the class `c` of a SCOPe one; empty if there is none."""
    return topology(code).rpartition(".")[0]


ANY = "any"
"""The one label of a run whose structures have none."""
RESERVED = {ANY, "all", "worst_decile"}  # what else stands where fold classes do
LONGEST_LEVEL = 40  # letters of a level of a user's label in its code


def own_code(text: str) -> str:
    """A user's label, with dots between its levels, as a code that can stand in ids and in names of files.

    Text of ASCII letters, digits, `_` and `-` is its own code. Of any other these are left, with a checksum, so that
    other text has another code. Raises `ValueError` where a level is empty.
    """
    levels = [" ".join(level.split()) for level in text.split(".")]
    if not all(levels):
        raise ValueError(f"expected text, or levels with one dot between them, got {text!r}")
    return ".".join(map(_level_code, levels))


def is_text_of(text: str, code: str) -> bool:
    """Whether `code` stands for the user's label `text`."""
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
    """Number of levels of a label, 0 of an empty one."""
    return label.count(".") + 1 if label else 0


def lineage(label: str) -> list[str]:
    """A label at each of its levels, from the first to itself: `3`, `3.40`, `3.40.50`; none of an empty one."""
    return [truncate(label, level) for level in range(1, depth_of(label) + 1)]


def label_ids(vocabulary: tuple[tuple[str, ...], ...], label: str) -> list[int]:
    """Ids of a dotted label at each level of a vocabulary, 0 from the first level on that it does not hold."""
    depth = depth_of(label)
    ids: list[int] = []
    for level, names in enumerate(vocabulary, 1):
        name = truncate(label, level)
        known = depth >= level and name in names and (level == 1 or ids[-1] > 0)
        ids.append(names.index(name) + 1 if known else 0)
    return ids


def is_within(label: str, fold: str) -> bool:
    """Whether a label lies in a fold class: equal to it or below it, such as `3.40.50` in `3.40`."""
    return label == fold or label.startswith(fold + ".")


RUNGS = ("new_member", "new_superfamily", "new_topology")
"""How new a held-out domain is to training: of a trained superfamily, of a trained topology alone, or of neither."""


def first_level(label: str) -> str:
    """First level of a label: `3` of `3.40.50.300`, `c` of `c.37.1.8`."""
    return label.split(".", 1)[0]


CLASS_NAMES = {
    "1": "mainly α", "2": "mainly β", "3": "α and β", "4": "few secondary structures", "6": "special",
    "a": "all α", "b": "all β", "c": "α/β", "d": "α+β", "e": "multi-domain", "f": "membrane", "g": "small",
}  # fmt: skip


def label_order(label: str) -> list[tuple[int, str]]:
    """Sort key under which `3.9` precedes `3.10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", label) if part]
