"""Networks trained beside the model, each with a term that fits it and a term that fools it, in nats per structure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..batch import Batch
from ..cvae import CVAE, Output
from ..layers import CONDITION, Condition
from ..priors import Gaussian
from ..spec import Spec
from .evidence_bound import Term
from .regularizers import known_rows, permuted_labels

SPANS = (2, 3, 4, 5, 6, 8, 10, 15)  # residues spanned by the distances by which a class is recognised


class Critic(nn.Module):
    """A network that is trained beside the model: `fit` trains it alone, `fool` everything but it."""

    def fit(self, batch: Batch, output: Output, generator: torch.Generator) -> Tensor:
        """The loss of the network itself."""
        raise NotImplementedError

    def fool(self, batch: Batch, output: Output) -> Tensor:
        """The loss by which the network trains the model."""
        raise NotImplementedError

    def frozen(self, *inputs: Tensor) -> Any:
        """The network's output, with gradients to the inputs and none to its parameters."""
        return functional_call(self, {name: value.detach() for name, value in self.named_parameters()}, inputs)


def fit(critic: Critic, generator: torch.Generator) -> Term:
    """The term that trains a critic."""
    return lambda batch, output: critic.fit(batch, output, generator)


def fool(critic: Critic) -> Term:
    """The term by which a critic trains the model."""
    return critic.fool


def _layers(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, outputs),
    )


class PriorCritic(Critic):
    """Logit that a code comes from the prior and not from the encoder, given label and length: (B, Z) -> (B,).

    At the equilibrium q(z|y) = p(z|y) for every label y (adversarial autoencoder: Makhzani et al. 2016).
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.condition = Condition(spec)
        self.layers = _layers(spec.model.latent + CONDITION, spec.model.width, 1)

    def forward(self, z: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """`z` (B, Z), `labels` (B, levels), `lengths` (B,) -> logits (B,)."""
        return self.layers(torch.cat([z, self.condition(labels, lengths)], dim=-1))[:, 0]

    def fit(self, batch: Batch, output: Output, generator: torch.Generator) -> Tensor:
        """Binary cross-entropy on prior draws (1) and encoded codes (0)."""
        drawn = output.prior.sample(generator).detach()
        real = self(drawn, batch.labels, batch.lengths)
        encoded = self(output.z.detach(), batch.labels, batch.lengths)
        return 0.5 * (F.softplus(-real) + F.softplus(encoded)).mean()

    def fool(self, batch: Batch, output: Output) -> Tensor:
        """Cross-entropy of the encoded codes with the prior's answer (1)."""
        return F.softplus(-self.frozen(output.z, batch.labels, batch.lengths)).mean()


