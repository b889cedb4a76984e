"""The conditional VAE of smooth traces: one class, composed of an encoder, a prior and a decoder.

Encoder and decoder each add a correction, at first zero, to the linear map of principal components. Before training a
model is therefore probabilistic PCA (Tipping and Bishop 1999), and what training adds is what the network adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .batch import Batch
from .latent import Gaussian
from .nets import Condition, ConditionedMLP
from .spec import Spec
from .trace import encode_trace

CONDITION = 32  # numbers that carry label and length
SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Output:
    """What a model makes of a batch.

    posterior, prior : over codes (B, Z)
    z : the code used (B, Z)
    target, reconstruction : coefficients (B, K, 3) in Å over the root of the length
    log_sigma : log of the decoder's standard deviation in Å
    blocks : name of each part of z -> its columns
    """

    posterior: Gaussian
    prior: Gaussian
    z: Tensor
    target: Tensor
    reconstruction: Tensor
    log_sigma: Tensor
    blocks: dict[str, tuple[int, int]]


class LinearMap(nn.Module):
    """The principal components of the training coefficients: flat coefficients <-> whitened scores."""

    center: Tensor

    def __init__(self, inputs: int, latent: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(inputs))
        self.encode = nn.Linear(inputs, latent, bias=False)
        self.decode = nn.Linear(latent, inputs, bias=False)

    @torch.no_grad()
    def fit(self, flat: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Set the maps from coefficients (D, inputs); return the variances kept (Z,) and the mean variance left out."""
        weights = weights / weights.sum()
        self.center.copy_((weights[:, None] * flat).sum(0))
        centred = (flat - self.center).double()
        covariance = centred.T @ (centred * weights[:, None])
        variance, axes = torch.linalg.eigh(covariance)
        variance, axes = variance.flip(0).clamp(min=SMALLEST_VARIANCE), axes.flip(1)
        latent = self.encode.out_features
        kept = torch.full((latent,), SMALLEST_VARIANCE, dtype=torch.double)
        kept[: min(latent, len(variance))] = variance[:latent]
        basis = torch.zeros(len(variance), latent, dtype=torch.double)
        basis[:, : min(latent, len(variance))] = axes[:, :latent]
        self.encode.weight.copy_((basis / kept.sqrt()).T)
        self.decode.weight.copy_(basis * kept.sqrt())
        left_out = variance[latent:].mean() if len(variance) > latent else torch.tensor(SMALLEST_VARIANCE)
        return kept.float(), left_out.float()


class VariationalEncoder(nn.Module):
    """What every encoder has: the linear map that it corrects, and a log variance for each number of the code."""

    def __init__(self, linear: LinearMap, latent: int) -> None:
        super().__init__()
        self.linear = linear
        self.logvar = nn.Parameter(torch.zeros(latent))


class Encoder(VariationalEncoder):
    """q(z | x, y) with coefficients and condition side by side: principal-component scores plus a correction."""

    def __init__(self, spec: Spec, linear: LinearMap, latent: int, condition: int) -> None:
        super().__init__(linear, latent)
        m = spec.model
        self.correct = ConditionedMLP(linear.center.numel(), condition, 2 * latent, m.width, m.depth, m.dropout)

    def forward(self, flat: Tensor, condition: Tensor) -> Gaussian:
        """`flat` (B, 3K) -> posterior over z (B, Z)."""
        centred = flat - self.linear.center
        shift, spread = self.correct(centred, condition).chunk(2, dim=-1)
        return Gaussian(self.linear.encode(centred) + shift, self.logvar + spread)


class Decoder(nn.Module):
    """p(x | z, y): the principal components' linear map plus a correction; z and y enter every layer."""

    def __init__(self, spec: Spec, linear: LinearMap, latent: int, condition: int) -> None:
        super().__init__()
        self.linear = linear
        m = spec.model
        self.correct = ConditionedMLP(latent, condition + latent, linear.center.numel(), m.width, m.depth, m.dropout)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """`z` (B, Z) -> flat coefficients (B, 3K)."""
        return self.linear.center + self.linear.decode(z) + self.correct(z, torch.cat([condition, z], dim=-1))


class CVAE(nn.Module):
    """Encoder q(z|x,y), prior p(z|y), decoder p(x|z,y) of a smooth trace x given label y and length.

    `encoder` and `prior` are modules called with (flat, condition) and (condition); `blocks` names parts of z;
    `critic`, if any, is trained with the model (see `critics`).
    """

    def __init__(
        self,
        spec: Spec,
        encoder: VariationalEncoder,
        prior: nn.Module,
        linear: LinearMap,
        blocks: dict[str, tuple[int, int]],
        critic: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = blocks
        self.linear = linear
        self.condition = make_condition(spec)
        self.encoder, self.prior, self.critic = encoder, prior, critic
        self.decoder = Decoder(spec, linear, spec.model.latent, CONDITION)
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def describe(self, batch: Batch) -> Tensor:
        """The batch's coefficients (B, K, 3)."""
        return encode_trace(batch.ca, batch.mask, self.spec.model.coefficients)[0]

    def posterior(self, target: Tensor, labels: Tensor, lengths: Tensor) -> Gaussian:
        """q(z | x, y) of coefficients (B, K, 3)."""
        return self.encoder(target.flatten(1), self.condition(labels, lengths))

    def decode(self, z: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Coefficients (B, K, 3) of codes (B, Z)."""
        return self.decoder(z, self.condition(labels, lengths)).view(len(z), -1, 3)

    def forward(self, batch: Batch, generator: torch.Generator) -> Output:
        """Encode, draw a code, decode."""
        target, lengths = self.describe(batch), batch.lengths
        posterior = self.posterior(target, batch.labels, lengths)
        z = posterior.sample(generator)
        reconstruction = self.decode(z, batch.labels, lengths)
        prior = self.prior(self.condition(batch.labels, lengths))
        return Output(posterior, prior, z, target, reconstruction, self.log_sigma, self.blocks)

    @torch.no_grad()
    def fit_linear(self, batch: Batch, weights: Tensor) -> None:
        """Set the linear maps to the principal components; posterior variance and sigma as probabilistic PCA has them.

        The scores are not shrunk towards the prior, so that the reconstruction is the best linear one.
        """
        flat = self.describe(batch).flatten(1)
        variance, left_out = self.linear.fit(flat, weights)
        length = batch.lengths.float().mean()
        self.log_sigma.fill_(0.5 * math.log(float(left_out * length)))
        self.encoder.logvar.data.copy_(-torch.log1p(variance / left_out))


def make_condition(spec: Spec) -> Condition:
    """The module that turns labels and length into a vector of `CONDITION` numbers."""
    return Condition(tuple(len(names) for names in spec.vocabulary), CONDITION)
