"""Print, and write to benchmarks/results/train.tsv, how fast a variant trains beside the plain way to train it.

    python benchmarks/train.py [RESULTS] [--rounds 6] [--steps 12] [--batch 32] [--width 96] [--depth 4]

Ours is the training as it stands: batches of like length, convolution and dropout made for CPUs, fused AdamW; on CUDA
bfloat16 and compilation. The peer is the same model from the same initial weights, eagerly in float32, with padded
batches of random lengths. Both go on training in turns, so that their validation bounds can be compared at the end of
every round; the table has medians over rounds, of CPU seconds on a CPU. RESULTS is the folder of a finished run
(default: results/benchmark or results where they are, else random chains). Needs torch, NumPy, h5py and safetensors.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cvae_protein.config.settings import ModelSettings, RefineSettings, Schedule, TrainSettings
from cvae_protein.core.files import write_table
from cvae_protein.model import layers, registry
from cvae_protein.model.batch import DomainSet, LengthBuckets, crop, read_split, training_batch
from cvae_protein.model.device import pick_device
from cvae_protein.model.losses.evidence_bound import evidence_terms
from cvae_protein.training import train
from cvae_protein.training.checkpoint import TrainingState
from cvae_protein.training.distributed import ALONE
from cvae_protein.training.loop import Signals, Task, _descend, _with_averaged
from cvae_protein.training.train import make_spec, variant_task

ROOT = Path(__file__).parents[1]
RUNS = (ROOT / "results/benchmark", ROOT / "results")
OUTPUT = ROOT / "benchmarks/results/train.tsv"
COLUMNS = ("what", "unit", "ours", "peer_name", "peer", "ratio", "goal", "machine", "date")
PEER = "eager float32, padded random batches"
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16 FLOP/s by the makers' data sheets
FEW = 256  # domains that the chains are drawn from, where no run is at hand


def random_domains() -> dict[str, DomainSet]:
    """Chains of random steps, as many lengths as domains have."""
    rng, by_split = np.random.default_rng(0), {}
    for split, count in (("train", FEW), ("validation", FEW // 4)):
        lengths = rng.integers(40, 129, count)
        chains = [np.cumsum(rng.normal(0, 2.2, (n, 1, 3)), 0) + rng.normal(0, 1, (n, 5, 3)) for n in lengths]
        coords = tuple(chain.astype(np.float32) for chain in chains)
        by_split[split] = DomainSet(coords, tuple(f"{split}{i}" for i in range(count)), ("1",) * count, np.ones(count))
    return by_split


def plain_convolution(convolution: torch.nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
    """PyTorch's own."""
    return convolution(x.transpose(1, 2)).transpose(1, 2)


def plain_dropout(layer: layers.Dropout, x: torch.Tensor) -> torch.Tensor:
    """PyTorch's own."""
    return F.dropout(x, layer.share, layer.training)


@contextmanager
def plainly() -> Iterator[None]:
    """Within it the networks compute as PyTorch's layers do, in float32."""
    own = layers.convolve_chain, layers.Dropout.forward, layers.mixed_precision
    layers.convolve_chain, layers.Dropout.forward = plain_convolution, plain_dropout
    layers.mixed_precision = lambda device, training: torch.autocast(device.type, torch.bfloat16, enabled=False)
    try:
        yield
    finally:
        layers.convolve_chain, layers.Dropout.forward, layers.mixed_precision = own


