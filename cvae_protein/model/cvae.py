"""The conditional VAE of CA traces: one class, composed of an encoder, a prior and a decoder.

Encoder and decoder each add a correction, initially zero, to the linear map of principal components. An untrained model
is therefore probabilistic PCA (Tipping and Bishop 1999), and what training adds is what the networks add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..core.progress import Progress, verbosity
from .batch import Batch, DomainSet, by_length, in_pieces
from .decoder import expected_scale
from .layers import CONDITION, NEIGHBOURS, ChainNetwork, Condition, ConditionedMLP, chain_steps, chain_waves
from .priors import Gaussian
from .representation import ClassWhitening, PrincipalComponents, center, decode_trace, encode_trace
from .spec import Spec

CORRECTION = 2.0  # Å; in this unit the decoder's correction has about unit variance
STEP, MOMENTUM = 0.3, 0.5  # of the latent refinement; 1 and 0 would be right for a linear decoder
INFERRED_AT_ONCE = {"cpu": 2048, "cuda": 8192}  # padded residues of a batch; a CPU's caches hold no more


@dataclass(frozen=True, eq=False)
class Output:
    """A model's output for a batch.

    posterior, prior : over codes (B, Z)
    z : the code used (B, Z); numbers dropped by nested dropout are the prior's mean, and cost no divergence
    target, reconstruction : CA positions (B, L, 3) in Å, in the target's chain frame, zeros in the padding
    log_sigma : log of the decoder's standard deviation in Å, for all structures or for each (B,)
    blocks : name of each part of z -> its columns
    """

    posterior: Gaussian
    prior: Gaussian
    z: Tensor
    target: Tensor
    reconstruction: Tensor
    log_sigma: Tensor
    blocks: dict[str, tuple[int, int]]


class VariationalEncoder(nn.Module):
    """The base of all encoders: the linear map that they correct, and a log variance for each number of the code."""

    def __init__(self, linear: PrincipalComponents, latent: int) -> None:
        super().__init__()
        self.linear = linear
        self.logvar = nn.Parameter(torch.zeros(latent))


class Encoder(VariationalEncoder):
    """q(z | x, y) from coefficients and condition concatenated: principal-component scores plus a correction."""

    def __init__(self, spec: Spec, linear: PrincipalComponents, latent: int, condition: int) -> None:
        super().__init__(linear, latent)
        m = spec.model
        self.correct = ConditionedMLP(linear.center.numel(), condition, 2 * latent, m.width, m.depth, m.dropout)

    def forward(self, flat: Tensor, condition: Tensor) -> Gaussian:
        """`flat` (B, 3K) -> posterior over z (B, Z)."""
        centred = flat - self.linear.center
        shift, spread = self.correct(centred, condition).chunk(2, dim=-1)
        return Gaussian(self.linear.encode(centred) + shift, self.logvar + spread)


WAVES = 8  # half waves along the chain that encode a residue's place


class Decoder(nn.Module):
    """p(x | z, y): the smooth trace of the principal components' linear map, plus a correction along the chain.

    The correction sees the smooth trace and adds what goes with it, such as the run of a helix or a strand; z and y
    enter every layer.
    """

    def __init__(self, spec: Spec, linear: PrincipalComponents, latent: int, condition: int) -> None:
        super().__init__()
        self.linear = linear
        m = spec.model
        self.told = nn.Sequential(nn.Linear(condition + latent, m.decoder_width), nn.SiLU())
        inputs = 3 + 3 * len(NEIGHBOURS) + 2 * WAVES
        self.correct = ChainNetwork(inputs, m.decoder_width, 3, m.decoder_width, m.decoder_depth, m.dropout)

    def smooth(self, z: Tensor, mask: Tensor) -> Tensor:
        """The linear map alone: `z` (B, Z), `mask` (B, L) -> smooth CA trace (B, L, 3) in Å."""
        coefficients = (self.linear.center + self.linear.decode(z)).view(len(z), -1, 3)
        return decode_trace(coefficients, mask.sum(1), mask.shape[1])

    def forward(self, z: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """`z` (B, Z), `condition` (B, C), `mask` (B, L) -> CA trace (B, L, 3) in Å, in the chain frame."""
        trace, lengths = self.smooth(z, mask), mask.sum(1)
        features = torch.cat([trace / 10, chain_steps(trace, mask), chain_waves(lengths, mask, WAVES)], dim=-1)
        return trace + CORRECTION * self.correct(features, mask, self.told(torch.cat([condition, z], dim=-1)))


def _prefix(own: Gaussian, prior: Gaussian, sizes: Tensor) -> Gaussian:
    """A Gaussian (B, Z) with the first `sizes` (B,) numbers of `own` and the prior's for the others."""
    kept = torch.arange(own.mean.shape[1], device=sizes.device) < sizes[:, None]
    return Gaussian(torch.where(kept, own.mean, prior.mean), torch.where(kept, own.logvar, prior.logvar))


