"""The one training loop: steps, rollbacks, early stop, signals, curves for TensorBoard."""

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
from ..model import batch
from .checkpoint import Drawn, Packed, Training
from .distributed import ALONE, Ranks

Row = dict[str, float]
Curves = Callable[[Row], None]  # takes a row of the history


@contextmanager
def curves_of(checkpoint: Path | None, step: int) -> Iterator[Curves]:
    """Event files in the folder `NAME.events` beside a checkpoint `NAME.safetensors`; rows after `step` are void.

    Nothing is written where there is no checkpoint or TensorBoard is not installed.
    """
    if checkpoint is None or importlib.util.find_spec("tensorboard") is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    def add(row: Row) -> None:
        for name, value in row.items():
            if name not in ("step", "best"):
                writer.add_scalar(name, value, int(row["step"]))
        writer.flush()

    with SummaryWriter(str(checkpoint.with_suffix(".events")), purge_step=step + 1) as writer:
        yield add


ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Within it the first signal that asks to stop is noted in `asked`; a second one does what it did before."""

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python hands signals to no other thread
            self._before = {number: signal.signal(number, self._note) for number in ASKED_TO_STOP}
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        self._restore()


def leave(number: int) -> None:
    """End as a process does that such a signal stops: exit code 128 + its number."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


WARM_UP = 100  # steps
GRADIENT_NORM = 1.0
MOST_SETBACKS = 4  # since the last row of the history, each at half the learning rate of the one before
Losses = dict[str, tuple[Tensor, float]]  # name -> value in nats a structure, weight


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained: `losses(step, ranks)` is descended, `watch()` recorded; `identity` says of what, on what.

    stage, seed : named in messages; of the noise and the dropout
    losses : the terms of a step, of a process's share of the batch, and how large a share that is
    observe : told the terms' values after every step
    watch : columns of the history, seen with the averaged weights
    score : of a row; the weights of the row with the least one are kept, by default those of the last row
    checkpoint : if given, the file that an interrupted training goes on from
    structures : of a step; where memory is short they are shared out to parts
    """

    stage: str
    module: nn.Module
    losses: Callable[[int, Ranks], tuple[Losses, float]]
    watch: Callable[[], Row]
    steps: int
    learning_rate: float
    identity: dict
    seed: int = 0
    observe: Callable[[Row], None] = lambda values: None
    score: Callable[[Row], float] = lambda row: -row["step"]
    checkpoint: Path | None = None
    ranks: Ranks = ALONE
    structures: int = 1


@dataclass(frozen=True)
class _Step:
    """What came of a step: the terms' values, their weighted sum, what went wrong, and the signal that asks to stop."""

    values: Row
    loss: float
    fault: str
    asked: int


def minimise(task: Task, state: Training, settings: TrainSettings) -> list[Row]:
    """The training loop. Leaves the averaged weights of the best row in the module and returns the history.

    A step whose loss or gradient is not finite takes the training back to its state at the last row, with half the
    learning rate; `UserError` where that does not help. After a resumption that state is the resumed one.
    """
    if task.checkpoint is not None and state.restore(task.checkpoint, task.identity):
        say(task.stage, f"resumed at step {state.step} of {task.steps} from {task.checkpoint}")
    if next(task.module.parameters()).is_cuda:
        task.module.compile(dynamic=True)
    with curves_of(task.checkpoint if task.ranks.first else None, state.step) as curves, Signals() as signals:
        _run(task, state, settings, curves, signals)
    if task.checkpoint is not None and task.ranks.first:
        state.save(task.checkpoint, task.identity)  # for an interruption of what comes after the training
    with torch.no_grad():
        for name, p in state.parameters.items():
            p.copy_(state.best[name])
    task.module.eval()
    return state.rows


def _run(task: Task, state: Training, settings: TrainSettings, curves: Curves, signals: Signals) -> None:
    """All steps, with rows, checkpoints and setbacks."""
    progress = Progress(task.stage, task.steps, "steps", done=state.step)
    saved = started = time.monotonic()
    before, good = state.seconds, [state.snapshot()]
    while state.step < task.steps and not _out_of_patience(task, state, settings):
        seen = _descend(task, state, settings, signals)
        state.seconds = before + time.monotonic() - started
        if seen.fault:
            _step_back(task, state, good, seen.fault)
            progress.done = state.step
        elif state.step % settings.report_every == 0 or state.step == task.steps:
            _report(task, state, seen)
            curves(state.rows[-1])
            good = [good[-1], state.snapshot()]
        if seen.asked:
            _stop(task, state, seen.asked)
        if not seen.fault:
            progress.advance(note=_note(state.rows))
        due = time.monotonic() - saved > settings.checkpoint_seconds and state.step < task.steps
        if task.checkpoint is not None and task.ranks.first and due:
            state.save(task.checkpoint, task.identity)
            saved = time.monotonic()


