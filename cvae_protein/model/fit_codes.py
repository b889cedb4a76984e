"""What is fitted to the codes of the training domains once a model is trained: the priors from which samples come."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..config.settings import TrainSettings
from ..training.checkpoint import Training
from ..training.distributed import Ranks
from ..training.loop import Losses, Task, minimise
from .batch import Domains, hide_labels
from .cvae import CVAE
from .flow import CodeFlow
from .memory import CodeMemory
from .priors import AggregatePosterior, Gaussian
from .variants import registry

CODES_A_STEP = 128


def fit_codes(model: CVAE, domains: Domains, settings: TrainSettings) -> dict[str, Tensor]:
    """Weights of the aggregate posterior of whole training domains: a Gaussian a class, and a flow or the codes."""
    spec = model.spec
    generator, rng = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
    posterior = model.infer_all(domains, spec.model.inference_steps)
    labels, lengths = domains.label_ids(spec), torch.from_numpy(domains.lengths)
    aggregate = AggregatePosterior(spec.model.latent, len(spec.vocabulary[0]))
    first = torch.tensor(sorted({name: row for row, name in reversed(list(enumerate(domains.ids)))}.values()))
    aggregate.fit(posterior.mean[first], posterior.logvar[first], labels[first, 0], lengths[first])
    tensors = {f"aggregate.{name}": value for name, value in aggregate.state_dict().items()}
    if registry.codes(spec.variant) == "copies":
        kept = CodeMemory(posterior.mean[first], posterior.logvar[first], labels[first], lengths[first])
        tensors |= {f"memory.{name}": value for name, value in vars(kept).items()}
    if not registry.has_flow(spec.variant):
        return tensors
    flow = CodeFlow(spec)
    flow.whiten(posterior)
    chance = domains.weights / domains.weights.sum()

    def losses(step: int, ranks: Ranks) -> tuple[Losses, float]:
        rows = torch.from_numpy(rng.choice(len(domains), CODES_A_STEP, p=chance))
        z = Gaussian(posterior.mean[rows], posterior.logvar[rows]).sample(generator)
        told = hide_labels(labels[rows], settings.label_dropout, rng)
        return {"flow": (flow.loss(z, told, lengths[rows], generator), 1.0)}, 1.0

    optimizer = torch.optim.AdamW(flow.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    stage = f"fit codes of {spec.variant} seed {spec.seed}"
    task = Task(stage, flow, losses, dict, settings.flow_steps, settings.learning_rate, {}, spec.seed)
    minimise(task, Training(flow.named_parameters(), optimizer, generator, rng), settings)
    return tensors | {f"flow.{name}": value for name, value in flow.state_dict().items()}
