"""A trained model ready to sample: codes from a prior, traces from codes, full backbones from traces."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..config.settings import SampleSettings
from ..core import variants
from ..core.errors import UserError
from ..core.progress import Progress
from ..model.batch import DomainSet, by_length, in_pieces, pad_traces
from ..model.codes import CodeSet
from ..model.cvae import CVAE
from ..model.decoder import ChainDecoder, Coarse
from ..model.device import pick_device
from ..model.priors import AggregatePosterior, Gaussian, LatentFlow, TrainingCodes
from ..model.refiner import Refiner
from ..model.registry import load_model, load_second_level, load_weights
from ..model.representation import center, encode_trace
from ..model.spec import Spec, load_tensors
from .relax import FREE, build_backbone, relax

PUSHED = 4  # draws from which the width of a posterior behind the flow is estimated
# Padded residues of a batch. A second level's memory grows with them times the length; relaxation takes small steps.
REFINED_AT_ONCE = {"cpu": 2048, "cuda": 65_536}
RELAXED_AT_ONCE = {"cpu": 8192, "cuda": 262_144}
MOST_THREADS = 8  # more would wait for the interpreter
REFINER_STEPS, DECODER_STEPS = 2, 5  # of a flow that is not distilled; more steps change no measured result
INVERSION_STEPS = 20  # of the decoder's flow, backwards, or backwards and forwards
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Sampler:
    """A trained model, its aggregate posterior as Gaussians and as a flow, and the second level that completes traces.

    Networks are on one device; methods but `coarse` return tensors on the CPU. Only `training_copies` has a `memory`.
    """

    model: CVAE
    aggregate: AggregatePosterior
    flow: LatentFlow | None
    second_level: Refiner | ChainDecoder
    memory: TrainingCodes | None = None

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.model.log_sigma.device

    @property
    def spec(self) -> Spec:
        """The model's spec."""
        return self.model.spec

    @property
    def own_flow(self) -> LatentFlow | None:
        """The flow, if it is part of the model: the model's code is then noise that the flow maps to the decoder's."""
        return self.flow if variants.find(self.spec.variant).view else None

    def infer(self, domains: DomainSet, kept: CodeSet | None = None) -> Gaussian:
        """q(z | x, y) of each domain (D, Z).

        For a model with its own flow it is of the flow's noise: that of the mean code, spread as `PUSHED` draws.
        `kept` are the codes of these domains from training, which are used if labels and lengths are the same.
        """
        labels, lengths = domains.label_ids(self.spec), torch.from_numpy(domains.lengths)
        if kept is not None and torch.equal(kept.labels, labels) and torch.equal(kept.lengths, lengths):
            posterior = kept.posterior
        else:
            posterior = self.model.infer_all(domains, self.spec.model.inference_steps)
        if (flow := self.own_flow) is None:
            return posterior
        labels, lengths = labels.to(self.device), lengths.to(self.device)

        def to_noise(codes: Tensor) -> Tensor:
            return flow.to_noise(codes.to(self.device), labels, lengths).cpu()

        generator = torch.Generator().manual_seed(0)
        draws = torch.stack([to_noise(posterior.sample(generator)) for _ in range(PUSHED)])
        return Gaussian(to_noise(posterior.mean), draws.var(0).log())

    @torch.no_grad()
    def prior(self, labels: Tensor, lengths: Tensor) -> Gaussian:
        """p(z | y) for label ids (B, levels) and lengths (B,)."""
        prior = self.model.prior(self.model.condition(labels.to(self.device), lengths.to(self.device)))
        mean, logvar = prior.mean.cpu(), prior.logvar.cpu()
        return Gaussian(mean, logvar) if self.own_flow is None else Gaussian(mean * 0, logvar * 0)

    @torch.no_grad()
    def decode(self, codes: Tensor, labels: Tensor, lengths: Tensor, kept: int = 0) -> list[Tensor]:
        """CA traces (L, 3) in Å from the first `kept` numbers, 0 = all, of codes (B, Z) as `infer` gives them."""
        if (flow := self.own_flow) is not None:
            codes = flow.to_codes(codes.to(self.device), labels.to(self.device), lengths.to(self.device)).cpu()
        return decode_all(self.model, codes, labels, lengths, kept)

    @torch.no_grad()
    def infer_noise(self, domains: DomainSet, codes: Tensor, kept: int = 0) -> list[Tensor]:
        """The second level's noise (L, 6) for domains with known codes (B, Z), found by running the flow backwards.

        The first `kept` numbers, 0 = all, and that noise give CA and carbonyl directions back under the same label, in
        the same number of steps (`INVERSION_STEPS`). Raises `UserError` if the second level is a refiner, which keeps
        no noise, or distilled.
        """
        if not isinstance(self.second_level, ChainDecoder):
            raise UserError("noise: expected a second level that is a decoder over whole chains, found a refiner")
        if self.second_level.settings.distilled:
            raise UserError("noise: expected a decoder that is a flow, found a distilled one, which has no way back")
        decoder, lengths = self.second_level, torch.from_numpy(domains.lengths)
        traces = self.decode(codes, domains.label_ids(self.spec), lengths, kept)

        def invert(rows: np.ndarray) -> list[tuple[np.ndarray, Tensor]]:
            def run(rows: np.ndarray) -> Tensor:
                batch = domains.batch(self.spec, rows).to(self.device)
                _, frame = encode_trace(batch.ca, batch.mask, self.spec.model.coefficients)
                own = self.coarse([traces[row] for row in rows], [domains.labels[row] for row in rows], kept)
                ca = center(batch.ca, batch.mask) @ frame
                return decoder.to_noise(ca, batch.carbonyl @ frame, own, INVERSION_STEPS).cpu()

            return in_pieces(run, rows, f"invert {self.spec.variant}")

        batches = list(by_length(domains.lengths, REFINED_AT_ONCE[self.device.type]))
        return _unpadded(at_once(invert, self.device, batches), lengths.tolist())

    def coarse(self, traces: Sequence[Tensor], labels: Sequence[str], kept: int = 0, error: float = 0.0) -> Coarse:
        """The whole-chain decoder's input for traces (L, 3) in Å decoded from the first `kept` numbers, 0 = all.

        `error` is that of the numbers, relative to their spread.
        """
        decoder = cast(ChainDecoder, self.second_level)
        trace, mask = pad_traces([trace.to(self.device) for trace in traces])
        numbers = torch.full((len(traces),), kept or self.spec.model.latent, device=self.device)
        errors = torch.full((len(traces),), error, device=self.device)
        ids = torch.tensor([decoder.spec.label_ids(label) for label in labels], device=self.device)
        with torch.no_grad():
            scale = self.model.expected_scale(numbers, errors)
        return Coarse(trace, mask, numbers, errors, scale, ids)


