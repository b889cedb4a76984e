"""The one training loop, for the refiner and for every variant."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..progress import Progress, say
from ..settings import TrainSettings
from .checkpoint import Training

WARM_UP = 100  # steps
GRADIENT_NORM = 1.0
Losses = dict[str, tuple[Tensor, float]]  # name -> value in nats a structure, weight


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained: `losses(step)` is descended, `watch()` recorded; `identity` says of what, on what.

    `checkpoint`, if given, is the file that an interrupted training goes on from.
    """

    stage: str
    module: nn.Module
    losses: Callable[[int], Losses]
    watch: Callable[[], dict[str, float]]
    steps: int
    learning_rate: float
    identity: dict
    checkpoint: Path | None = None


def minimise(task: Task, state: Training, settings: TrainSettings) -> list[dict[str, float]]:
    """The training loop. Leaves the averaged weights in the module and returns the rows of the history."""
    if task.checkpoint is not None and state.restore(task.checkpoint, task.identity):
        say(task.stage, f"resumed at step {state.step} of {task.steps} from {task.checkpoint}")
    if next(task.module.parameters()).is_cuda:
        task.module.compile(dynamic=True)
    progress = Progress(task.stage, task.steps, "steps", done=state.step)
    started, before = time.monotonic(), state.seconds
    saved = started
    while state.step < task.steps:
        found, loss = _descend(task, state, settings)
        state.seconds = before + time.monotonic() - started
        if state.step % settings.report_every == 0 or state.step == task.steps:
            row = {"step": state.step, "seconds": round(state.seconds, 2), "loss": loss}
            row |= {name: value.item() for name, (value, _) in found.items()}
            state.rows.append(row | _with_averaged(task.module, state, task.watch))
        progress.advance(note=_note(state.rows))
        due = time.monotonic() - saved > settings.checkpoint_seconds and state.step < task.steps
        if task.checkpoint is not None and due:
            state.save(task.checkpoint, task.identity)
            saved = time.monotonic()
    with torch.no_grad():
        for name, p in state.parameters.items():
            p.copy_(state.averaged[name])
    task.module.eval()
    return state.rows


def _descend(task: Task, state: Training, settings: TrainSettings) -> tuple[Losses, float]:
    """One step of the optimiser and of the averaged weights; the terms and their weighted sum before it."""
    warm = min(1.0, (state.step + 1) / WARM_UP)
    for group in state.optimizer.param_groups:
        group["lr"] = task.learning_rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * state.step / task.steps)))
    task.module.train()
    found = task.losses(state.step)
    loss = torch.stack([value * weight for value, weight in found.values()]).sum()
    if not torch.isfinite(loss):
        raise UserError(f"{task.stage}: the loss is {loss.item()} at step {state.step}; lower train.learning_rate")
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(task.module.parameters(), GRADIENT_NORM)
    state.optimizer.step()
    decay = min(settings.ema, (state.step + 1) / (state.step + 10))
    with torch.no_grad():
        for name, p in state.parameters.items():
            state.averaged[name].lerp_(p, 1 - decay)
    state.step += 1
    return found, loss.item()


def _with_averaged(module: nn.Module, state: Training, watch: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What `watch` sees of the module with its averaged weights, in evaluation mode."""
    current = {name: p.detach().clone() for name, p in state.parameters.items()}
    with torch.no_grad():
        for name, p in state.parameters.items():
            p.copy_(state.averaged[name])
        module.eval()
        seen = watch()
        for name, p in state.parameters.items():
            p.copy_(current[name])
    return seen


def _note(rows: list[dict[str, float]]) -> str:
    if not rows:
        return ""
    shown = ("loss", "rmsd", "validation_rmsd", "kl", "active_units")
    return ", ".join(f"{name} {rows[-1][name]:.2f}" for name in shown if name in rows[-1])
