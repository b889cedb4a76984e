"""A trained model ready to sample: codes from a prior, traces from codes, full backbones from traces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..progress import Progress
from ..settings import SampleSettings
from . import variants
from .backbone import build_backbone
from .batch import pick_device
from .checkpoint import load_tensors
from .cvae import CVAE
from .flow import CodeFlow
from .latent import AggregatePosterior, Gaussian
from .refiner import Refiner
from .relax import relax
from .spec import Spec
from .trace import decode_trace

RESIDUES_AT_ONCE = 2048  # padded residues of a batch; memory grows with it times the length


@dataclass(frozen=True, eq=False)
class Sampler:
    """A trained model, its aggregate posterior as Gaussians and as a flow, and the refiner that completes traces."""

    model: CVAE
    aggregate: AggregatePosterior
    flow: CodeFlow | None
    refiner: Refiner

    @property
    def spec(self) -> Spec:
        """The model's spec."""
        return self.model.spec


def load_sampler(folder: Path, refiner: Path) -> Sampler:
    """Rebuild a model and a refiner from their folders; `UserError` where a file is absent or does not fit."""
    spec, spec_of_refiner = Spec.read(folder / "spec.json"), Spec.read(refiner / "spec.json")
    model = variants.variant(spec.variant).build(spec)
    aggregate = AggregatePosterior(spec.model.latent, len(spec.vocabulary[0]))
    net = Refiner(spec_of_refiner.refine)
    tensors, _ = load_tensors(folder / "weights.safetensors")
    flow = CodeFlow(spec) if any(name.startswith("flow.") for name in tensors) else None
    for module, prefix, source, found in (
        (model, "cvae.", folder, tensors),
        (aggregate, "aggregate.", folder, tensors),
        (net, "refiner.", refiner, load_tensors(refiner / "weights.safetensors")[0]),
        *([(flow, "flow.", folder, tensors)] if flow else []),
    ):
        state = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"{source}: weights do not fit the spec ({str(error).splitlines()[0]})") from error
        module.eval()
    return Sampler(model, aggregate, flow, net.to(pick_device()))


@torch.no_grad()
def draw_codes(
    sampler: Sampler, labels: Tensor, lengths: Tensor, settings: SampleSettings, generator: torch.Generator
) -> Tensor:
    """Codes (B, Z) for label ids (B, levels) and lengths (B,), from the prior that `settings` names."""
    if settings.prior == "flow" and sampler.flow is not None:  # the baseline has none and draws from a Gaussian
        return sampler.flow.sample(labels, lengths, settings.temperature, generator)
    if settings.prior != "model":
        return sampler.aggregate.sample(labels[:, 0], lengths, settings.temperature, generator)
    prior = sampler.model.prior(sampler.model.condition(labels, lengths))
    spread = 2 * np.log(settings.temperature) if settings.temperature else -np.inf
    return Gaussian(prior.mean, prior.logvar + float(spread)).sample(generator)


@torch.no_grad()
def complete(
    coefficients: Tensor,
    lengths: Tensor,
    refiner: Refiner,
    settings: SampleSettings,
    generator: torch.Generator,
    stage: str,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Full backbones (L, 5, 3) in Å of smooth traces (B, K, 3): as refined, and relaxed."""
    device = next(refiner.parameters()).device
    order = torch.argsort(lengths, stable=True)
    raw: list[np.ndarray] = [np.empty(0)] * len(order)
    relaxed: list[np.ndarray] = [np.empty(0)] * len(order)
    progress = Progress(stage, len(order), "structures")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * int(lengths[order[stop]]) <= RESIDUES_AT_ONCE:
            stop += 1
        rows = order[start:stop]
        count = lengths[rows].to(device)
        size = int(count.max())
        mask = torch.arange(size, device=device) < count[:, None]
        trace = decode_trace(coefficients[rows].to(device), count, size) * mask[..., None]
        ca, carbonyl = refiner.sample(trace, mask, settings.refine_noise, settings.refine_steps, generator)
        first = build_backbone(ca, carbonyl, count).cpu()
        closed = build_backbone(*relax(ca, carbonyl, mask, settings.relax_steps), count).cpu()
        for place, row in enumerate(rows.tolist()):
            raw[row] = first[place, : lengths[row]].numpy()
            relaxed[row] = closed[place, : lengths[row]].numpy()
        progress.advance(stop - start)
        start = stop
    return raw, relaxed