@dataclass
class Arm:
    """One of the two ways, and what was measured of it."""

    task: Task
    state: TrainingState
    settings: TrainSettings
    context: Callable[[], object]
    rate: list[float] = field(default_factory=list)  # real residues a second
    steps: list[float] = field(default_factory=list)  # steps a second
    filled: list[float] = field(default_factory=list)  # share of residues that are no padding
    data: list[float] = field(default_factory=list)  # share of a step in which its batch is drawn, cut and padded
    bound: list[float] = field(default_factory=list)
    memory: float = 0.0  # bytes

    def turn(self, steps: int) -> None:
        """Train for some steps with the clock on, then look at the validation bound with the clock off."""
        with self.context():
            residues, places, drawing, started = 0, 0, 0.0, clock(self.task)
            torch_memory(self.task, reset=True)
            for _ in range(steps):
                _descend(self.task, self.state, self.settings, Signals())
                residues, places, drawing = residues + SEEN.residues, places + SEEN.places, drawing + SEEN.seconds
            took = clock(self.task) - started
            self.memory = max(self.memory, torch_memory(self.task))
            seen = _with_averaged(self.task.module, self.state, self.task.watch)
        self.rate.append(residues / took)
        self.steps.append(steps / took)
        self.filled.append(residues / places)
        self.data.append(drawing / took)
        self.bound.append(seen["validation_bound"])


@dataclass
class Seen:
    """The last batch: its residues, its places with the padding, and the seconds that it took to make."""

    residues: int = 0
    places: int = 0
    seconds: float = 0.0


SEEN = Seen()


def on_gpu(task: Task) -> bool:
    """Whether the model lies on a GPU."""
    return next(task.module.parameters()).is_cuda


def clock(task: Task) -> float:
    """Seconds of wall time on a GPU, of CPU time else: other programs on the machine change those less."""
    if on_gpu(task):
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def torch_memory(task: Task, reset: bool = False) -> float:
    """Largest GPU memory in bytes since the last reset; 0 on a CPU, where `saved_bytes` stands for it."""
    if not on_gpu(task):
        return 0.0
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return float(torch.cuda.max_memory_allocated())


