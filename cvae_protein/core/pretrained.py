"""The trained model that comes with the package: where it lies, its version, and what it was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from .errors import UserError
from .labels import superfamily, topology
from .variants import PRETRAINED

FOLDER = Path(__file__).parents[1] / "model" / PRETRAINED
SUPERFAMILIES = "superfamilies.txt"  # names of CATH and SCOPe, one a line, of all that the model was trained on
VERSION = "version.json"  # its number, and the SHA-256 of each file of weights


def is_named(model: str) -> bool:
    """Whether a name means the package's model: `pretrained`, or a version of it such as `pretrained@1`."""
    return model == PRETRAINED or model.startswith(f"{PRETRAINED}@")


def package_model(name: str = PRETRAINED) -> Path:
    """The folder of the package's model by its name; `UserError` where it is of another version, absent or damaged."""
    if not (FOLDER / VERSION).is_file():
        raise UserError(
            f"{name}: expected a model in {FOLDER}, found none; this copy of the package has no pretrained model. "
            "Train one with `make run` and give its folder, such as results/models/concat/seed0"
        )
    version, hashes = _version(FOLDER / VERSION)
    known = f"{PRETRAINED}@{version}"
    if name not in (PRETRAINED, known):
        raise UserError(f"{name}: expected {PRETRAINED} or {known}, the one that this version of the package has")
    for path, expected in hashes.items():
        if not (FOLDER / path).is_file() or _sha256(FOLDER / path) != expected:
            raise UserError(f"{FOLDER / path}: is not the file of {known}; install the package again")
    return FOLDER


def version() -> str:
    """The full name of the package's model, such as `pretrained@1`."""
    return f"{PRETRAINED}@{_version(FOLDER / VERSION)[0]}"


def _version(path: Path) -> tuple[int, dict[str, str]]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return found["version"], found["sha256"]


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def superfamilies() -> frozenset[str]:
    """Superfamilies, by their names in CATH and SCOPe, of domains that the package's model was trained on."""
    return frozenset((FOLDER / SUPERFAMILIES).read_text(encoding="utf-8").split())


@cache
def _topologies() -> frozenset[str]:
    return frozenset(name.rpartition(".")[0] for name in superfamilies())


def may_know(codes: Iterable[str]) -> bool:
    """Whether the package's model may have been trained on relatives of a domain with these codes of CATH or SCOPe.

    Codes without a superfamily may be those of any in their topology; a domain without a code may be anything.
    """
    codes = [code for code in codes if code]
    if named := [name for code in codes if (name := superfamily(code))]:
        return not superfamilies().isdisjoint(named)
    coarse = [name for code in codes if (name := topology(code))]
    return not coarse or not _topologies().isdisjoint(coarse)
