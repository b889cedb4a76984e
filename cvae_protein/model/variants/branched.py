"""`branched`: structure and condition have branches of their own; z is a shape block and a fold block.

The shape block is encoded from the structure alone and has the prior N(0, 1); the label enters it only to be removed,
by components class by class. The fold block is encoded where both branches meet and has a prior learnt from the label.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..cvae import CVAE, VariationalEncoder
from ..layers import CONDITION, ConditionedMLP
from ..priors import FoldPrior, Gaussian
from ..representation import ClassWhitening, PrincipalComponents
from ..spec import Spec


class BranchedEncoder(VariationalEncoder):
    """q(z_shape | x) q(z_fold | x, y): principal-component scores plus corrections of two branches."""

    def __init__(self, spec: Spec, linear: PrincipalComponents, shape: int, fold: int) -> None:
        super().__init__(linear, shape + fold)
        m = spec.model
        self.condition_branch = nn.Sequential(nn.Linear(CONDITION, m.width), nn.SiLU(), nn.Linear(m.width, CONDITION))
        inputs = linear.center.numel()
        self.correct_shape = ConditionedMLP(inputs, 0, 2 * shape, m.width, m.depth, m.dropout)
        self.correct_fold = ConditionedMLP(inputs, CONDITION, 2 * fold, m.width, m.depth, m.dropout)

    def forward(self, flat: Tensor, condition: Tensor) -> Gaussian:
        """`flat` (B, 3K) -> posterior over z (B, Z), shape block first."""
        centred = flat - self.linear.center
        shape_shift, shape_spread = self.correct_shape(centred, condition[:, :0]).chunk(2, dim=-1)
        fold_shift, fold_spread = self.correct_fold(centred, self.condition_branch(condition)).chunk(2, dim=-1)
        mean = self.linear.encode(centred) + torch.cat([shape_shift, fold_shift], dim=-1)
        return Gaussian(mean, self.logvar + torch.cat([shape_spread, fold_spread], dim=-1))


def build(spec: Spec) -> CVAE:
    """An untrained model."""
    latent = spec.model.latent
    fold = max(1, round(spec.model.fold_block * latent))
    shape = latent - fold
    linear = PrincipalComponents(3 * spec.model.coefficients, latent)
    encoder = BranchedEncoder(spec, linear, shape, fold)
    blocks = {"shape": (0, shape), "fold": (shape, latent)}
    prior = FoldPrior(shape, fold, CONDITION)
    return CVAE(spec, encoder, prior, linear, blocks, components=ClassWhitening(spec))