def load_sampler(folder: Path, refiner: Path) -> Sampler:
    """Rebuild a model and a second level from their folders; `UserError` where a file is absent or does not fit."""
    model, second_level = load_model(folder), load_second_level(refiner)
    aggregate = AggregatePosterior(model.spec.model.latent, len(model.spec.vocabulary[0]))
    tensors, _ = load_tensors(folder / "weights.safetensors")
    flow = LatentFlow(model.spec) if any(name.startswith("flow.") for name in tensors) else None
    load_weights(aggregate, "aggregate.", folder, tensors)
    if flow is not None:
        load_weights(flow, "flow.", folder, tensors)
    device = pick_device(f"sample {model.spec.variant} seed {model.spec.seed}")
    return Sampler(
        model.to(device),
        aggregate,
        None if flow is None else flow.to(device),
        second_level.to(device),
        _memory(tensors) if variants.find(model.spec.variant).prior == "training_codes" else None,
    )


def _memory(tensors: dict[str, Tensor]) -> TrainingCodes:
    return TrainingCodes(*(tensors[f"memory.{field.name}"] for field in fields(TrainingCodes)))


@torch.no_grad()
def decode_all(model: CVAE, codes: Tensor, labels: Tensor, lengths: Tensor, kept: int = 0) -> list[Tensor]:
    """CA traces (L, 3) in Å of codes (B, Z), label ids (B, levels) and lengths (B,), in batches of similar length.

    Only the first `kept` numbers of a code are used, 0 = all. Codes, labels, lengths and traces are on the CPU,
    whatever the model's device.
    """
    device = model.log_sigma.device

    def decode(rows: np.ndarray) -> Tensor:
        mask = torch.arange(int(lengths[rows].max())) < lengths[rows][:, None]
        return model.decode(codes[rows].to(device), labels[rows].to(device), mask.to(device), kept).cpu()

    batches = by_length(lengths.numpy())
    return _unpadded((in_pieces(decode, batch, f"decode {model.spec.variant}") for batch in batches), lengths.tolist())


