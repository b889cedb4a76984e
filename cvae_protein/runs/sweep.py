"""Settings with some keys changed: the points of a sweep, and the space of a search."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import reduce
from typing import Any

from ..config import load
from ..config.settings import Settings
from ..core.errors import UserError

SWEPT = ("model", "train", "sample")  # all points share the stages before these, and the refiner
SEARCHED = ("model", "train")
REFINED = "model.coefficients"
UNSEEN = (
    "train.flow_steps",
    "train.flow_dropout",
    "train.flow_label_dropout",
    "train.processes",
)  # of no effect on a trial's objective
MOST_POINTS = 200
WIDE = 10.0  # factor between the ends of a range from which its logarithm is searched


@dataclass(frozen=True)
class Choices:
    """A choice of one of several values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A number between two ends, an integer if both are; uniform in its logarithm if `log`."""

    low: float
    high: float
    log: bool


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with dotted keys such as `train.kl.weight` changed; `UserError` as for a file with these values."""
    return load.load(merged(asdict(settings), changes))


def merged(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a nested mapping with the values of dotted keys set in it."""
    whole = dict(data)
    for key, value in changes.items():
        first, _, rest = key.partition(".")
        below = whole.get(first)
        whole[first] = merged(below if isinstance(below, Mapping) else {}, {rest: value}) if rest else value
    return whole


def points(settings: Settings) -> dict[str, Settings]:
    """The settings of each point of the grid `sweep`, by a name that states its values and is used as a folder.

    Raises `UserError` if a key or value is wrong.
    """
    if not settings.sweep:
        return {}
    grid = {key: _values("sweep", key, values, settings, SWEPT) for key, values in settings.sweep.items()}
    if REFINED in grid:
        raise UserError(
            f"sweep.{REFINED}: the refiner, which all points share, depends on it; give such runs `results`"
        )
    combinations = list(itertools.product(*grid.values()))
    if len(combinations) > MOST_POINTS:
        raise UserError(f"sweep: expected at most {MOST_POINTS} points, got {len(combinations)}; list fewer values")
    every = (dict(zip(grid, values, strict=True)) for values in combinations)
    return {point_name(changes): changed(settings, changes) for changes in every}


def point_name(changes: Mapping[str, Any]) -> str:
    """Name of the point with these values, such as `train.kl.weight=0.3,model.latent=32`."""
    return ",".join(f"{key}={value}" for key, value in changes.items())


def point_values(name: str) -> dict[str, str]:
    """The values stated by a point's name, as text."""
    pairs = [part.partition("=") for part in name.split(",")]
    if not all(key and sign for key, sign, _ in pairs):
        raise UserError(f"{name}: expected the name of a point of a sweep, such as model.latent=32")
    return {key: value for key, _, value in pairs}


def space(settings: Settings) -> dict[str, Choices | Range]:
    """The possible values of each key of `tune.space`; `UserError` if a key or value is wrong."""
    found: dict[str, Choices | Range] = {}
    for key, given in settings.tune.space.items():
        values = _values("tune.space", key, given, settings, SEARCHED)
        if key in UNSEEN:
            raise UserError(f"tune.space.{key}: the objective does not depend on it; give it a value instead")
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) == len(values) == 2:
            low, high = sorted(numbers)
            found[key] = Range(low, high, log=low > 0 and high / low >= WIDE)
        else:
            found[key] = Choices(tuple(values))
    return found


def _values(where: str, key: str, given: Any, settings: Settings, sections: tuple[str, ...]) -> list[Any]:
    """The values listed for a key, in the type of the setting: `1` and the text `1e0` as 1.0 if that is a number."""
    if key.split(".")[0] not in sections or "." not in key:
        raise UserError(f"{where}.{key}: expected a key of {', '.join(sections)}, such as train.kl.weight")
    if not isinstance(given, list | tuple) or not given:
        raise UserError(f"{where}.{key}: expected a list of values, got {given!r}")
    values = [reduce(getattr, key.split("."), changed(settings, {key: value})) for value in given]
    if any(is_dataclass(value) for value in values):
        raise UserError(f"{where}.{key}: expected a key with a value, this is a section of keys")
    if len(set(values)) < len(values):
        raise UserError(f"{where}.{key}: expected each value once, got {given!r}")
    return values