def saved_bytes(arm: Arm) -> float:
    """Largest amount of memory that the forward pass of a few steps keeps for the backward pass, in bytes."""
    largest = 0.0
    for _ in range(8):
        held: dict[int, int] = {}

        def note(tensor: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with arm.context(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            arm.task.module.train()
            losses, _ = arm.task.losses(arm.state.step, ALONE)
        del losses
        largest = max(largest, float(sum(held.values())))
    return largest


def flops_a_residue(arm: Arm) -> float:
    """Floating point operations of a step, forward and backward, for each place of the batch."""
    with plainly(), FlopCounterMode(display=False) as counter:
        losses, _ = arm.task.losses(arm.state.step, ALONE)
        torch.stack([value for value, _ in losses.values()]).sum().backward()
    return counter.get_total_flops() / SEEN.places


def make_arm(
    by_split: dict[str, DomainSet], model_settings: ModelSettings, settings: TrainSettings, plain: bool
) -> Arm:
    """A training that is about to begin."""
    settings = replace(settings, bucket=1) if plain else settings
    spec = make_spec("concat", 0, model_settings, RefineSettings(), 1, by_split["train"], {})
    torch.manual_seed(0)
    model = registry.variant("concat").build(spec)
    generator, rng, lengths = torch.Generator().manual_seed(0), np.random.default_rng(0), by_split["train"].lengths
    crops = np.stack([np.arange(len(lengths)), *crop(lengths, settings.crop, rng)], axis=1)
    model.fit_linear(training_batch(by_split["train"], spec, crops, 0.0, rng), torch.ones(len(lengths)))
    model.to(pick_device("train"))
    if next(model.parameters()).is_cuda and not plain:
        model.compile(dynamic=True)
    task, state = variant_task(model, evidence_terms(settings), by_split, settings, generator, rng, ALONE, None)
    if plain:
        state.optimizer = torch.optim.AdamW(
            model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
        )
    return Arm(task, state, settings, plainly if plain else whole)


@contextmanager
def whole() -> Iterator[None]:
    """Our way, as it stands."""
    yield


def watch_batches() -> None:
    """Note of every batch what `Seen` says of it."""
    now = time.perf_counter if pick_device().type == "cuda" else time.process_time  # as `clock`
    draw, made, hide = LengthBuckets.draw, train.training_batch, train.hide_labels

    def drawn(buckets: LengthBuckets) -> np.ndarray:
        started = now()
        crops = draw(buckets)
        SEEN.seconds = now() - started
        return crops

    def counted(*given: object) -> object:
        started = now()
        batch = made(*given)
        SEEN.seconds += now() - started
        SEEN.residues, SEEN.places = int(batch.mask.sum()), batch.mask.numel()
        return batch

    def hidden(*given: object) -> object:
        started = now()
        labels = hide(*given)
        SEEN.seconds += now() - started
        return labels

    LengthBuckets.draw, train.training_batch, train.hide_labels = drawn, counted, hidden


def rows_of(ours: Arm, peer: Arm, warm: int) -> list[dict[str, object]]:
    """The table; the first rounds, in which caches fill and code is compiled, do not count."""
    medians = {
        what: [statistics.median(getattr(arm, what)[warm:]) for arm in (ours, peer)]
        for what in ("rate", "steps", "filled", "data")
    }
    gap = max(abs(a - b) for a, b in zip(ours.bound, peer.bound, strict=True))
    moved = abs(peer.bound[-1] - peer.bound[0])
    measured = [
        ("training, concat", "residues/s", *medians["rate"], "3"),
        ("training, concat", "structures/s", *(ours.settings.batch_size * rate for rate in medians["steps"]), ""),
        ("share of a batch that is no padding", "share", *medians["filled"], ""),
        ("share of a step that its data take", "share", *medians["data"], "0.05"),
        ("validation bound at the end", "nats", ours.bound[-1], peer.bound[-1], ""),
        ("largest difference of the bound in a round; peer: its change", "nats", gap, moved, ""),
    ]
    memory = [arm.memory or saved_bytes(arm) for arm in (ours, peer)]
    name = "peak memory of the GPU" if ours.memory else "memory kept for the backward pass, at most"
    measured.append((name, "MB", memory[0] / 1e6, memory[1] / 1e6, ""))
    if on_gpu(ours.task):
        card = torch.cuda.get_device_name()
        peak = next((value for key, value in PEAK.items() if key in card), None)
        if peak:
            used = [rate * flops_a_residue(peer) / peak for rate in medians["rate"]]
            measured.append(("share of the card's bfloat16 peak", "share", *used, ""))
    machine = torch.cuda.get_device_name() if on_gpu(ours.task) else f"{platform.machine()}, 1 thread, CPU time"
    return [
        {
            **{"what": what, "unit": unit, "ours": f"{own:.4g}", "peer_name": PEER, "peer": f"{other:.4g}"},
            **{"ratio": f"{own / other:.3g}" if unit != "nats" else "", "goal": goal},
            **{"machine": machine, "date": f"{datetime.now(UTC):%Y-%m-%d}"},
        }
        for what, unit, own, other, goal in measured
    ]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found = next((path for path in RUNS if (path / "splits.tsv").is_file()), None)
    parser.add_argument("results", nargs="?", type=Path, default=found)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=TrainSettings().batch_size)
    parser.add_argument("--width", type=int, default=ModelSettings().decoder_width)
    parser.add_argument("--depth", type=int, default=ModelSettings().decoder_depth)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    by_split = (
        read_split(given.results / "domains.h5", given.results / "splits.tsv") if given.results else random_domains()
    )
    settings = TrainSettings(batch_size=given.batch, kl=Schedule("constant"), steps=given.rounds * given.steps)
    model = ModelSettings(decoder_width=given.width, decoder_depth=given.depth)
    watch_batches()
    ours, peer = make_arm(by_split, model, settings, plain=False), make_arm(by_split, model, settings, plain=True)
    for number in range(given.rounds):
        for arm in (ours, peer) if number % 2 else (peer, ours):
            arm.turn(given.steps)
        print(
            f"round {number + 1} of {given.rounds}: {ours.rate[-1]:.0f} and {peer.rate[-1]:.0f} residues/s", flush=True
        )
    rows = rows_of(ours, peer, warm=1)
    write_table(given.output, COLUMNS, rows)
    for row in rows:
        print("\t".join(str(row[name]) for name in COLUMNS))


if __name__ == "__main__":
    main()
