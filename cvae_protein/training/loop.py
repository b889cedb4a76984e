"""The common training loop: steps, rollbacks, early stopping, signals, TensorBoard curves."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config.settings import TrainSettings
from ..core.errors import UserError
from ..core.progress import Progress, say
from ..core.signals import heeded
from ..model import batch
from .checkpoint import DrawState, Packed, TrainingState, former
from .distributed import ALONE, Ranks

Curves = Callable[[dict[str, float]], None]  # takes a row of the history


@contextmanager
def curves_of(checkpoint: Path | None, step: int) -> Iterator[Curves]:
    """Write event files to the folder `NAME.events` beside a checkpoint `NAME.safetensors`; purge rows after `step`.

    Nothing is written if there is no checkpoint or TensorBoard is not installed.
    """
    if checkpoint is None or importlib.util.find_spec("tensorboard") is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    def add(row: dict[str, float]) -> None:
        for name, value in row.items():
            if name not in ("step", "best"):
                writer.add_scalar(name, value, int(row["step"]))
        writer.flush()

    with SummaryWriter(str(checkpoint.with_suffix(".events")), purge_step=step + 1) as writer:
        yield add


class Signals:
    """A context in which the first stop signal is recorded in `received`; a second one has its original effect."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python delivers signals to no other thread
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, *heeded())}
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()


def leave(number: int) -> None:
    """Exit like a process stopped by this signal: exit code 128 + its number."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


WARM_UP = 100  # steps
GRADIENT_NORM = 1.0
MOST_SAID = 5  # differing settings of a checkpoint that a message lists
MAX_ROLLBACKS = 4  # since the last row of the history, each at half the learning rate of the one before
Losses = dict[str, tuple[Tensor, float]]  # name -> value in nats per structure, weight


@dataclass(frozen=True, eq=False)
class Task:
    """A training task: `losses(step, ranks)` is minimised, `watch()` recorded; `identity` says what is trained on what.

    stage, seed : the name in messages; the seed of the noise and the dropout
    losses : the loss terms of a step, for a process's share of the batch, and the size of that share
    observe : receives the terms' values after every step
    watch : columns of the history, computed with the averaged weights
    score : of a row; the weights of the row with the lowest score are kept, by default those of the last row
    checkpoint : if given, the file from which an interrupted training run resumes
    structures : their number in a step; if memory is short they are split into parts
    started : whether the module starts from trained weights; the first row is theirs, and they may be the best
    """

    stage: str
    module: nn.Module
    losses: Callable[[int, Ranks], tuple[Losses, float]]
    watch: Callable[[], dict[str, float]]
    steps: int
    learning_rate: float
    identity: dict
    seed: int = 0
    observe: Callable[[dict[str, float]], None] = lambda values: None
    score: Callable[[dict[str, float]], float] = lambda row: -row["step"]
    checkpoint: Path | None = None
    ranks: Ranks = ALONE
    structures: int = 1
    started: bool = False


@dataclass(frozen=True)
class _Step:
    """The outcome of a step: the terms' values, their weighted sum, what went wrong, and the stop signal."""

    values: dict[str, float]
    loss: float
    fault: str
    stop: int


def minimise(task: Task, state: TrainingState, settings: TrainSettings) -> list[dict[str, float]]:
    """Run the training loop; leaves the averaged weights of the best row in the module and returns the history.

    A step whose loss or gradient is not finite rolls training back to its state at the last row, with half the
    learning rate; `UserError` if that does not help. After a resumption that state is the resumed one.
    """
    if task.checkpoint is not None:
        _take_up(task, state, task.checkpoint)
    if next(task.module.parameters()).is_cuda:
        task.module.compile(dynamic=True)
    with curves_of(task.checkpoint if task.ranks.first else None, state.step) as curves, Signals() as signals:
        _run(task, state, settings, curves, signals)
    if task.checkpoint is not None and task.ranks.first:
        state.save(task.checkpoint, task.identity)  # in case what follows the training is interrupted
    with torch.no_grad():
        for name, p in state.parameters.items():
            p.copy_(state.best[name])
    task.module.eval()
    return state.rows


