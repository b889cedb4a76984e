"""Train the second level and draw from it on one GPU, within minutes, and print how fast both went.

    python benchmarks/gpu_short.py --pack RESULTS -o pack.safetensors
    python benchmarks/gpu_short.py pack.safetensors [-o gpu_short] [--minutes 8] [--batch 128] [--samples 1000] [--tiny]

The first packs the domains of a run (its domains.h5 and splits.tsv) to at most 40 MB. The second trains the decoder
over whole chains on them, for as many steps as a short training before it says that there is time for, and completes
codes of the package's model by it. The folder of the output gets the decoder with its history, weights as float16
(decoder/), the samples (samples.h5) and the table that is printed (table.tsv), at most 16 MB. `--tiny` is a test of all
that: a decoder that learns nothing, in seconds on a CPU. Model, loss, loop and draw are the package's. Needs torch,
NumPy, h5py and safetensors.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.polynomial import Polynomial
from sample import compact_chains, figure, machine_of, measure
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from train import PEAK

from cvae_protein.config.settings import DecoderSettings, SampleSettings, TrainSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import sha256, write_table
from cvae_protein.core.progress import say
from cvae_protein.core.structure import CA, C, O
from cvae_protein.core.variants import PRETRAINED
from cvae_protein.model import registry
from cvae_protein.model.batch import DomainSet, LengthBuckets, pad, read_split
from cvae_protein.model.decoder import ChainDecoder, Coarse
from cvae_protein.model.device import pick_device
from cvae_protein.model.spec import Spec, load_tensors, save_tensors
from cvae_protein.sampling.relax import C_O
from cvae_protein.sampling.sample import sample_folds
from cvae_protein.sampling.sampler import Sampler, integration_steps, load_sampler
from cvae_protein.training.decoder import train_decoder
from cvae_protein.training.distributed import ALONE
from cvae_protein.training.train import make_spec, write_model

MOST_PACKED = 40_000_000  # bytes
RESIDUE, DOMAIN = 12, 128  # bytes of a pack for each, the latter with its names, at most
PACKED = ("validation", "crops", "train")  # splits; the last gives way where there is no room
TENSORS = {"ca", "carbonyl", "length", "weight"}
DEPTH = 3  # levels of labels
COLUMNS = ("what", "unit", "value", "goal", "machine", "date")
TRIED, FEWEST = 60, 12  # steps of the training that says how long one takes; fewest of any
DRAWING = 60.0  # seconds that are left to the draw
ROWS, LEAST_BETWEEN = 40, 3  # rows of the history, at most, and steps between two
COUNTED = 2  # chains whose operations are counted
GOALS = {"draw": "1000", "share": "0.4"}  # of one H100 or H200
MODEL, _ = registry.resolve(Path(PRETRAINED), None)


@dataclass(frozen=True)
class Size:
    """What is trained, how long at most, and what is drawn."""

    decoder: DecoderSettings
    tried: int
    seconds: float
    samples: int
    length: int
    rounds: int
    sample: SampleSettings


@dataclass
class Step:
    """A step of a training: when its batch was begun and made, and its padded shape; whether a row followed."""

    begun: float
    made: float
    structures: int
    length: int
    reported: bool = False


def pack(by_split: dict[str, DomainSet], output: Path, most: int = MOST_PACKED) -> None:
    """Write CA in Å and carbonyl directions of domains, as float16, with label, split and weight, to `output`.

    Training domains for which there is no room in `most` bytes are left out by lot, which is said.
    """
    room, kept = most, list[tuple[str, DomainSet]]()
    for split in PACKED:
        if (domains := by_split.get(split)) is None:
            continue
        order = np.random.default_rng(0).permutation(len(domains))
        size = np.cumsum(RESIDUE * domains.lengths[order] + DOMAIN)
        taken = np.sort(order[size <= room])  # conformations of a domain stay side by side
        if len(taken) < len(domains):
            say("pack", f"no room for {len(domains) - len(taken)} of {len(domains)} structures of the split {split}")
        if len(taken):
            kept.append((split, domains.take(taken)))
            room -= int(size[len(taken) - 1])
    if not kept or kept[-1][0] != "train":
        raise UserError(f"pack: expected room for domains to train on in {most} bytes, found none")
    chains = [pad([coords], [[0]]) for _, domains in kept for coords in domains.coords]
    tensors = {
        "ca": torch.cat([chain.ca[0] for chain in chains]).half(),
        "carbonyl": torch.cat([chain.carbonyl[0] for chain in chains]).half(),
        "length": torch.tensor([chain.mask.shape[1] for chain in chains], dtype=torch.int32),
        "weight": torch.cat([torch.from_numpy(domains.weights) for _, domains in kept]).float(),
    }
    facts = {
        "split": [split for split, domains in kept for _ in domains.ids],
        "id": [name for _, domains in kept for name in domains.ids],
        "label": [label for _, domains in kept for label in domains.labels],
    }
    save_tensors(output, tensors, facts)
    say("pack", f"wrote {len(chains)} structures, {output.stat().st_size / 1e6:.1f} MB, to {output}")


def unpack(path: Path) -> dict[str, DomainSet]:
    """The domains of a file that `pack` wrote; C lies on CA, since the direction from C to O alone counts."""
    tensors, facts = load_tensors(path)
    if set(tensors) != TENSORS:
        raise UserError(f"{path}: expected a file that --pack wrote, with {', '.join(sorted(TENSORS))}; pack a run")
    coords = np.full((len(tensors["ca"]), 5, 3), np.nan, np.float32)
    coords[:, CA] = coords[:, C] = tensors["ca"].float().numpy()
    coords[:, O] = coords[:, C] + C_O * tensors["carbonyl"].float().numpy()
    chains = np.split(coords, np.cumsum(tensors["length"].numpy())[:-1])
    splits = np.array(facts["split"])
    whole = DomainSet(tuple(chains), tuple(facts["id"]), tuple(facts["label"]), tensors["weight"].double().numpy())
    return {split: whole.take(np.flatnonzero(splits == split)) for split in dict.fromkeys(facts["split"])}


def products(work: Callable[[], object]) -> int:
    """Floating point operations of the matrix products in `work`; attention is counted as the products that it is."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def some_chains(spec: Spec, length: int, device: torch.device) -> Coarse:
    """`COUNTED` traces of a length, of no label."""
    trace = compact_chains(COUNTED, length, torch.Generator().manual_seed(0)).to(device)
    ones = torch.ones(COUNTED, device=device)
    labels = torch.zeros(COUNTED, spec.depth, dtype=torch.long, device=device)
    mask = torch.ones(COUNTED, length, dtype=torch.bool, device=device)
    return Coarse(trace, mask, spec.model.latent * ones, 0 * ones, ones, labels)


