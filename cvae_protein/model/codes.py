"""Codes of domains: their posteriors under a model, and the files in which its training stores them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.files import sha256
from .batch import DomainSet
from .cvae import CVAE
from .priors import Gaussian
from .spec import Spec, load_tensors, save_tensors

FILE = "codes.safetensors"  # in the folder of a model


@dataclass(frozen=True, eq=False)
class CodeSet:
    """Posteriors of the domains of a split, with their label ids (D, levels), lengths (D,) and sampling chances."""

    posterior: Gaussian
    labels: Tensor
    lengths: Tensor
    chance: np.ndarray

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """One code of each of the domains `rows`, with labels and lengths."""
        z = Gaussian(self.posterior.mean[rows], self.posterior.logvar[rows]).sample(generator)
        return z, self.labels[rows], self.lengths[rows]

    def take(self, rows: Tensor) -> CodeSet:
        """The codes of the domains `rows`."""
        posterior = Gaussian(self.posterior.mean[rows], self.posterior.logvar[rows])
        return CodeSet(posterior, self.labels[rows], self.lengths[rows], self.chance[rows.numpy()])


def codes_of(model: CVAE, domains: DomainSet, steps: int) -> CodeSet:
    """The posteriors of domains, after `steps` of latent refinement."""
    posterior = model.infer_all(domains, steps)
    chance = domains.weights / domains.weights.sum()
    return CodeSet(posterior, domains.label_ids(model.spec), torch.from_numpy(domains.lengths), chance)


def resumed_codes(path: Path | None, split: str, model: CVAE, domains: DomainSet, steps: int) -> CodeSet:
    """`codes_of` the domains of a split, which an interruption of training does not lose.

    They are taken from the file `path` if they are of the same model, weights included, and else stored there beside
    those of other splits. Raises `UserError` if the file is damaged.
    """
    if path is None:
        return codes_of(model, domains, steps)
    given = hashlib.sha256(f"{model.spec.to_json()} {steps}".encode())
    for name, value in sorted(model.state_dict().items()):
        given.update(name.encode() + value.cpu().numpy().tobytes())
    facts = {"model": given.hexdigest()}
    found: dict[str, CodeSet] = {}
    if path.is_file() and load_tensors(path)[1] == facts:
        found = read_codes(path)
    if split not in found:
        found[split] = codes_of(model, domains, steps)
        write_codes(path, found, facts)
    return found[split]


def write_codes(path: Path, codes: Mapping[str, CodeSet], facts: dict[str, str] | None = None) -> None:
    """Store the codes of splits in a safetensors file: `SPLIT/mean`, `logvar` (D, Z), `labels`, `lengths`, `chance`."""
    columns: dict[str, Tensor] = {}
    for split, each in codes.items():
        mean, logvar = each.posterior.mean, each.posterior.logvar
        own = {"mean": mean, "logvar": logvar, "labels": each.labels, "lengths": each.lengths}
        own["chance"] = torch.from_numpy(each.chance)
        columns |= {f"{split}/{name}": column for name, column in own.items()}
    save_tensors(path, columns, facts)


def read_codes(path: Path) -> dict[str, CodeSet]:
    """The codes of each split that `write_codes` stored; `UserError` if the file is damaged."""
    columns, _ = load_tensors(path)
    found = {}
    for split in dict.fromkeys(name.rpartition("/")[0] for name in columns):
        names = ("mean", "logvar", "labels", "lengths", "chance")
        mean, logvar, labels, lengths, chance = (columns[f"{split}/{name}"] for name in names)
        found[split] = CodeSet(Gaussian(mean, logvar), labels, lengths, chance.numpy())
    return found


def kept_codes(folder: Path, spec: Spec, store: Path, splits: Path) -> dict[str, CodeSet]:
    """The codes that a model's training stored, by split; none if it used other domains or splits."""
    here = {"store": sha256(store), "splits": sha256(splits)}
    if any(spec.origin.get(name) != found for name, found in here.items()) or not (folder / FILE).is_file():
        return {}
    return read_codes(folder / FILE)
