"""Contents of a results folder; a missing optional file gives an empty answer, not an error."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..core.errors import UserError
from ..core.files import check_may_read, read_table
from ..core.labels import ANY, CLASS_NAMES, first_level, is_text_of, is_within, label_order
from ..core.pretrained import may_know
from ..core.variants import FINE_TUNED, PRETRAINED, find
from ..store.layout import Entry
from ..store.read import Store

MOST_SHOWN = 400  # structures of a store
PDB_ID = re.compile(r"[0-9](?=[0-9]{0,2}[a-z])[a-z0-9]{3}")
LONGEST_NAME = 40  # letters of a fold's name that are shown
NEEDED = {"confusion.tsv": ("predicted",), "verdicts.tsv": ("state",)}  # columns, by name of the table


def number(text: object) -> float:
    """`text` as a number, NaN if it is none."""
    try:
        return float(str(text))
    except ValueError:
        return math.nan


@dataclass(frozen=True, eq=False)
class Latents:
    """Posterior codes of the domains: `mean kl` (D, Z), `split` and `label` (D), and `blocks`, names of ranges of Z."""

    label: list[str]
    split: list[str]
    mean: np.ndarray
    kl: np.ndarray
    blocks: dict[str, list[int]]


@dataclass(frozen=True)
class Results:
    """A results folder and the runs in it that the page shows."""

    root: Path
    variants: list[str]
    seeds: list[str]
    _stores: dict[Path, Store | None] = field(default_factory=dict, repr=False)
    _tables: dict[Path, list[dict[str, str]]] = field(default_factory=dict, repr=False)

    def table(self, *parts: str) -> list[dict[str, str]]:
        """Rows of a table, none if the file is absent."""
        path = self.root.joinpath(*parts)
        if path not in self._tables:
            self._tables[path] = read_table(path, NEEDED.get(path.name, ())) if path.is_file() else []
        return self._tables[path]

    def json(self, *parts: str) -> Any:
        """Content of a JSON file, None if it is absent or unreadable."""
        path = self.root.joinpath(*parts)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def store(self, *parts: str) -> Store | None:
        """An opened store, None if the file is absent; `close` closes all."""
        path = self.root.joinpath(*parts)
        if path not in self._stores:
            self._stores[path] = Store(path) if path.is_file() else None
        return self._stores[path]

    def close(self) -> None:
        """Close every store that was opened."""
        for store in self._stores.values():
            if store is not None:
                store.file.close()
        self._stores.clear()

    def entries(self, *parts: str, ids: Iterable[str] | None = None, limit: int = MOST_SHOWN) -> list[Entry]:
        """Structures of a store, at most `limit` of them, evenly spaced."""
        store = self.store(*parts)
        if store is None:
            return []
        known = set(store.ids)
        names = store.ids if ids is None else [name for name in ids if name in known]
        return list(store.entries(names[:: max(1, math.ceil(len(names) / limit))]))

    def samples(self, variant: str, kind: str) -> list[Entry]:
        """Structures of a variant over all seeds; `kind` is `samples`, `raw` or `reconstructions`."""
        share = max(1, MOST_SHOWN // max(1, len(self.seeds)))
        found = (self.entries(*self.place("samples", variant, seed), f"{kind}.h5", limit=share) for seed in self.seeds)
        return [entry for entries in found for entry in entries]

    @staticmethod
    def place(stage: str, variant: str, seed: str) -> tuple[str, str, str]:
        """Folder of a stage's output for one variant and seed."""
        return stage, variant, f"seed{seed}"

    def runs(self, stage: str, name: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Variant, seed and path parts of each existing file `name` of a stage."""
        for variant in self.variants:
            for seed in self.seeds:
                parts = (*self.place(stage, variant, seed), name)
                if self.root.joinpath(*parts).is_file():
                    yield variant, seed, parts

    def structures(self, variant: str, kinds: tuple[str, ...]) -> list[dict[str, str]]:
        """Rows of `structures.tsv` of a variant (all seeds) or of `real`, of the given kinds."""
        if variant == "real":
            rows = self.table("scores", "real", "structures.tsv")
            return [row for row in rows if row.get("kind", "") in kinds]
        tables = (self.table(*self.place("scores", variant, seed), "structures.tsv") for seed in self.seeds)
        return [row for rows in tables for row in rows if row.get("kind", "") in kinds]

    def latents(self, variant: str, seed: str) -> Latents | None:
        """Codes of one run, None where they are absent."""
        path = self.root.joinpath(*self.place("samples", variant, seed), "latents.h5")
        if not path.is_file():
            return None
        check_may_read(path)
        try:
            with h5py.File(path, "r", locking=False) as file:
                arrays = {**file, **file.get("table", {})}
                text = {name: [str(value) for value in arrays[name].asstr()[:]] for name in ("label", "split")}
                blocks = json.loads(file.attrs.get("blocks", "{}"))
                return Latents(text["label"], text["split"], arrays["mean"][:], arrays["kl"][:], blocks)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise UserError(f"{path}: not readable latent codes ({error})") from error

    @cached_property
    def splits(self) -> dict[str, dict[str, str]]:
        """Row of `splits.tsv` of each domain."""
        return {row["domain_id"]: row for row in self.table("splits.tsv")}

    @cached_property
    def pdb_ids(self) -> dict[str, str]:
        """PDB id, in small letters, of each domain whose row of `domains.tsv` has one."""
        ids = {row["domain_id"]: row.get("pdb_id", "").lower() for row in self.table("domains.tsv")}
        return {name: pdb for name, pdb in ids.items() if PDB_ID.fullmatch(pdb)}

    @cached_property
    def held_out(self) -> list[str]:
        """Ids of the domains of the split `test`."""
        return [name for name, row in self.splits.items() if row.get("split") == "test"]

    @cached_property
    def seen(self) -> list[str]:
        """Test and validation domains on whose relatives the package's model may have been trained."""
        store, columns = self.store("domains.h5"), ("label", "cath", "scope")
        held = [name for name, row in self.splits.items() if row.get("split") in ("test", "validation")]
        if store is None:
            return held
        return [name for name in held if may_know(str(store.fact(name, column, "")) for column in columns)]

    @cached_property
    def classifier_start(self) -> str:
        """The full name of the package's model if the fold classifier is that of the package; otherwise empty."""
        spec = self.json("models", "classifier", "spec.json") or {}
        return str(spec.get("origin", {}).get("start", {}).get("name", ""))

    @cached_property
    def unranked(self) -> list[str]:
        """Variants that may not be called the best: controls, and models perhaps trained on held-out domains."""
        known = bool(self.seen) or not self.held_out
        return [name for name in self.variants if not find(name).ranked or (known and self._is_packaged(name))]

    def _is_packaged(self, variant: str) -> bool:
        """Whether a variant is the package's model or started from trained weights of any origin."""
        if variant != FINE_TUNED:
            return variant == PRETRAINED
        specs = (self.json(*self.place("models", variant, seed), "spec.json") or {} for seed in self.seeds)
        return any(spec.get("origin", {}).get("start") for spec in specs)

    @cached_property
    def folds(self) -> list[str]:
        """The target classes of samples; without samples, the first levels of the domains' labels."""
        found: set[str] = set()
        for _, _, parts in self.runs("samples", "samples.h5"):
            store = self.store(*parts)
            found |= {str(label) for label in store.columns.get("label", ())} if store else set()
        if not found:
            found = {first_level(row.get("label", "")) for row in self.splits.values()} - {""}
        return sorted(found, key=label_order)

    @cached_property
    def names(self) -> dict[str, str]:
        """Name of each fold code: of the classes of CATH and SCOPe, and of all codes in `fold_names.tsv`."""
        store = self.store("domains.h5")
        columns: Mapping[str, Any] = store.columns if store else {}
        codes = [set(map(str, columns[name])) - {""} for name in ("label", "cath", "scope") if name in columns]
        own = len(codes) == 3 and not codes[0] <= codes[1] | codes[2]
        named = {row["code"]: row["name"] for row in self.table("fold_names.tsv")}
        return named | {ANY: "all structures"} if own else CLASS_NAMES | named

    def class_name(self, fold: str) -> str:
        """A fold class with its name if it has one, such as `1 mainly α` or `2.60 Sandwich`."""
        name = self.names.get(fold, "")
        if fold == ANY or is_text_of(name, fold):
            return name
        return f"{fold} {name[:LONGEST_NAME]}{'…' if len(name) > LONGEST_NAME else ''}" if name else fold

    def fold_of(self, label: str) -> str:
        """The most specific of `folds` that contains a domain's label; empty if none does."""
        return max((fold for fold in self.folds if is_within(label, fold)), key=len, default="")
