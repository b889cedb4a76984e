"""Textbook conditional VAEs: perceptrons with a few hidden layers, a one-hot label, the prior N(0, I).

Differences from the textbook: the label is joined by the length, without which a sample would not know its size; inputs
and outputs are coefficients of a trace divided by their spread, with a Gaussian of learnt width around them in place of
a sigmoid. Sizes come from the settings: `width` and `depth` for the encoder, `decoder_width` and `decoder_depth` for
the decoder. `config/examples/founding.yaml` has the textbook's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .batch import Batch
from .cvae import CVAE
from .layers import Dropout
from .priors import Gaussian, StandardPrior
from .representation import SMALLEST, PrincipalComponents, decode_trace
from .spec import Spec


class OneHot(nn.Module):
    """Label ids of each level (B, levels) and lengths (B,) -> one-hot labels and log length (B, `size`).

    An unknown label has no 1 at its level.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.counts = [len(names) for names in spec.vocabulary]
        self.size = sum(self.counts) + 1

    def forward(self, labels: Tensor, lengths: Tensor) -> Tensor:
        """`labels` (B, levels), `lengths` (B,) -> (B, size)."""
        levels = [F.one_hot(labels[:, level], count + 1)[:, 1:].float() for level, count in enumerate(self.counts)]
        return torch.cat([*levels, torch.log(lengths.float() / 100)[:, None]], dim=1)


class Perceptron(nn.Module):
    """Hidden layers over two inputs, joined before the first layer or, if `branched`, after it, in two halves.

    (B, first), (B, second) -> (B, width)
    """

    def __init__(self, first: int, second: int, width: int, depth: int, dropout: float, branched: bool) -> None:
        super().__init__()
        self.branched = branched
        paths = [(first, width - width // 2), (second, width // 2)] if branched else [(first + second, width)]
        self.paths = nn.ModuleList(nn.Linear(*sizes) for sizes in paths)
        self.further = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.dropout = Dropout(dropout)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """`first` (B, first), `second` (B, second) -> (B, width)."""
        inputs = (first, second) if self.branched else (torch.cat([first, second], dim=1),)
        h = torch.cat([F.relu(path(x)) for path, x in zip(self.paths, inputs, strict=True)], dim=1)
        for layer in self.further:
            h = F.relu(layer(self.dropout(h)))
        return self.dropout(h)


class LiteralEncoder(nn.Module):
    """q(z | x, y): mean and log variance from the last hidden layer, (B, inputs), (B, condition) -> over (B, Z)."""

    def __init__(self, spec: Spec, inputs: int, condition: int, branched: bool) -> None:
        super().__init__()
        m = spec.model
        self.hidden = Perceptron(inputs, condition, m.width, m.depth, m.dropout, branched)
        self.mean, self.logvar = nn.Linear(m.width, m.latent), nn.Linear(m.width, m.latent)

    def forward(self, x: Tensor, condition: Tensor) -> Gaussian:
        """`x` (B, inputs), `condition` (B, condition) -> posterior over z (B, Z)."""
        h = self.hidden(x, condition)
        return Gaussian(self.mean(h), self.logvar(h))


class LiteralDecoder(nn.Module):
    """p(x | z, y): (B, Z), (B, condition) -> (B, outputs), one number for each input, before any sigmoid."""

    def __init__(self, spec: Spec, outputs: int, condition: int, branched: bool) -> None:
        super().__init__()
        m = spec.model
        self.hidden = Perceptron(m.latent, condition, m.decoder_width, m.decoder_depth, m.dropout, branched)
        self.out = nn.Linear(m.decoder_width, outputs)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """`z` (B, Z), `condition` (B, condition) -> (B, outputs)."""
        return self.out(self.hidden(z, condition))


class Standardisation(PrincipalComponents):
    """Each coefficient minus its mean, divided by its standard deviation: diagonal maps, not trained."""

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, inputs)
        for weight in self.parameters():
            nn.init.eye_(weight.requires_grad_(False))

    @torch.no_grad()
    def fit(self, flat: Tensor, weights: Tensor) -> Tensor:
        """Set the maps from coefficients (D, inputs) and weights (D,); return the variances (inputs,)."""
        shares = (weights / weights.sum())[:, None]
        self.center.copy_((shares * flat).sum(0))
        variance = (shares * (flat - self.center).square()).sum(0).clamp(min=SMALLEST)
        self.encode.weight.copy_(variance.rsqrt().diag())
        self.decode.weight.copy_(variance.sqrt().diag())
        return variance


class OfTraces(nn.Module):
    """An adapter that lets an encoder or decoder of plain numbers work with the coefficients of a trace."""

    def __init__(self, linear: PrincipalComponents, network: nn.Module) -> None:
        super().__init__()
        self.linear, self.network = linear, network


class TraceEncoder(OfTraces):
    """A literal encoder of the standardised coefficients."""

    def forward(self, flat: Tensor, condition: Tensor) -> Gaussian:
        """`flat` (B, 3K), `condition` (B, condition) -> posterior over z (B, Z)."""
        return self.network(self.linear.encode(flat - self.linear.center), condition)


class TraceDecoder(OfTraces):
    """A literal decoder, whose numbers are standardised coefficients of the smooth trace."""

    def forward(self, z: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """`z` (B, Z), `condition` (B, condition), `mask` (B, L) -> CA trace (B, L, 3) in Å, in the chain frame."""
        coefficients = self.linear.center + self.linear.decode(self.network(z, condition))
        return decode_trace(coefficients.view(len(z), -1, 3), mask.sum(1), mask.shape[1])


class LiteralCVAE(CVAE):
    """The textbook's conditional VAE of CA traces.

    It does not start as principal components, and uses the encoder's guess as the code, without latent refinement.
    """

    def __init__(self, spec: Spec, branched: bool) -> None:
        inputs, latent, condition = 3 * spec.model.coefficients, spec.model.latent, OneHot(spec)
        linear = Standardisation(inputs)
        super().__init__(
            spec,
            TraceEncoder(linear, LiteralEncoder(spec, inputs, condition.size, branched)),
            StandardPrior(latent),
            linear,
            {"z": (0, latent)},
            condition=condition,
            decoder=TraceDecoder(linear, LiteralDecoder(spec, inputs, condition.size, branched)),
        )

    @property
    def power(self) -> Tensor:
        """As in `CVAE`; here no number of the code is known to move more than another."""
        latent = self.spec.model.latent
        return (self.linear.power.sum() / latent).expand(latent)

    def infer(self, batch: Batch, steps: int, size: int | None = None) -> Gaussian:
        """q(z | x, y) as the encoder gives it, whatever `steps`."""
        return super().infer(batch, 0, size)

    @torch.no_grad()
    def fit_linear(self, batch: Batch, weights: Tensor) -> None:
        """Standardise by these structures (D) and their weights (D,); sigma is from the errors of their mean trace."""
        coefficients, target = self.describe(batch)
        self.linear.fit(coefficients.flatten(1), weights)
        mean = self.linear.center.view(1, -1, 3).expand(len(target), -1, -1)
        error = (decode_trace(mean, batch.lengths, target.shape[1]) - target).square().sum((1, 2))
        sigma_squared = (weights * error).sum() / (weights * 3 * batch.lengths).sum()
        self.log_sigma.fill_(0.5 * float(sigma_squared.log()))