def _descend(task: Task, state: Training, settings: TrainSettings, signals: Signals) -> _Step:
    """One step of the optimiser and of the averaged weights, unless the loss or its gradient is not finite."""
    rate = task.learning_rate * min(1.0, (state.step + 1) / WARM_UP) * 0.5**state.setbacks
    for group in state.optimizer.param_groups:
        group["lr"] = rate * (0.02 + 0.49 * (1 + math.cos(math.pi * state.step / task.steps)))
    task.module.train()
    values, weights = _gradients(task, state)
    told = task.ranks.add(torch.cat([values, values.new_tensor([float(signals.asked > 0)])]))
    task.ranks.add_gradients(task.module.parameters())
    norm = nn.utils.clip_grad_norm_(task.module.parameters(), GRADIENT_NORM)
    *numbers, asked_of_all, size = torch.cat([told, norm[None]]).tolist()  # the one wait for the device
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
    asked = signals.asked if task.ranks.count == 1 or asked_of_all else 0  # all leave at the same step
    return _Step(found, loss, fault, asked or (signal.SIGTERM if asked_of_all else 0))


def _gradients(task: Task, state: Training) -> tuple[Tensor, dict[str, float]]:
    """Values of this process's terms, weighted by its share, and their weights; the gradients are left in place.

    Where memory does not suffice, the batch is shared out to twice as many parts, which follow each other: gradients
    add up as those of several processes do, so that the step is the same up to rounding (`parallel`).
    """
    start = state.drawn()
    most = max(1, task.structures // task.ranks.count)
    while True:
        try:
            state.optimizer.zero_grad(set_to_none=True)
            return _in_parts(task, state, start)
        except batch.ERRORS as error:
            if not batch.is_shortage(error):
                raise
            if state.parts == most:
                advice = "use a machine with more, or a smaller model"
                raise UserError(f"{task.stage}: memory does not suffice for one structure; {advice}") from error
        state.optimizer.zero_grad(set_to_none=True)
        batch.free()
        state.parts = min(2 * state.parts, most)
        each = -(-most // state.parts)
        say(task.stage, f"memory does not suffice; a step's {most} structures follow in {state.parts} parts of {each}")


def _in_parts(task: Task, state: Training, start: Drawn) -> tuple[Tensor, dict[str, float]]:
    """`_gradients` in `state.parts` parts of the batch, each of which draws it and its noise anew."""
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


def _seed(task: Task, state: Training) -> None:
    """Noise and dropout that depend on the seed and the step alone: the same after a resumption, on every device.

    Noise is common to all processes, dropout is not.
    """
    origin = [task.seed, state.step, state.setbacks]
    state.generator.manual_seed(int(np.random.SeedSequence(origin).generate_state(1, np.uint64)[0]))
    own = np.random.SeedSequence([*origin, task.ranks.rank + 1]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(own))


def _step_back(task: Task, state: Training, good: list[Packed], fault: str) -> None:
    """Return to a good state with half the learning rate, and go on with other structures than led here.

    Where the newest of them fails at once, the one before it takes its place.
    """
    setbacks, step = state.setbacks + 1, state.step
    since = setbacks - int(state.rows[-1]["setbacks"] if state.rows else 0)
    if since > MOST_SETBACKS:
        raise UserError(
            f"{task.stage}: {fault} at step {step}, and was not finite {since} times in a row although each time the "
            "learning rate was halved; lower train.learning_rate and the weights of added terms, and look for "
            "structures with absurd coordinates"
        )
    drawn = state.drawn()
    if len(good) > 1 and step == good[-1][1]["step"]:
        good.pop()
    state.unpack(good[-1])
    state.setbacks = setbacks
    state.draw_from(drawn)
    say(task.stage, f"{fault} at step {step}; back to step {state.step} with half the learning rate")


def _report(task: Task, state: Training, seen: _Step) -> None:
    """Append a row to the history, and keep the averaged weights if it is the best one."""
    row = {"step": state.step, "seconds": round(state.seconds, 2), "loss": seen.loss} | seen.values
    row |= _with_averaged(task.module, state, task.watch)
    row |= {"setbacks": state.setbacks, "best": 0}
    row = task.ranks.agree(row, next(iter(state.parameters.values())).device)
    best = _best_row(state)
    state.rows.append(row)
    if best is None or task.score(row) < task.score(state.rows[best]):
        row["best"] = 1
        if best is not None:
            state.rows[best]["best"] = 0
        for name, value in state.averaged.items():
            state.best[name].copy_(value)


def _best_row(state: Training) -> int | None:
    return next((index for index, row in enumerate(state.rows) if row["best"]), None)


def _out_of_patience(task: Task, state: Training, settings: TrainSettings) -> bool:
    """Whether the last `patience` rows brought no gain."""
    best = _best_row(state)
    if not settings.patience or best is None or len(state.rows) - 1 - best < settings.patience:
        return False
    say(task.stage, f"{settings.patience} rows without a gain; stopped at step {state.step}")
    return True


def _stop(task: Task, state: Training, asked: int) -> None:
    """Leave as a signal asks; the checkpoint comes first, since the reader of the messages may be gone."""
    saved = task.checkpoint is not None
    if task.checkpoint is not None and task.ranks.first:
        state.save(task.checkpoint, task.identity)
    where = f"saved in {task.checkpoint}; run the same command again to go on" if saved else "nothing is kept"
    with contextlib.suppress(OSError):
        say(task.stage, f"stopped by {signal.Signals(asked).name} at step {state.step} of {task.steps}; {where}")
    leave(asked)


def _with_averaged(module: nn.Module, state: Training, watch: Callable[[], Row]) -> Row:
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


def _note(rows: list[Row]) -> str:
    if not rows:
        return ""
    shown = ("loss", "rmsd", "validation_rmsd", "kl", "active_units")
    return ", ".join(f"{name} {rows[-1][name]:.2f}" for name in shown if name in rows[-1])