def _unpadded(
    made: Iterable[list[tuple[np.ndarray, Tensor]]], lengths: Sequence[int], progress: Progress | None = None
) -> list[Tensor]:
    """Results for padded batches, each with its rows, as one tensor (L, ...) per structure in the order of the rows."""
    found = [torch.empty(0)] * len(lengths)
    for pieces in made:
        for rows, batch in pieces:
            for place, row in enumerate(rows):
                found[row] = batch[place, : lengths[row]]
            if progress is not None:
                progress.advance(len(rows))
    return found


@torch.no_grad()
def draw_codes(
    sampler: Sampler, labels: Tensor, lengths: Tensor, settings: SampleSettings, generator: torch.Generator
) -> Tensor:
    """Codes (B, Z) for label ids (B, levels) and lengths (B,), from the prior that `settings` names.

    The baselines `training_copies` and `swapped_label` have priors of their own.
    """
    device, record = sampler.device, variants.find(sampler.spec.variant)
    if settings.prior == "flow" and sampler.flow is None and record.has_flow:
        raise UserError(
            f"sample.prior: expected gaussian or model, since {record.name} was trained without a flow, got flow"
        )
    if sampler.memory is not None:
        return sampler.memory.sample(labels, lengths, settings.temperature, generator)
    if record.prior == "other_class":
        labels = other_class(labels, len(sampler.spec.vocabulary[0]), generator)
    if settings.prior == "flow" and sampler.flow is not None:  # `pca` has none and draws from a Gaussian
        condition = labels.to(device), lengths.to(device)
        return sampler.flow.sample(*condition, settings.temperature, settings.guidance, generator).cpu()
    if settings.prior != "model":
        return sampler.aggregate.sample(labels[:, 0], lengths, settings.temperature, generator)
    prior = sampler.model.prior(sampler.model.condition(labels.to(device), lengths.to(device)))
    spread = 2 * np.log(settings.temperature) if settings.temperature else -np.inf
    return Gaussian(prior.mean, prior.logvar + float(spread)).sample(generator).cpu()