def _take_up(task: Task, state: TrainingState, checkpoint: Path) -> None:
    """Resume from the checkpoint, or from one that another run replaced; report the differences if neither matches."""
    differing = None
    for path in (checkpoint, former(checkpoint)):
        found = state.restore(path, task.identity)
        if found == []:
            say(task.stage, f"resumed at step {state.step} of {task.steps} from {path}")
            return
        differing = differing or found
    if differing:
        more = f" and {len(differing) - MOST_SAID} more" if len(differing) > MOST_SAID else ""
        said = f"{', '.join(differing[:MOST_SAID])}{more}"
        say(
            task.stage,
            f"{checkpoint} is of another training ({said}): begins anew, and keeps it as {former(checkpoint)}",
        )


def _run(task: Task, state: TrainingState, settings: TrainSettings, curves: Curves, signals: Signals) -> None:
    """Run all steps, with history rows, checkpoints and rollbacks."""
    progress = Progress(task.stage, task.steps, "steps", done=state.step)
    saved = started = time.monotonic()
    if task.started and not state.rows:
        _report(task, state, _Step({}, math.nan, "", 0))
    before, good = state.seconds, [state.snapshot()]
    while state.step < task.steps and not _out_of_patience(task, state, settings):
        seen = _descend(task, state, settings, signals)
        state.seconds = before + time.monotonic() - started
        if seen.fault:
            _roll_back(task, state, good, seen.fault)
            progress.done = state.step
        elif state.step % settings.report_every == 0 or state.step == task.steps:
            _report(task, state, seen)
            curves(state.rows[-1])
            good = [good[-1], state.snapshot()]
        if seen.stop:
            _stop(task, state, seen.stop)
        if not seen.fault:
            progress.advance(note=_note(state.rows))
        due = time.monotonic() - saved > settings.checkpoint_seconds and state.step < task.steps
        if task.checkpoint is not None and task.ranks.first and due:
            state.save(task.checkpoint, task.identity)
            saved = time.monotonic()


def _descend(task: Task, state: TrainingState, settings: TrainSettings, signals: Signals) -> _Step:
    """One step of the optimiser and of the averaged weights, unless the loss or its gradient is not finite."""
    rate = task.learning_rate * min(1.0, (state.step + 1) / WARM_UP) * 0.5**state.rollbacks
    for group in state.optimizer.param_groups:
        group["lr"] = rate * (0.02 + 0.49 * (1 + math.cos(math.pi * state.step / task.steps)))
    task.module.train()
    values, weights = _gradients(task, state)
    sums = task.ranks.add(torch.cat([values, values.new_tensor([float(signals.received > 0)])]))
    task.ranks.add_gradients(task.module.parameters())
    norm = nn.utils.clip_grad_norm_(task.module.parameters(), GRADIENT_NORM)
    *numbers, received_by_any, size = torch.cat([sums, norm[None]]).tolist()  # the only synchronisation with the device
    loss = sum(number * weight for number, weight in zip(numbers, weights.values(), strict=True))
    found = dict(zip(weights, numbers, strict=True))
    fault = f"the loss is {loss}" if not math.isfinite(loss) else ""
    if not fault and not math.isfinite(size):
        fault = f"the gradient of the loss is {size}"
    if not fault:
        state.optimizer.step()
        decay = min(settings.ema, (state.step + 1) / (state.step + 10))
        with torch.no_grad():
            for name, p in state.parameters.items():
                state.averaged[name].lerp_(p, 1 - decay)
        state.step += 1
        task.observe(found)
    stop = signals.received if task.ranks.count == 1 or received_by_any else 0  # all stop at the same step
    return _Step(found, loss, fault, stop or (signal.SIGTERM if received_by_any else 0))


