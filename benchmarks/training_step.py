"""Print how fast models train on this machine: on the CPU, and on the first GPU where there is one.

    python benchmarks/training_step.py [--length 128] [--batch 64]

Needs torch, NumPy, h5py and safetensors alone. Input are random chains, since no speed depends on the shape; medians of
five rounds after one that does not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from cvae_protein.config.settings import ModelSettings, RefineSettings, TrainSettings
from cvae_protein.model import registry
from cvae_protein.model.batch import Batch
from cvae_protein.model.losses.evidence_bound import evidence_terms
from cvae_protein.model.refiner import Refiner
from cvae_protein.model.spec import Spec

ROUNDS = 5


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median wall time of `work` in seconds, with the GPU waited for."""
    found = []
    for round_ in range(ROUNDS + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if round_:
            found.append(time.perf_counter() - started)
    return statistics.median(found)


def measure(device: torch.device, length: int, batch: int) -> None:
    """One line a part of the pipeline."""
    spec = Spec("concat", 0, ModelSettings(), RefineSettings(), (("1",),), {"1": (length,)}, {})
    generator = torch.Generator().manual_seed(0)
    model = registry.variant("concat").build(spec).to(device)
    refiner = Refiner(spec.refine).to(device)
    coords = torch.randn(batch, length, 5, 3, generator=generator).cumsum(1).to(device) * 2.2
    mask = torch.ones(batch, length, dtype=torch.bool, device=device)
    whole = Batch(coords, mask, torch.ones(batch, 1, dtype=torch.long, device=device))
    terms = evidence_terms(TrainSettings())

    def variant_step() -> None:
        output = model(whole, generator)
        torch.stack([term.term(whole, output) for term in terms]).sum().backward()

    def refiner_step() -> None:
        refiner.loss(whole.ca, whole.carbonyl, whole.ca, mask, generator).backward()

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    for what, work in (("training, variant", variant_step), ("training, refiner", refiner_step)):
        seconds = median_seconds(work, device)
        print(f"{what}\t{batch / seconds:.1f} structures/s\tlength {length}\tbatch {batch}\t{name}", flush=True)


def main() -> None:
    """Measure every device at hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    for name in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        measure(torch.device(name), given.length, given.batch)


if __name__ == "__main__":
    main()
