"""The training codes themselves, for the baseline that copies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .priors import Gaussian

ALIKE = 8  # members of a label, the nearest in length, of which one is drawn


@dataclass(frozen=True, eq=False)
class CodeMemory:
    """Posteriors of the training domains: `mean` and `logvar` (D, Z), `labels` (D, levels), `lengths` (D,)."""

    mean: Tensor
    logvar: Tensor
    labels: Tensor
    lengths: Tensor

    def sample(self, labels: Tensor, lengths: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Codes (B, Z), each of a training domain of the label asked for and of like length.

        A code is jittered by `temperature` times the spread of its posterior. A label without members gives way to the
        level above it.
        """
        rows = torch.tensor([self._choose(*asked, generator) for asked in zip(labels, lengths, strict=True)])
        posterior = Gaussian(self.mean[rows], self.logvar[rows])
        return posterior.mean + temperature * (posterior.sample(generator) - posterior.mean)

    def _choose(self, label: Tensor, length: Tensor, generator: torch.Generator) -> int:
        members = torch.arange(len(self.lengths))
        for level in range(int((label > 0).sum()), 0, -1):
            found = torch.nonzero((self.labels[:, :level] == label[:level]).all(1))[:, 0]
            if len(found):
                members = found
                break
        near = members[(self.lengths[members] - length).abs().argsort(stable=True)[:ALIKE]]
        return int(near[torch.randint(len(near), (), generator=generator)])
