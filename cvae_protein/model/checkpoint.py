"""Tensors and facts in one safetensors file, and the state of a training in it, so that it goes on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import UserError
from ..files import atomic_path


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any] | None = None) -> None:
    """Write tensors, and `facts` as JSON in the header, to a safetensors file."""
    clean = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(clean, temporary, metadata={"facts": json.dumps(facts or {}, sort_keys=True)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file that `save_tensors` wrote; `UserError` where it is absent or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return tensors, json.loads((file.metadata() or {}).get("facts", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); remove it and train again") from error


class Controller(Protocol):
    """A weight that moves with what it observes (`terms.TargetRate`)."""

    log_weight: float


class Training:
    """Everything that changes in a training: what is saved and restored as a whole."""

    def __init__(
        self,
        parameters: Iterable[tuple[str, torch.nn.Parameter]],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        rng: np.random.Generator,
        controllers: Sequence[Controller] = (),
    ) -> None:
        self.parameters = dict(parameters)
        self.averaged = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer, self.generator, self.rng = optimizer, generator, rng
        self.step = 0
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0
        self.controllers = controllers

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write the state; `identity` says what is being trained on what, and must be met again to resume."""
        tensors: dict[str, Tensor] = {"generator": self.generator.get_state(), "dropout": torch.get_rng_state()}
        for name, p in self.parameters.items():
            tensors[f"parameter.{name}"], tensors[f"averaged.{name}"] = p, self.averaged[name]
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        facts = {
            "identity": identity,
            "step": self.step,
            "rows": self.rows,
            "seconds": self.seconds,
            "controllers": [controller.log_weight for controller in self.controllers],
            "rng": self.rng.bit_generator.state,
        }
        save_tensors(path, tensors, facts)

    def restore(self, path: Path, identity: dict[str, Any]) -> bool:
        """Take up the state of a file; false where there is none or it belongs to another training."""
        if not path.is_file():
            return False
        tensors, facts = load_tensors(path)
        if facts["identity"] != json.loads(json.dumps(identity)):
            return False
        for name, p in self.parameters.items():
            p.data.copy_(tensors[f"parameter.{name}"])
            self.averaged[name].copy_(tensors[f"averaged.{name}"])
            prefix, suffix = "optimizer.", f".{name}"
            state = {
                key[len(prefix) : -len(suffix)]: value
                for key, value in tensors.items()
                if key.startswith(prefix) and key.endswith(suffix) and "." not in key[len(prefix) : -len(suffix)]
            }
            if state:
                self.optimizer.state[p] = state
        self.generator.set_state(tensors["generator"])
        torch.set_rng_state(tensors["dropout"])
        self.rng.bit_generator.state = facts["rng"]
        self.step, self.rows, self.seconds = facts["step"], facts["rows"], facts["seconds"]
        for controller, value in zip(self.controllers, facts["controllers"], strict=True):
            controller.log_weight = value
        return True
