"""How likely codes are under the priors from which codes can be drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config.settings import SampleSettings
from ..core import variants
from ..model.priors import LatentFlow
from .sampler import Sampler, other_class

AT_ONCE = 256  # codes
DRAWS = 4  # noises and times averaged in the flow loss of a code


@torch.no_grad()
def judge_codes(
    sampler: Sampler, codes: Tensor, labels: Tensor, lengths: Tensor, settings: SampleSettings
) -> dict[str, Tensor]:
    """Log densities and flow losses, by name, (D,) each, of codes (D, Z) with label ids (D, levels) and lengths (D,).

    Log densities in nats: `own` is that of the prior that `settings` and the variant name, at temperature and guidance
    1; `gaussian` that of one Gaussian for all classes, given the length, fitted to the same training codes;
    `class_gaussian` that of one per class; `flow` that of the flow, and `model` that of the model's own prior. For the
    flow also `noise`, the squared norm of the deviates from which it makes a code, and `flow_loss` beside
    `gaussian_flow_loss`. Entries that do not apply are absent.
    """
    flow, record = sampler.flow, variants.find(sampler.spec.variant)
    found = {
        "gaussian": sampler.aggregate.log_density(codes, torch.zeros_like(lengths), lengths),
        "class_gaussian": sampler.aggregate.log_density(codes, labels[:, 0], lengths),
        "model": sampler.prior(labels, lengths).log_density(codes),
    }
    if flow is not None:
        if record.prior == "other_class":
            labels = other_class(labels, len(sampler.spec.vocabulary[0]), torch.Generator().manual_seed(0))
        parts = [
            _by_flow(sampler, flow, codes[rows], labels[rows], lengths[rows])
            for rows in torch.arange(len(codes)).split(AT_ONCE)
        ]
        found |= {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if record.view:
        found["model"] = found["flow"]
    if sampler.memory is not None:
        found["own"] = sampler.memory.log_density(codes, labels, lengths)
    elif settings.prior == "flow":
        found["own"] = found["flow" if flow is not None else "class_gaussian"]
    else:
        found["own"] = found["model" if settings.prior == "model" else "class_gaussian"]
    return found


def _by_flow(sampler: Sampler, flow: LatentFlow, codes: Tensor, labels: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """The entries of `judge_codes` for the flow."""
    generator = torch.Generator().manual_seed(0)
    z, labels, lengths = codes.to(sampler.device), labels.to(sampler.device), lengths.to(sampler.device)
    density, noise = flow.log_density(z, labels, lengths)
    losses = [torch.stack(flow.losses(z, labels, lengths, generator)) for _ in range(DRAWS)]
    own, gaussian = torch.stack(losses).mean(0).cpu()
    return {
        "flow": density.cpu(),
        "noise": noise.square().sum(-1).cpu(),
        "flow_loss": own,
        "gaussian_flow_loss": gaussian,
    }