def products_of_training(spec: Spec, device: torch.device) -> Polynomial:
    """Operations of a step, forward and backward, for a structure, as a function of its padded length."""
    net, generator = ChainDecoder(spec).to(device), torch.Generator().manual_seed(0)

    def at(length: int) -> float:
        coarse = some_chains(spec, length, device)

        def step() -> None:
            terms = net.loss(coarse.trace, torch.zeros_like(coarse.trace), coarse, generator)
            torch.stack([value for value, _ in terms.values()]).sum().backward()

        return products(step) / COUNTED

    lengths = (16, 32, 64)
    return Polynomial.fit(lengths, [at(length) for length in lengths], 2)  # attention is what is quadratic


def products_of_draw(decoder: ChainDecoder, length: int, settings: SampleSettings) -> float:
    """Operations by which the second level completes a trace."""
    device = next(decoder.parameters()).device
    coarse = some_chains(decoder.spec, length, device)
    noise = torch.zeros(COUNTED, length, 6, device=device)
    work, steps = decoder.to_structure, integration_steps(decoder, settings)
    return products(lambda: work(noise, coarse, steps, settings.decoder_guidance)) / COUNTED


@contextmanager
def watched() -> Iterator[list[Step]]:
    """Within it, every step of a training of a decoder is noted."""
    steps, draw, loss, begun = list[Step](), LengthBuckets.draw, ChainDecoder.loss, [0.0]

    def drawn(buckets: LengthBuckets) -> np.ndarray:
        begun[0] = time.perf_counter()
        return draw(buckets)

    def noted(net: ChainDecoder, ca: torch.Tensor, *given: object) -> dict[str, tuple[torch.Tensor, float]]:
        if net.training:
            steps.append(Step(begun[0], time.perf_counter(), *ca.shape[:2]))
        else:
            steps[-1].reported = True
        return loss(net, ca, *given)

    LengthBuckets.draw, ChainDecoder.loss = drawn, noted
    try:
        yield steps
    finally:
        LengthBuckets.draw, ChainDecoder.loss = draw, loss


