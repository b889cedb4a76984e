"""The one training loop, for the refiner and for every variant."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..progress import Progress, say
from ..settings import TrainSettings
from .checkpoint import Training

WARM_UP = 100  # steps
GRADIENT_NORM = 1.0
Losses = dict[str, tuple[Tensor, float]]  # name -> value in nats a structure, weight


def minimise(
    stage: str,
    module: nn.Module,
    losses: Callable[[int], Losses],
    watch: Callable[[], dict[str, float]],
    settings: TrainSettings,
    steps: int,
    learning_rate: float,
    state: Training,
    checkpoint: Path | None,
    identity: dict,
) -> list[dict[str, float]]:
    """The training loop: descend the weighted sum of `losses(step)`, keep averaged weights, record `watch()`.

    Leaves the averaged weights in `module` and returns the rows of the history.
    """
    if checkpoint is not None and state.restore(checkpoint, identity):
        say(stage, f"resumed at step {state.step} of {steps} from {checkpoint}")
    if next(module.parameters()).is_cuda:
        module.compile(dynamic=True)
    progress = Progress(stage, steps, "steps")
    progress.done = state.step
    started = saved = time.monotonic()
    before = state.seconds
    while state.step < steps:
        warm = min(1.0, (state.step + 1) / WARM_UP)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * state.step / steps)))
        module.train()
        found = losses(state.step)
        loss = torch.stack([value * weight for value, weight in found.values()]).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{stage}: the loss is {loss.item()} at step {state.step}")
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), GRADIENT_NORM)
        state.optimizer.step()
        decay = min(settings.ema, (state.step + 1) / (state.step + 10))
        with torch.no_grad():
            for name, p in state.parameters.items():
                state.averaged[name].lerp_(p, 1 - decay)
        state.step += 1
        state.seconds = before + time.monotonic() - started
        if state.step % settings.report_every == 0 or state.step == steps:
            row = {"step": state.step, "seconds": round(state.seconds, 2), "loss": loss.item()}
            row |= {name: value.item() for name, (value, _) in found.items()} | _with_averaged(module, state, watch)
            state.rows.append(row)
        progress.advance(note=_note(state.rows))
        if checkpoint is not None and time.monotonic() - saved > settings.checkpoint_seconds and state.step < steps:
            state.save(checkpoint, identity)
            saved = time.monotonic()
    with torch.no_grad():
        for name, p in state.parameters.items():
            p.copy_(state.averaged[name])
    module.eval()
    return state.rows


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