def other_class(labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """Label ids (B, levels) of a random first-level class other than `labels`, if any; finer levels are unknown."""
    other = torch.zeros_like(labels)
    if classes < 2:
        return other
    shift = torch.randint(1, classes, (len(labels),), generator=generator)
    other[:, 0] = (labels[:, 0] - 1 + shift) % classes + 1
    return other


def complete(
    sampler: Sampler,
    traces: Sequence[Tensor],
    labels: Sequence[str],
    settings: SampleSettings,
    noise: Sequence[Tensor],
    stage: str,
    hold: float = FREE,
    said: bool = True,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Full backbones (L, 5, 3) in Å from decoded CA traces (L, 3) and labels: as refined, and relaxed (see `relax`).

    `noise` (L, 6) of each is what the second level starts from (`start_noise`). After the refiner, CA are held near the
    trace; after the decoder, which may leave it, near where they are. `said` is whether progress is reported.
    """
    refined = refine_all(sampler, traces, labels, settings, noise, stage, said)
    goals = traces if isinstance(sampler.second_level, Refiner) else None
    return relax_all(refined, 0, hold, stage), relax_all(refined, settings.relax_steps, hold, stage, goals, said)


def noise_seeds(count: int, generator: torch.Generator) -> list[int]:
    """A seed of the second level's noise for each of `count` traces."""
    return torch.randint(2**62, (count,), generator=generator).tolist()


def start_noise(lengths: Sequence[int], seeds: Sequence[int], amount: float) -> list[Tensor]:
    """`amount` times standard normal deviates (L, 6); those of a chain depend on its seed alone, not on the others."""
    return [
        amount * torch.randn(length, 6, generator=torch.Generator().manual_seed(seed))
        for length, seed in zip(lengths, seeds, strict=True)
    ]


def no_noise(traces: Sequence[Tensor]) -> list[Tensor]:
    """The mean of the second level's noise (L, 6) for each of some traces (L, 3)."""
    return [trace.new_zeros(len(trace), 6) for trace in traces]


def integration_steps(second_level: Refiner | ChainDecoder, settings: SampleSettings) -> int:
    """The number of steps in which a second level completes traces."""
    usual = DECODER_STEPS if isinstance(second_level, ChainDecoder) else REFINER_STEPS
    return settings.refine_steps or (1 if second_level.settings.distilled else usual)


def refine_all(
    sampler: Sampler,
    traces: Sequence[Tensor],
    labels: Sequence[str],
    settings: SampleSettings,
    noise: Sequence[Tensor],
    stage: str,
    said: bool = True,
) -> list[tuple[Tensor, Tensor]]:
    """CA positions in Å and carbonyl directions, (L, 3) each, of decoded CA traces (L, 3), on the sampler's device."""
    device, second_level = sampler.device, sampler.second_level
    steps = integration_steps(second_level, settings)
    lengths = [len(trace) for trace in traces]
    batches = list(by_length(lengths, REFINED_AT_ONCE[device.type]))

    @torch.no_grad()
    def refine(batch: np.ndarray) -> list[tuple[np.ndarray, Tensor]]:
        def sample(rows: np.ndarray) -> Tensor:
            own = [traces[row] for row in rows]
            start = pad_sequence([noise[row] for row in rows], batch_first=True).to(device)
            if isinstance(second_level, ChainDecoder):
                coarse = sampler.coarse(own, [labels[row] for row in rows], settings.numbers, settings.code_error)
                made = second_level.to_structure(start, coarse, steps, settings.decoder_guidance)
            else:
                made = second_level.integrate(start, *pad_traces([t.to(device) for t in own]), steps)
            return torch.stack(made, dim=2)

        return in_pieces(sample, batch, f"{stage}, refine")

    progress = Progress(f"{stage}, refine", len(traces), "structures") if said else None
    return [(one[:, 0], one[:, 1]) for one in _unpadded(at_once(refine, device, batches), lengths, progress)]


def relax_all(
    refined: Sequence[tuple[Tensor, Tensor]],
    steps: int,
    hold: float,
    stage: str,
    goals: Sequence[Tensor] | None = None,
    said: bool = True,
) -> list[np.ndarray]:
    """Full backbones (L, 5, 3) in Å of CA positions and carbonyl directions, (L, 3) each, after `steps` of descent.

    CA are held near `goals` (L, 3) in Å, by default near where they are.
    """
    if not refined:
        return []
    device, lengths = refined[0][0].device, [len(ca) for ca, _ in refined]
    batches = list(by_length(lengths, RELAXED_AT_ONCE[device.type]))

    @torch.no_grad()
    def descend(rows: np.ndarray) -> Tensor:
        """Atoms (B, L, 5, 3) of some of the chains."""
        ca, mask = pad_traces([refined[row][0] for row in rows])
        carbonyl, _ = pad_traces([refined[row][1] for row in rows])
        goal = None if goals is None else pad_traces([goals[row].to(device) for row in rows])[0]
        return build_backbone(*relax(ca, carbonyl, mask, steps, hold, goal), mask.sum(1)).cpu()

    progress = Progress(f"{stage}, relax", len(refined), "structures") if steps and said else None
    made = at_once(lambda batch: in_pieces(descend, batch, f"{stage}, relax"), device, batches)
    return [atoms.numpy() for atoms in _unpadded(made, lengths, progress)]


def at_once(work: Callable[..., Result], device: torch.device, *batches: Sequence[Any]) -> Generator[Result]:
    """Results of `work` for each batch, in order; on a CPU, one thread per batch: their number changes no result.

    PyTorch's own threads within an operation gain less for operations as small as those of relaxation.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or not batches[0]:
        yield from map(work, *batches)
        return
    workers = min(threads, MOST_THREADS, len(batches[0]))
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, *batches)
    finally:
        torch.set_num_threads(threads)