class CVAE(nn.Module):
    """Encoder q(z|x,y), prior p(z|y), decoder p(x|z,y) of a CA trace x given label y and length.

    `encoder` and `prior` are modules called with (flat, condition) and (condition); `blocks` names parts of z;
    `critic`, which a variant may add, and `critics`, which training adds and removes, are trained with the model (see
    `losses/critics`). With `components`, encoder and decoder work with scores of the shared components, and the code is
    what the class leaves of these (see `representation`).

    With `spec.model.nested`, training keeps a random prefix of some structures' codes (nested dropout, Rippel et al.
    2014, arXiv:1402.0915), so that the first k numbers are a code of size k; `excess` is how much larger log sigma then
    is.
    """

    def __init__(
        self,
        spec: Spec,
        encoder: nn.Module,
        prior: nn.Module,
        linear: PrincipalComponents,
        blocks: dict[str, tuple[int, int]],
        components: ClassWhitening | None = None,
        condition: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = blocks
        self.linear = linear
        self.condition = condition or Condition(spec)
        self.encoder, self.prior, self.components = encoder, prior, components
        self.critic: nn.Module | None = None
        self.critics = nn.ModuleDict()
        self.decoder = decoder or Decoder(spec, linear, spec.model.latent, CONDITION)
        self.log_sigma = nn.Parameter(torch.zeros(()))
        self.excess = nn.Parameter(torch.zeros(spec.model.latent - 1)) if spec.model.nested else None

    def describe(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's coefficients (B, K, 3), and its CA positions in the chain frame (B, L, 3) in Å."""
        coefficients, frame = encode_trace(batch.ca, batch.mask, self.spec.model.coefficients)
        return coefficients, center(batch.ca, batch.mask) @ frame

    def posterior(self, coefficients: Tensor, labels: Tensor, lengths: Tensor) -> Gaussian:
        """q(z | x, y) of coefficients (B, K, 3), as the encoder gives it."""
        found = self.encoder(coefficients.flatten(1), self.condition(labels, lengths))
        return (
            found if self.components is None else Gaussian(self.components.to_codes(found.mean, labels), found.logvar)
        )

    def scores(self, z: Tensor, labels: Tensor) -> Tensor:
        """Scores of the shared components (B, Z) for codes (B, Z)."""
        return z if self.components is None else self.components.to_scores(z, labels)

    @property
    def power(self) -> Tensor:
        """The mean square in Å² by which a number of the code moves a residue, in the linear decoder (Z,)."""
        return self.linear.power

    def decode(self, z: Tensor, labels: Tensor, mask: Tensor, kept: int = 0) -> Tensor:
        """CA traces (B, L, 3) in Å of the first `kept` numbers, 0 = all, of codes (B, Z); zeros in the padding.

        The other numbers are replaced by the prior's mean.
        """
        condition = self.condition(labels, mask.sum(1))
        if kept:
            sizes = torch.full((len(z),), kept, device=z.device)
            z = _prefix(Gaussian(z, z), self.prior(condition), sizes).mean
        return self.decoder(self.scores(z, labels), condition, mask)

    def expected_scale(self, kept: Tensor, error: Tensor) -> Tensor:
        """Expected distance in Å of CA from traces of the first `kept` numbers with `error` on them (B,).

        See `decoder.expected_scale`. With nested dropout, the error from omitting the others was learnt; otherwise it
        is that of a linear decoder.
        """
        left = 0.0 if self.excess is not None else 1.0
        return expected_scale(self.power, self.log_sigma_of(kept).exp(), kept, error, left)

    def forward(self, batch: Batch, generator: torch.Generator) -> Output:
        """Encode, draw a code, decode."""
        (coefficients, target), lengths = self.describe(batch), batch.lengths
        posterior = self.posterior(coefficients, batch.labels, lengths)
        prior = self.prior(self.condition(batch.labels, lengths))
        z = posterior.sample(generator)
        log_sigma: Tensor = self.log_sigma
        if self.training and self.excess is not None:
            sizes = self._draw_sizes(len(z), generator)
            posterior, log_sigma = _prefix(posterior, prior, sizes), self.log_sigma_of(sizes)
            z = _prefix(Gaussian(z, z), prior, sizes).mean
        reconstruction = self.decode(z, batch.labels, batch.mask)
        return Output(posterior, prior, z, target, reconstruction, log_sigma, self.blocks)

    def _draw_sizes(self, count: int, generator: torch.Generator) -> Tensor:
        """How many numbers of each code are kept (count,): all or, for a share of codes, a uniformly random number."""
        latent = self.spec.model.latent
        share, where = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
        sizes = torch.where(share < self.spec.model.nested, 1 + (latent * where).long(), latent)
        return sizes.clamp(max=latent).to(self.log_sigma.device)

    def log_sigma_of(self, sizes: Tensor) -> Tensor:
        """Log of the decoder's standard deviation in Å if the first `sizes` (B,) numbers of a code are kept (B,)."""
        if self.excess is None:
            return self.log_sigma.expand(len(sizes))
        return self.log_sigma + nn.functional.pad(self.excess, (0, 1))[sizes - 1]

    def infer(self, batch: Batch, steps: int, size: int | None = None) -> Gaussian:
        """q(z | x, y), its mean moved from the encoder's guess by `steps` of descent on the negative evidence bound.

        If `size` is given, codes have only the first `size` numbers; the others are the prior's.

        Semi-amortised inference (Kim et al. 2018) by Gauss-Newton steps, with curvature from the decoder's linear part.
        Structures do not influence each other; the best code of all steps, including the guess, is returned.
        """
        (coefficients, target), lengths, labels = self.describe(batch), batch.lengths, batch.labels
        with torch.no_grad():
            guess = self.posterior(coefficients, labels, lengths)
            condition = self.condition(labels, lengths)
            size = self.spec.model.latent if size is None else size
            sizes, prior = torch.full_like(lengths, size), self.prior(condition)
            guess, precision = _prefix(guess, prior, sizes), torch.exp(-2 * self.log_sigma_of(sizes))
        if not steps:
            return guess
        with torch.no_grad():
            weight = self.linear.decode.weight
            gram = weight.T @ weight
            if self.components is not None:
                spread = self.components.spread(labels)
                gram = spread.transpose(1, 2) @ gram @ spread
            curvature = (precision * lengths)[:, None, None] * gram
            curvature = curvature + torch.diag_embed(torch.exp(-prior.logvar).expand_as(guess.mean))
            step = torch.zeros_like(curvature)
            step[:, :size, :size] = torch.linalg.inv(curvature[:, :size, :size])
        best = mean = guess.mean
        least, velocity = torch.full_like(mean[:, 0], math.inf), torch.zeros_like(mean)
        for left in range(steps, -1, -1):
            mean = mean.detach().requires_grad_(left > 0)
            with torch.set_grad_enabled(left > 0):
                trace = self.decoder(self.scores(mean, labels), condition, batch.mask)
                error = (trace - target).square().sum((1, 2))
                bound = 0.5 * precision * error + Gaussian(mean, guess.logvar).kl(prior).sum(-1)
                whole = bound.sum()
            best = torch.where((bound < least)[:, None], mean.detach(), best)
            least = torch.minimum(bound.detach(), least)
            if left:
                (gradient,) = torch.autograd.grad(whole, mean)
                velocity = MOMENTUM * velocity - STEP * (step @ gradient[..., None])[..., 0]
                mean = mean + velocity
        return Gaussian(best, guess.logvar)

    def infer_all(self, domains: DomainSet, steps: int, size: int | None = None) -> Gaussian:
        """`infer` for all domains (D, Z), in batches of similar length, on the model's device; returned on the CPU."""
        device = self.log_sigma.device
        mean = torch.zeros(len(domains), self.spec.model.latent)
        logvar = torch.zeros_like(mean)

        def infer(rows: np.ndarray) -> Gaussian:
            return self.infer(domains.batch(self.spec, rows).to(device), steps, size)

        progress = Progress(f"codes of {self.spec.variant} seed {self.spec.seed}", len(domains), "domains")
        for batch in by_length(domains.lengths, INFERRED_AT_ONCE[device.type]):
            for rows, found in in_pieces(infer, batch, f"infer {self.spec.variant}"):
                mean[rows], logvar[rows] = found.mean.cpu(), found.logvar.expand_as(found.mean).cpu()
                with verbosity("slow"):  # a few domains take no time
                    progress.advance(len(rows))
        return Gaussian(mean, logvar)

    @torch.no_grad()
    def fit_linear(self, batch: Batch, weights: Tensor) -> None:
        """Set the linear maps to the principal components; posterior variance and sigma as in probabilistic PCA.

        The scores are not shrunk towards the prior, so that the reconstruction is the best linear one.
        """
        coefficients, target = self.describe(batch)
        variance = self.linear.fit(coefficients.flatten(1), weights)
        scores = self.linear.encode(coefficients.flatten(1) - self.linear.center)
        kept = (self.linear.center + self.linear.decode(scores)).view_as(coefficients)
        error = (decode_trace(kept, batch.lengths, target.shape[1]) - target).square().sum((1, 2))
        sigma_squared = (weights * error).sum() / (weights * 3 * batch.lengths).sum()
        self.log_sigma.fill_(0.5 * float(sigma_squared.log()))
        if self.excess is not None:  # from the error of the components left out, which are orthogonal
            left = (scores.square() * self.linear.decode.weight.square().sum(0)).flip(1).cumsum(1).flip(1)[:, 1:]
            added = (weights * batch.lengths) @ left / (weights * 3 * batch.lengths).sum()
            self.excess.copy_(0.5 * torch.log1p(added / sigma_squared))
        self.get_parameter("encoder.logvar").copy_(
            -torch.log1p(variance * batch.lengths.float().mean() / sigma_squared)
        )

    @torch.no_grad()
    def fit_components(self, batch: Batch, weights: Tensor) -> None:
        """Set `components`, if there are any, from whole training domains and their weights (D,)."""
        if self.components is not None:
            flat = self.describe(batch)[0].flatten(1)
            variance = self.linear.decode.weight.square().sum(0)
            self.components.fit(self.linear.encode(flat - self.linear.center), batch.labels, weights, variance)