def _gradients(task: Task, state: TrainingState) -> tuple[Tensor, dict[str, float]]:
    """This process's term values, scaled by its share, and the terms' weights; gradients stay in the parameters.

    If memory runs out, the batch is split into twice as many parts, processed one after another: their gradients add
    up like those of several processes, so that the step is the same up to rounding (`distributed`).
    """
    start = state.drawn()
    most = max(1, task.structures // task.ranks.count)
    while True:
        try:
            state.optimizer.zero_grad(set_to_none=True)
            return _in_parts(task, state, start)
        except batch.ERRORS as error:
            if not batch.is_out_of_memory(error):
                raise
            if state.parts == most:
                advice = "use a machine with more, or a smaller model"
                raise UserError(f"{task.stage}: memory does not suffice for one structure; {advice}") from error
        state.optimizer.zero_grad(set_to_none=True)
        batch.free_memory()
        state.parts = min(2 * state.parts, most)
        each = -(-most // state.parts)
        say(task.stage, f"memory does not suffice; a step's {most} structures follow in {state.parts} parts of {each}")


def _in_parts(task: Task, state: TrainingState, start: DrawState) -> tuple[Tensor, dict[str, float]]:
    """`_gradients` over `state.parts` parts of the batch; each part redraws the whole batch and its noise."""
    total, weights = torch.zeros(()), dict[str, float]()
    for part in range(state.parts):
        state.draw_from(start)
        _seed(task, state)
        losses, share = task.losses(state.step, task.ranks.part(part, state.parts))
        values = torch.stack([value for value, _ in losses.values()]) * share
        weights = {name: weight for name, (_, weight) in losses.items()}
        (values * values.new_tensor(list(weights.values()))).sum().backward()
        total = values.detach() + (total if part else 0)
    return total, weights


def _seed(task: Task, state: TrainingState) -> None:
    """Seed noise and dropout from seed, step and rollbacks alone: the same after a resumption.

    Noise is shared by all processes, dropout is not.
    """
    origin = [task.seed, state.step, state.rollbacks]
    state.generator.manual_seed(int(np.random.SeedSequence(origin).generate_state(1, np.uint64)[0]))
    own = np.random.SeedSequence([*origin, task.ranks.rank + 1]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(own))


def _roll_back(task: Task, state: TrainingState, good: list[Packed], fault: str) -> None:
    """Return to a good state with half the learning rate, and continue with newly drawn structures.

    If the newest good state fails at once, the one before it is used instead.
    """
    rollbacks, step = state.rollbacks + 1, state.step
    since = rollbacks - int(state.rows[-1]["rollbacks"] if state.rows else 0)
    if since > MAX_ROLLBACKS:
        raise UserError(
            f"{task.stage}: {fault} at step {step}, and was not finite {since} times in a row although each time the "
            "learning rate was halved; lower train.learning_rate and the weights of added terms, and look for "
            "structures with absurd coordinates"
        )
    drawn = state.drawn()
    if len(good) > 1 and step == good[-1][1]["step"]:
        good.pop()
    state.unpack(good[-1])
    state.rollbacks = rollbacks
    state.draw_from(drawn)
    say(task.stage, f"{fault} at step {step}; back to step {state.step} with half the learning rate")


def _report(task: Task, state: TrainingState, seen: _Step) -> None:
    """Append a row to the history, and keep the averaged weights if it is the best one."""
    row = {"step": state.step, "seconds": round(state.seconds, 2), "loss": seen.loss} | seen.values
    row |= _with_averaged(task.module, state, task.watch)
    row |= {"rollbacks": state.rollbacks, "best": 0}
    row = task.ranks.agree(row, next(iter(state.parameters.values())).device)
    best = _best_row(state)
    state.rows.append(row)
    if best is None or task.score(row) < task.score(state.rows[best]):
        row["best"] = 1
        if best is not None:
            state.rows[best]["best"] = 0
        for name, value in state.averaged.items():
            state.best[name].copy_(value)


def _best_row(state: TrainingState) -> int | None:
    return next((index for index, row in enumerate(state.rows) if row["best"]), None)


def _out_of_patience(task: Task, state: TrainingState, settings: TrainSettings) -> bool:
    """Whether the last `patience` rows brought no improvement."""
    best = _best_row(state)
    if not settings.patience or best is None or len(state.rows) - 1 - best < settings.patience:
        return False
    say(task.stage, f"{settings.patience} rows without a gain; stopped at step {state.step}")
    return True


def _stop(task: Task, state: TrainingState, number: int) -> None:
    """Stop as the signal demands; the checkpoint is written first, since the reader of the messages may be gone."""
    saved = task.checkpoint is not None
    if task.checkpoint is not None and task.ranks.first:
        state.save(task.checkpoint, task.identity)
    where = f"saved in {task.checkpoint}; run the same command again to go on" if saved else "nothing is kept"
    with contextlib.suppress(OSError):
        say(task.stage, f"stopped by {signal.Signals(number).name} at step {state.step} of {task.steps}; {where}")
    leave(number)


def _with_averaged(module: nn.Module, state: TrainingState, watch: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The result of `watch` for the module with its averaged weights, in evaluation mode."""
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
    """The progress note on the last row; a row from before the first step has no loss."""
    last = rows[-1] if rows else {}
    shown = ("loss", "rmsd", "validation_rmsd", "kl", "active_units")
    return ", ".join(f"{name} {last[name]:.2f}" for name in shown if math.isfinite(last.get(name, math.nan)))