class LabelCritic(Critic):
    """Log probabilities of a code's label at each level: (B, inputs) -> (B, labels of that level) per level."""

    def __init__(self, inputs: int, spec: Spec) -> None:
        super().__init__()
        self.sizes = [len(names) for names in spec.vocabulary]
        self.layers = _layers(inputs, spec.model.width, sum(self.sizes))

    def forward(self, x: Tensor) -> list[Tensor]:
        """`x` (B, inputs) -> log probabilities, one tensor per level."""
        return [logits.log_softmax(-1) for logits in self.layers(x).split(self.sizes, dim=-1)]

    def fit(self, batch: Batch, output: Output, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the labels of codes."""
        z, labels = known_rows(batch, output)
        return label_cross_entropy(self(z.detach()), labels)

    def fool(self, batch: Batch, output: Output) -> Tensor:
        """Divergence of the predictions from the labels' shares in the batch, summed over levels.

        The bounded form of gradient reversal (Tzeng et al. 2015, "domain confusion"): at least 0, and 0 if the critic
        predicts the shares for every code. A reversed cross-entropy has the same equilibrium but no lower bound.
        """
        z, labels = known_rows(batch, output)
        losses = [0.0 * output.z.sum()]
        for level, predicted in enumerate(self.frozen(z)):
            known = labels[:, level] > 0
            if known.any():
                shares = F.one_hot(labels[known, level] - 1, predicted.shape[1]).to(z.dtype).mean(0)
                losses.append((torch.xlogy(shares, shares) - shares * predicted[known]).sum(-1).mean())
        return torch.stack(losses).sum()


def label_cross_entropy(predicted: list[Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy of log probabilities and labels (B, levels), mean over known labels, summed over levels, nats."""
    losses = [
        F.nll_loss(p, labels[:, level] - 1, ignore_index=-1, reduction="sum")
        / (labels[:, level] > 0).sum().clamp(min=1)
        for level, p in enumerate(predicted)
    ]
    return torch.stack(losses).sum()


class LabelGaussian(Critic):
    """q(z | y), a Gaussian whose mean and log variance are sums over the label's levels: (B, levels) -> (B, Z)."""

    def __init__(self, latent: int, spec: Spec) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Embedding(len(names) + 1, 2 * latent) for names in spec.vocabulary)
        for embed in self.levels:
            nn.init.zeros_(embed.weight)  # type: ignore[arg-type]

    def forward(self, labels: Tensor) -> Gaussian:
        """`labels` (B, levels) -> Gaussian over codes of each row."""
        summed = torch.stack([embed(labels[:, level]) for level, embed in enumerate(self.levels)]).sum(0)
        mean, logvar = summed.chunk(2, dim=-1)
        return Gaussian(mean, logvar.clamp(-6, 2))

    def fit(self, batch: Batch, output: Output, generator: torch.Generator) -> Tensor:
        """Negative log density of the codes under q(z|y)."""
        z, labels = known_rows(batch, output)
        return -self(labels).log_density(z.detach()).mean() if len(z) else 0.0 * output.z.sum()

    def fool(self, batch: Batch, output: Output) -> Tensor:
        """Upper bound on the mutual information of code and label: E log q(z|y) - E E log q(z|y').

        Cheng et al. 2020, "CLUB", equation 12, with every label of the batch as y'; a bound only as far as q(z|y) fits.
        """
        z, labels = known_rows(batch, output)
        if not len(z):
            return 0.0 * output.z.sum()
        q: Gaussian = self.frozen(labels)
        density = Gaussian(q.mean[:, None], q.logvar[:, None]).log_density(z[None])  # of z_j under q(.|y_i)
        return density.diagonal().mean() - density.mean()


def profile(ca: Tensor, mask: Tensor) -> Tensor:
    """Features of traces (B, L, 3) for a label critic: mean and spread of the distances over `SPANS` steps, in 10 Å.

    They distinguish helix from strand in any frame: (B, 2 spans). A linear probe on them predicts the class of 84 % of
    held-out domains, one on cosine coefficients that of 39 % (means over three classes).
    """
    columns = []
    for span in SPANS:
        valid = mask[:, span:]
        count = valid.sum(1).clamp(min=1)
        distances = ((ca[:, span:] - ca[:, :-span]).square().sum(-1) + 1e-6).sqrt() * valid / 10
        mean = distances.sum(1) / count
        spread = ((distances - mean[:, None]).square() * valid).sum(1) / count
        columns += [mean, (spread + 1e-6).sqrt()]
    return torch.stack(columns, dim=-1)


class TraceCritic(LabelCritic):
    """Log probabilities of a trace's label at each level, by its `profile`; traces are decoded by `model`."""

    def __init__(self, model: CVAE, generator: torch.Generator) -> None:
        super().__init__(2 * len(SPANS), model.spec)
        self.decode, self.generator = model.decode, generator

    def fit(self, batch: Batch, output: Output, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the labels of real traces."""
        return label_cross_entropy(self(profile(output.target, batch.mask)), batch.labels)

    def fool(self, batch: Batch, output: Output) -> Tensor:
        """Cross-entropy of the label, another structure's, under which a trace was decoded; trains the decoder.

        Hu et al. 2017, "Toward Controlled Generation of Text", equation 6; codes are those of the batch, detached.
        """
        known = batch.labels[:, 0] > 0
        if not known.any():
            return 0.0 * output.reconstruction.sum()
        labels, mask = permuted_labels(batch.labels[known], self.generator), batch.mask[known]
        trace = self.decode(output.z[known].detach(), labels, mask)
        return label_cross_entropy(self.frozen(profile(trace, mask)), labels)
