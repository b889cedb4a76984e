"""The trained model that comes with the package: its folder, its version and its training domains."""

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
SUPERFAMILIES = "superfamilies.txt"  # CATH and SCOPe superfamilies that the model was trained on, one per line
VERSION = "version.json"  # version number, and the SHA-256 of each weights file


def is_named(model: str) -> bool:
    """Whether a name refers to the package's model: `pretrained`, or a version such as `pretrained@1`."""
    return model == PRETRAINED or model.startswith(f"{PRETRAINED}@")


def package_model(name: str = PRETRAINED) -> Path:
    """The folder of the package's model; `UserError` if it is missing, damaged or of another version than named."""
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
    """CATH and SCOPe superfamilies of the domains that the package's model was trained on."""
    return frozenset((FOLDER / SUPERFAMILIES).read_text(encoding="utf-8").split())


@cache
def _topologies() -> frozenset[str]:
    return frozenset(name.rpartition(".")[0] for name in superfamilies())


def may_know(codes: Iterable[str]) -> bool:
    """Whether the package's model may have been trained on relatives of a domain with these CATH or SCOPe codes.

    A code without a superfamily may belong to any superfamily of its topology; a domain without a code, to any at all.
    """
    codes = [code for code in codes if code]
    if named := [name for code in codes if (name := superfamily(code))]:
        return not superfamilies().isdisjoint(named)
    coarse = [name for code in codes if (name := topology(code))]
    return not coarse or not _topologies().isdisjoint(coarse)
