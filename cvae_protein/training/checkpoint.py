"""The state of a training run in a file, so that a resumed run continues bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..core.files import refuse_renamed
from ..model.batch import LengthBuckets
from ..model.spec import load_tensors, save_tensors

LONGEST_SHOWN = 40  # characters of a value shown in a message; hashes and lists of lengths are longer
OPTIMIZER_KEYS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW


class Controller(Protocol):
    """A weight that adapts to the values it observes (`evidence_bound.TargetRate`)."""

    log_weight: float


Packed = tuple[dict[str, Tensor], dict[str, Any]]
DrawState = tuple[Any, np.ndarray | None]  # state of the NumPy generator, batches drawn but not yet used


class TrainingState:
    """Everything that changes during training; it is saved, restored and rolled back as a whole.

    The noise and dropout of a step are derived from the seed and the step (`loop`), so they need not be stored here.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, torch.nn.Parameter]],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        rng: np.random.Generator,
        controllers: Sequence[Controller] = (),
        sampler: LengthBuckets | None = None,
    ) -> None:
        self.parameters = dict(parameters)
        self.averaged = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.best = {name: p.clone() for name, p in self.averaged.items()}
        self.optimizer, self.generator, self.rng = optimizer, generator, rng
        self.controllers, self.sampler = controllers, sampler
        self.step = 0
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0
        self.rollbacks = 0
        self.own: Path | None = None  # a file that holds a state of this training run; not saved
        self.parts = 1  # into which a batch is split, one after another, if memory is short; not saved

    def drawn(self) -> DrawState:
        """The current state of the sampling of training structures."""
        return self.rng.bit_generator.state, self.sampler.waiting.copy() if self.sampler is not None else None

    def draw_from(self, drawn: DrawState) -> None:
        """Continue sampling from such a state."""
        self.rng.bit_generator.state = drawn[0]
        if self.sampler is not None and drawn[1] is not None:
            self.sampler.waiting = drawn[1].copy()

    def pack(self) -> Packed:
        """The state as tensors, which are not copied, and the remaining values."""
        tensors: dict[str, Tensor] = {}
        for name, p in self.parameters.items():
            tensors[f"parameter.{name}"], tensors[f"averaged.{name}"] = p, self.averaged[name]
            tensors[f"best.{name}"] = self.best[name]
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        if self.sampler is not None:
            tensors["waiting"] = torch.from_numpy(self.sampler.waiting)
        facts = {
            "step": self.step,
            "rows": [dict(row) for row in self.rows],
            "seconds": self.seconds,
            "rollbacks": self.rollbacks,
            "controllers": [controller.log_weight for controller in self.controllers],
            "rng": self.rng.bit_generator.state,
        }
        return tensors, facts

    def unpack(self, packed: Packed) -> None:
        """Restore a packed state; its tensors are copied."""
        tensors, facts = packed
        for name, p in self.parameters.items():
            p.data.copy_(tensors[f"parameter.{name}"])
            self.averaged[name].copy_(tensors[f"averaged.{name}"])
            self.best[name].copy_(tensors[f"best.{name}"])
            keys = [key for key in OPTIMIZER_KEYS if f"optimizer.{key}.{name}" in tensors]
            self.optimizer.state.pop(p, None)
            if keys:
                state = {key: tensors[f"optimizer.{key}.{name}"].to(p.device, copy=True) for key in keys}
                self.optimizer.state[p] = state
        if self.sampler is not None:
            self.sampler.waiting = tensors["waiting"].numpy().copy()
        self.rng.bit_generator.state = facts["rng"]
        self.step, self.seconds, self.rollbacks = facts["step"], facts["seconds"], facts["rollbacks"]
        self.rows = [dict(row) for row in facts["rows"]]
        for controller, value in zip(self.controllers, facts["controllers"], strict=True):
            controller.log_weight = value

    def snapshot(self) -> Packed:
        """A copy of the state, kept in memory on the device."""
        tensors, facts = self.pack()
        return {name: value.detach().clone() for name, value in tensors.items()}, facts

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write the state; `identity` says what is trained on which data, and must match for training to resume.

        An existing file of another training run is kept next to it, so that a changed setting can be reverted.
        """
        if self.own != path and path.is_file() and differences(load_tensors(path)[1]["identity"], identity):
            os.replace(path, former(path))
        tensors, facts = self.pack()
        save_tensors(path, tensors, facts | {"identity": identity})
        self.own = path

    def restore(self, path: Path, identity: dict[str, Any]) -> list[str] | None:
        """Restore the state from a file, or return the differences if it belongs to another training run.

        None if there is no file; an empty list if its state was restored.
        """
        if not path.is_file():
            return None
        tensors, facts = load_tensors(path)
        if found := differences(facts["identity"], identity):
            return found
        refuse_renamed(path, "column", facts)
        self.unpack((tensors, facts))
        self.own = path
        return []


def former(path: Path) -> Path:
    """The path to which a checkpoint is moved when that of another training run replaces it."""
    return path.with_suffix(f".former{path.suffix}")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences between two identities, each such as `train.steps 4000, now 6000`; long values are not shown."""
    old, new = (_flat(json.loads(json.dumps(identity))) for identity in (before, now))
    found = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            values = [str(facts.get(key, "none")) for facts in (old, new)]
            shown = f" {values[0]}, now {values[1]}" if max(map(len, values)) <= LONGEST_SHOWN else " is another"
            found.append(f"{key}{shown}")
    return found


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an identity under dotted keys, as named in the configuration."""
    found: dict[str, Any] = {}
    for key, value in identity.items():
        if key == "spec" and isinstance(value, str):
            value = json.loads(value)
        if isinstance(value, Mapping):
            below = _flat(value)
            found |= below if key in ("spec", "origin") else {f"{key}.{name}": each for name, each in below.items()}
        else:
            found[key] = value
    return found
