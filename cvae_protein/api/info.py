"""Contents of a model, a store or a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import UserError
from ..core.labels import first_level, label_order
from .structures import STORES

if TYPE_CHECKING:
    from ..model.spec import Spec

FIGURES = ("trace_rmsd", "physically_valid", "nearest_tm", "nearest_same_class", "class_leakage")
"""Metrics of a run that are shown, over all classes."""


def info(path: str | Path = "pretrained") -> dict[str, Any]:
    """Describe a model, a store of structures or the results folder of a run.

    Parameters
    ----------
    path : `pretrained`, the folder of a model, a store (.h5), or a results folder

    Returns
    -------
    dict : `kind` (`model`, `store` or `run`) and the facts of that kind; tables are lists of rows, lengths in residues

    Raises
    ------
    UserError : if it is none of these

    Examples
    --------
    >>> found = info("pretrained")
    >>> found["kind"], found["latent"], found["folds"][0]
    ('model', 64, {'fold': '1', 'domains': 1711, 'shortest': 40, 'median': 117, 'longest': 255})
    >>> info("domains.h5")["folds"]
    [{'fold': '3', 'domains': 2, 'shortest': 46, 'median': 76, 'longest': 76}]
    """
    from ..model.registry import resolve

    folder, _ = resolve(Path(path), None)
    if folder.suffix in STORES:
        return _of_store(folder)
    if (folder / "spec.json").is_file():
        return _of_model(folder)
    if any((folder / name).exists() for name in ("run.json", "domains.h5", "models")):
        return _of_run(folder)
    raise UserError(f"{path}: expected the folder of a model or of a run, or a store (.h5), found none of them")


def _folds(labels: Iterable[str], lengths: Iterable[int]) -> list[dict[str, Any]]:
    """One row per first-level class."""
    found: dict[str, list[int]] = {}
    for label, length in zip(labels, lengths, strict=True):
        found.setdefault(first_level(label), []).append(length)
    rows = sorted(found.items(), key=lambda item: label_order(item[0]))
    return [_row(fold, sorted(own)) for fold, own in rows]


def _row(fold: str, lengths: list[int]) -> dict[str, Any]:
    middle = lengths[len(lengths) // 2]
    return {"fold": fold, "domains": len(lengths), "shortest": lengths[0], "median": middle, "longest": lengths[-1]}


def _of_store(path: Path) -> dict[str, Any]:
    from ..store.read import Store

    with Store(path) as store:
        first = [store.rows(name)[0] for name in store.ids]
        labels = store.columns.get("label", np.full(len(store), ""))[first].tolist()
        kind = store.file.attrs.get("kind", b"")
        return {
            "kind": "store",
            "path": str(path),
            "holds": kind.decode() if isinstance(kind, bytes) else str(kind),
            "structures": len(first),
            "conformations": len(store),
            "residues": int(store.lengths.sum()),
            "columns": list(store.columns),
            "folds": _folds(labels, store.lengths[first].tolist()),
        }


def _of_model(folder: Path) -> dict[str, Any]:
    from ..model.spec import Spec

    try:
        spec = Spec.read(folder / "spec.json")
    except UserError as error:
        raise UserError(f"{folder}: is no model that draws structures ({error})") from error
    labels: list[int] = [len(level) for level in spec.vocabulary]
    return {
        "kind": "model",
        "path": str(folder),
        "variant": spec.variant,
        "seed": spec.seed,
        "latent": spec.model.latent,
        "labels": labels,
        "device": _device(),
        "settings": asdict(spec.model),
        "figures": _card(folder),
        "folds": _folds_of(spec),
    }


def _folds_of(spec: Spec) -> list[dict[str, Any]]:
    return sorted(spec.folds(), key=lambda row: label_order(str(row["fold"])))


def _device() -> str:
    """The device on which a model would run here."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _card(folder: Path) -> list[dict[str, Any]]:
    """The figures of a model, from the run whose folder it is in."""
    results = folder.parents[2] if len(folder.parents) > 2 else folder
    seed = folder.name.removeprefix("seed")
    return [row for row in _figures(results) if (row["variant"], row["seed"]) == (folder.parent.name, seed)]


def _figures(results: Path) -> list[dict[str, Any]]:
    """One row per variant and seed of the score table, with its figures over all classes."""
    from ..core.files import read_table

    path = results / "scores.tsv"
    if not path.is_file():
        return []
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in read_table(path, ("variant", "seed", "fold", "metric", "value")):
        if row["fold"] == "all" and row["metric"] in FIGURES and row["split"] == "test":
            found = rows.setdefault((row["variant"], row["seed"]), {"variant": row["variant"], "seed": row["seed"]})
            found[row["metric"]] = round(float(row["value"]), 3)
    return list(rows.values())


def _of_run(results: Path) -> dict[str, Any]:
    from ..core.files import read_table

    found: dict[str, Any] = {"kind": "run", "path": str(results)}
    try:
        record = json.loads((results / "run.json").read_text(encoding="utf-8"))
        found |= {name: record[name] for name in ("started", "outcome", "configfiles", "profile") if record.get(name)}
    except (OSError, ValueError, TypeError):
        pass
    if (results / "domains.h5").is_file():
        found["folds"] = _of_store(results / "domains.h5")["folds"]
    if (results / "splits.tsv").is_file():
        found["splits"] = dict(Counter(row["split"] for row in read_table(results / "splits.tsv", ("split",))))
    found["models"] = sorted(str(path.parent) for path in results.glob("models/*/seed*/spec.json"))
    found["figures"] = _figures(results)
    if (results / "verdicts.tsv").is_file():
        rows = read_table(results / "verdicts.tsv", ("variant", "verdict", "state"))
        found["flagged"] = [f"{row['variant']} {row['verdict']}" for row in rows if row["state"] == "flagged"]
    return found