def steady(steps: Sequence[Step]) -> list[tuple[Step, float]]:
    """The second half of the steps, by when all is compiled, without those that a row followed, and their seconds."""
    late = pairwise(steps[len(steps) // 2 :])
    return [(step, following.begun - step.begun) for step, following in late if not step.reported]


def steps_until(seconds: float, each: float, most: int) -> int:
    """How many steps of `each` seconds there is time for: at most `most`, and `FEWEST` whatever the time."""
    return min(most, max(FEWEST, int(seconds / each)))


def train(
    by_split: dict[str, DomainSet], spec: Spec, size: Size, until: float, device: torch.device
) -> tuple[Spec, dict[str, torch.Tensor], list[dict[str, float]], list[Step], float]:
    """The decoder's spec, weights, history and steps, and the seconds of a training that are none of its steps.

    A short training comes first, which says how many steps end before `until`, a time of `perf_counter`.
    """

    def run(count: int, rows: int) -> tuple[Spec, dict[str, torch.Tensor], list[dict[str, float]], list[Step]]:
        own = replace(spec, refine=replace(size.decoder, steps=count))
        torch.manual_seed(spec.seed)
        with watched() as steps:
            settings = TrainSettings(report_every=max(LEAST_BETWEEN, -(-count // rows)))
            return own, *train_decoder(own, by_split, settings, ALONE, None, device, {}), steps

    began = time.perf_counter()
    *_, steps = run(size.tried, 2)
    timed = steady(steps)
    each = sum(seconds for _, seconds in timed) / len(timed)
    before = max(0.0, time.perf_counter() - began - size.tried * each)
    count = steps_until(until - time.perf_counter() - before, each, size.decoder.steps)
    say("gpu-short", f"{1000 * each:.0f} ms a step, {before:.0f} s before the first; trains for {count} steps")
    return *run(count, ROWS), before


def memory(device: torch.device) -> float:
    """Largest memory in MB: of the GPU's since the last call, of the process on a CPU."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = torch.cuda.max_memory_allocated() / 1e6
    torch.cuda.reset_peak_memory_stats()
    return found


def share_of_peak(rate: float, device: torch.device) -> str:
    """`rate`, in operations a second, as a share of the card's dense bfloat16 peak; empty where that is unknown."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    peak = next((value for key, value in PEAK.items() if key in name), math.nan)
    return figure(rate / peak)


def rows_of_training(
    spec: Spec, rows: list[dict[str, float]], steps: list[Step], before: float, device: torch.device
) -> list[tuple[str, str, str, str]]:
    """What, unit, value and goal of what was measured of a training."""
    used, timed, each = memory(device), steady(steps), products_of_training(spec, device)
    seconds = sum(took for _, took in timed)
    rate = sum(step.structures * float(each(step.length)) for step, _ in timed) / seconds
    made = sum(step.made - step.begun for step, _ in timed)
    watch = "validation_flow" if "validation_flow" in rows[0] else "loss"
    return [
        ("training", "structures/s", figure(sum(step.structures for step, _ in timed) / seconds), ""),
        ("training, matrix products", "TFLOP/s", figure(rate / 1e12), ""),
        ("training, matrix products", "share of the bfloat16 peak", share_of_peak(rate, device), GOALS["share"]),
        ("training, batches made by the CPU", "share of a step", figure(made / seconds), ""),
        ("training, set-up and compilation", "s", figure(before), ""),
        ("training", "steps", str(len(steps)), ""),
        (f"training, {watch} of the first row", "", figure(rows[0][watch]), ""),
        (f"training, {watch} of the last row", "", figure(rows[-1][watch]), ""),
        ("training, memory", "MB", figure(used), ""),
    ]


def rows_of_draw(sampler: Sampler, size: Size) -> list[tuple[str, str, str, str]]:
    """The same of a draw."""
    device, count = sampler.device, size.samples
    found = measure(sampler, size.length, count, size.rounds, size.sample)
    rates = {stage: count / timing.wall for stage, timing in found.items()}
    each = products_of_draw(sampler.second_level, size.length, size.sample)
    goal = {"whole draw": GOALS["draw"]}
    what = f"{count} samples of {size.length}"
    return [
        *((f"{what}, {stage}", "structures/s", figure(rate), goal.get(stage, "")) for stage, rate in rates.items()),
        (f"{what}, matrix products of refine", "TFLOP/s", figure(each * rates["refine"] / 1e12), ""),
        (
            f"{what}, matrix products of refine",
            "share of the bfloat16 peak",
            share_of_peak(each * rates["refine"], device),
            GOALS["share"],
        ),
        (f"{what}, memory", "MB", figure(memory(device)), ""),
    ]


def run(path: Path, output: Path, size: Size) -> list[dict[str, object]]:
    """All of it; the table."""
    began = time.perf_counter()
    if output.exists():
        raise UserError(f"{output}: exists; remove it, or name another folder with -o")
    device, by_split = pick_device("gpu-short"), unpack(path)
    output.mkdir(parents=True)
    model = Spec.read(MODEL / "spec.json").model
    spec = make_spec("decoder", 0, model, size.decoder, DEPTH, by_split["train"], {"pack": sha256(path)})
    until = began + size.seconds - DRAWING
    spec, tensors, history, steps, before = train(by_split, spec, size, until, device)
    rows = rows_of_training(spec, history, steps, before, device)
    write_model(output / "decoder", spec, {name: value.half() for name, value in tensors.items()}, history)
    sampler = load_sampler(MODEL, output / "decoder")
    memory(device)
    rows += rows_of_draw(sampler, size)
    folds = sampler.spec.vocabulary[0]
    settings = replace(size.sample, per_class=-(-size.samples // len(folds)))
    sample_folds(MODEL, output / "decoder", folds, [size.length], settings, 0, output / "samples.h5", extrapolate=True)
    rows.append(("all", "s", figure(time.perf_counter() - began), f"{size.seconds:.0f}"))
    facts = {"machine": machine_of(device), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    table = [dict(zip(COLUMNS, row, strict=False)) | facts for row in rows]
    write_table(output / "table.tsv", COLUMNS, table)
    return table


def main() -> None:
    """Pack a run, or train and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packed", nargs="?", type=Path)
    parser.add_argument("--pack", type=Path, metavar="RESULTS", help="folder of a run")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="of all, compilation and draw too")
    parser.add_argument("--batch", type=int, default=128, help="structures a step")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if (given.pack is None) == (given.packed is None):
        parser.error("expected a pack, or --pack with the folder of a run")
    decoder = DecoderSettings(batch_size=given.batch)
    size = Size(decoder, TRIED, 60 * given.minutes, given.samples, 128, 3, SampleSettings())
    if given.tiny:
        decoder = replace(decoder, width=8, depth=2, stages=2, heads=1, longest=48, steps=FEWEST, batch_size=4)
        size = Size(decoder, FEWEST, size.seconds, 6, 40, 1, SampleSettings(refine_steps=1, relax_steps=3))
    try:
        if given.pack is not None:
            by_split = read_split(given.pack / "domains.h5", given.pack / "splits.tsv")
            pack(by_split, given.output or Path("pack.safetensors"))
            return
        for row in run(given.packed, given.output or Path("gpu_short"), size):
            print("\t".join(str(row[name]) for name in COLUMNS))
    except (UserError, OSError) as error:
        sys.exit(f"gpu-short: {error}")


if __name__ == "__main__":
    main()
