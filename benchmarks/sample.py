"""Print, and write to benchmarks/results/sample.tsv, how many structures a second are drawn, stage by stage.

    python benchmarks/sample.py [--length 128] [--batch 128] [--threads 2] [--rounds 5]
        [--refine-steps N] [--relax-steps 200] [--output FILE]

Runs on the CPU and, where there is one, on the first GPU. Weights are random and traces are compact random chains of
steps of 3.8 Å, as crowded as a domain, since the speed depends on neither beyond that; the refiner is distilled, as the
package's. Figures are medians of rounds after one that does not count; on the CPU also per core of CPU time, which
other work on the machine disturbs less. Peers that need a GPU and hours are quoted from their authors, not measured.
Needs torch, NumPy, h5py and safetensors.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from cvae_protein.config.settings import ModelSettings, RefineSettings, SampleSettings
from cvae_protein.core.files import write_table
from cvae_protein.model import registry
from cvae_protein.model.priors import AggregatePosterior, LatentFlow
from cvae_protein.model.refiner import Refiner
from cvae_protein.model.spec import Spec
from cvae_protein.sampling.relax import FREE
from cvae_protein.sampling.sampler import (
    Sampler,
    decode_all,
    draw_codes,
    integration_steps,
    noise_seeds,
    refine_all,
    relax_all,
    start_noise,
)

OUTPUT = Path(__file__).parent / "results/sample.tsv"
COLUMNS = ("what", "unit", "ours", "peer_name", "peer", "ratio", "goal", "machine", "date")
QUOTED = ("foldingdiff, quoted at 0.29 to 0.80 s a structure, not measured", 1 / 0.29)  # the better of both
GOALS = {"cpu": 50.0, "cuda": 1000.0}  # structures a second: on 2 cores, on one H100
BATCHES = {"cpu": 128, "cuda": 2048}
CANDIDATES = 24  # directions of which a compact chain takes the least crowded


@dataclass(frozen=True)
class Timing:
    """Median seconds of a stage for the whole batch: by the clock, and of CPU time."""

    wall: float
    cpu: float


def timed(work: Callable[[], object], device: torch.device, rounds: int) -> Timing:
    """How long `work` takes, with the GPU waited for."""
    found = []
    for _ in range(rounds + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    walls, cpus = zip(*found[1:], strict=True)
    return Timing(statistics.median(walls), statistics.median(cpus))


def compact_chains(count: int, length: int, generator: torch.Generator) -> torch.Tensor:
    """CA traces (count, length, 3) in Å: chains in a ball of a domain's size whose steps keep clear of each other."""
    radius = 2.9 * length**0.38
    ca = torch.zeros(count, length, 3)
    rows = torch.arange(count)
    for place in range(1, length):
        turn = torch.randn(count, CANDIDATES, 3, generator=generator)
        tried = ca[:, place - 1, None] + 3.8 * turn / turn.norm(dim=-1, keepdim=True)
        clear = torch.cdist(tried, ca[:, : max(place - 1, 1)]).amin(-1).clamp(max=4.5)
        ca[:, place] = tried[rows, (clear - (tried.norm(dim=-1) - radius).clamp(min=0)).argmax(1)]
    return ca


def a_sampler(length: int, device: torch.device) -> Sampler:
    """A model of the default size with random weights."""
    torch.manual_seed(0)
    spec = Spec("concat", 0, ModelSettings(), RefineSettings(distilled=True), (("1",),), {"1": (length,)}, {})
    model = registry.variant("concat").build(spec).eval().to(device)
    aggregate = AggregatePosterior(spec.model.latent, 1)
    return Sampler(model, aggregate, LatentFlow(spec).eval().to(device), Refiner(spec.refine).eval().to(device))


def measure(sampler: Sampler, length: int, count: int, rounds: int, settings: SampleSettings) -> dict[str, Timing]:
    """Timings of the stages, each on the same input, and of a whole draw, of the first label that the model knows."""
    device, label = sampler.device, sampler.spec.vocabulary[0][0]
    labels, lengths = torch.tensor([sampler.spec.label_ids(label)] * count), torch.full((count,), length)
    traces = list(compact_chains(count, length, torch.Generator().manual_seed(0)))

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def codes() -> torch.Tensor:
        return draw_codes(sampler, labels, lengths, settings, generator())

    def refine() -> list[tuple[torch.Tensor, torch.Tensor]]:
        noise = start_noise([length] * count, noise_seeds(count, generator()), settings.refine_noise)
        return refine_all(sampler, traces, [label] * count, settings, noise, "benchmark")

    drawn, refined = codes(), refine()

    def relax() -> object:
        return relax_all(refined, settings.relax_steps, FREE, "benchmark")

    def decode() -> object:
        return decode_all(sampler.model, drawn, labels, lengths)

    def whole() -> None:
        decode_all(sampler.model, codes(), labels, lengths)
        relax_all(refine(), settings.relax_steps, FREE, "benchmark")

    stages = {"codes": codes, "decode": decode, "refine": refine, "relax": relax, "whole draw": whole}
    return {name: timed(work, device, rounds) for name, work in stages.items()}


def rows_of(
    device: torch.device, length: int, count: int, rounds: int, settings: SampleSettings
) -> list[dict[str, object]]:
    """Rows of the table for one device, named by stage, length and steps; goal and peer are those of a whole draw."""
    date, machine = datetime.now(UTC).date().isoformat(), machine_of(device)
    sampler, rows = a_sampler(length, device), []
    size = f"{length} residues, {integration_steps(sampler.second_level, settings)} + {settings.relax_steps} steps"
    for stage, timing in measure(sampler, length, count, rounds, settings).items():
        row: dict[str, object] = dict.fromkeys(COLUMNS, "") | {"machine": machine, "date": date}
        row |= {"what": f"{stage}, {size}", "unit": "structures/s", "ours": figure(count / timing.wall)}
        rows.append(row)
        if stage == "whole draw":
            name, peer = QUOTED
            ratio = figure(count / timing.wall / peer)
            row |= {"peer_name": name, "peer": figure(peer), "ratio": ratio, "goal": f"{GOALS[device.type]:.0f}"}
        if device.type == "cpu":
            rows.append(row | {"unit": "structures/CPU s", "ours": figure(count / timing.cpu), "goal": "", "ratio": ""})
            rows[-1] |= {"peer_name": "", "peer": ""}
    return rows


def figure(value: float) -> str:
    """A number with four significant figures."""
    return f"{value:.4g}" if math.isfinite(value) else ""


def machine_of(device: torch.device) -> str:
    """What the figures were taken on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores"


def main() -> None:
    """Measure every device at hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch", type=int, help="structures a draw; default: 128 on a CPU, 2048 on a GPU")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--refine-steps", type=int, default=SampleSettings().refine_steps)
    parser.add_argument("--relax-steps", type=int, default=SampleSettings().relax_steps)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = SampleSettings(refine_steps=given.refine_steps, relax_steps=given.relax_steps)
    rows = []
    for name in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        device = torch.device(name)
        rows += rows_of(device, given.length, given.batch or BATCHES[name], given.rounds, settings)
    for row in rows:
        print("\t".join(str(row[column]) for column in COLUMNS))
    write_table(given.output, COLUMNS, rows)


if __name__ == "__main__":
    main()
