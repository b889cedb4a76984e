"""Print what remains of the label in held-out codes: the designs and four attempts to remove it, one change each.

    python experiments/leaks.py RESULTS WORK [--model FOLDER] [--steps 1200] [--flow-steps 2000] [--only ROW ...]

Rows "codes" to "Student-t ..." use the codes of one trained model (by default the package's), which flows map to noise.
The other rows are trainings of `--steps` steps conditioned on the class alone, which are kept in WORK/models. Results
are kept in WORK/rows, so that an interrupted call resumes. Codes are those of the encoder, one draw each, of at most
`--most` test domains per rung. Leak: best of the project's three probes, trained on these codes alone, with
superfamilies kept apart. Norm: squared norm of the noise divided by the latent size, for test and validation codes; for
Student-t noise after the radial map to normal deviates. RMSD: of the decoded posterior mean, on validation. Nats: gain
over one Gaussian for all classes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from prior_likelihood import crops_of
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from cvae_protein.config import load
from cvae_protein.config.settings import RefineSettings, ScoreSettings, TrainSettings
from cvae_protein.core.files import atomic_path, read_table
from cvae_protein.core.labels import RUNGS, truncate
from cvae_protein.core.pretrained import FOLDER
from cvae_protein.model.batch import Batch, DomainSet, by_length, read_split
from cvae_protein.model.codes import CodeSet, codes_of
from cvae_protein.model.cvae import CVAE, Output
from cvae_protein.model.losses.critics import PriorCritic
from cvae_protein.model.losses.evidence_bound import WeightedTerm, constant, ramp, schedule
from cvae_protein.model.priors import AggregatePosterior, LatentFlow
from cvae_protein.model.registry import load_model, load_weights, variant
from cvae_protein.model.spec import load_tensors
from cvae_protein.sampling.reconstruct import trace_errors
from cvae_protein.sampling.sampler import decode_all
from cvae_protein.score.metrics.latent import ACTIVE, PROBES, probe_predictions
from cvae_protein.score.metrics.metric import bootstrap_means, bounds
from cvae_protein.training.prior import fit_flow
from cvae_protein.training.train import train

CONFIGURATION = Path(__file__).parents[1] / "config/examples/benchmark.yaml"
LEVELS = (1, 2, 3)
MANY, CROPS = 512, 8000  # codes per step of the wide critic; crops that it sees in addition to all training domains
PRESSED, EVERY = 4.0, 50  # extra KL weight of informative dimensions; steps between its updates
DEGREES = (4, 8, 16, 32, 64, 128)  # of freedom; chosen on validation
PLAIN = ("concat", "branched", "adversarial")
Terms = Callable[..., list[WeightedTerm]]


@dataclass(frozen=True, eq=False)
class Data:
    """The domains of each split with their superfamilies and rungs."""

    results: Path
    most: int
    flow_steps: int = 0

    @cached_property
    def by_split(self) -> dict[str, DomainSet]:
        """Whole domains in their first conformation; those of `crops` are too long to be used whole."""
        found = read_split(self.results / "domains.h5", self.results / "splits.tsv")
        return {split: domains.first_conformations() for split, domains in found.items()}

    @cached_property
    def facts(self) -> dict[str, dict[str, str]]:
        """The row of each domain in the split table."""
        return {row["domain_id"]: row for row in read_table(self.results / "splits.tsv", ("superfamily", "rung"))}

    @cached_property
    def asked(self) -> Tensor:
        """Rows of the test domains that are probed."""
        rungs = np.array([self.facts[name]["rung"] for name in self.by_split["test"].ids])
        order = np.random.default_rng(0).permutation(len(rungs))
        return torch.from_numpy(np.concatenate([order[rungs[order] == rung][: self.most] for rung in RUNGS]))

    def leaks(self, values: Tensor, levels: Sequence[int] = LEVELS) -> dict[str, str]:
        """Skill of the best probe of noise (D, Z) of the domains `asked`, with interval and n, for each level."""
        test, found = self.by_split["test"], {}
        groups = np.array([self.facts[test.ids[row]]["superfamily"] or test.ids[row] for row in self.asked])
        for level in levels:
            own = np.array([truncate(test.labels[row], level) for row in self.asked])
            tried = [probe_predictions(values.numpy(), own, groups, probe, 0) for probe in PROBES]
            best = max(tried, key=lambda each: each.skill if np.isfinite(each.skill) else -1)
            estimate = best.estimate(ScoreSettings(), np.random.default_rng(0))
            found[f"level {level}"] = f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f}; {estimate.n})"
        return found

    def noise(self, values: Tensor, watched: Tensor) -> dict[str, str]:
        """Cells for noise of the domains `asked` and of validation: leaks, norms, active units."""
        norms = (float(each.square().mean()) for each in (values, watched))
        active = int((values.var(0) > ACTIVE).sum())
        return self.leaks(values) | {"norm": "{:.2f}, {:.2f}".format(*norms), "active": f"{active}/{values.shape[1]}"}


class StudentFlow(LatentFlow):
    """A flow from Student's t with unit covariance, one radius for all dimensions, instead of a normal distribution."""

    degrees: int = 0

    def _spread(self, count: int, generator: torch.Generator) -> Tensor:
        draws = torch.randn(count, self.degrees, generator=generator).square().sum(1)
        return torch.sqrt((self.degrees - 2) / draws)[:, None]

    def losses(self, z: Tensor, labels: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As in `LatentFlow`, but from Student-t noise."""
        target = self._whitened(z, lengths)
        noise = torch.randn(target.shape, generator=generator) * self._spread(len(z), generator)
        time = torch.sigmoid(torch.randn(len(z), generator=generator))
        state, wanted = torch.lerp(noise, target, time[:, None]), target - noise
        slope = (2 * time - 1) / ((1 - time).square() + time.square())
        velocities = self(state, time, labels, lengths), slope[:, None] * state
        own, gaussian = ((velocity - wanted).square().sum(-1) for velocity in velocities)
        return own, gaussian


def student_log_density(x: Tensor, degrees: int) -> Tensor:
    """Log density (B,) in nats of `x` (B, Z) under Student's t with unit covariance."""
    count = x.shape[1]
    shape = np.eye(count) * (degrees - 2) / degrees
    return torch.from_numpy(stats.multivariate_t(np.zeros(count), shape, degrees).logpdf(x.double().numpy()))


def to_normal(x: Tensor, degrees: int) -> Tensor:
    """Radial map of Student-t draws (B, Z) to normal deviates (B, Z)."""
    count, square = x.shape[1], x.double().square().sum(1)
    beyond = stats.f(count, degrees).sf(square.numpy() / count * degrees / (degrees - 2))
    wanted = torch.from_numpy(stats.chi2(count).isf(np.clip(beyond, 1e-12, 1)))
    return x * (wanted / square).sqrt().float()[:, None]


@dataclass(frozen=True, eq=False)
class Coded:
    """A trained model with the codes of each split, and the noise of held-out codes under a flow fitted to them."""

    model: CVAE
    data: Data

    @cached_property
    def codes(self) -> dict[str, CodeSet]:
        """Posteriors from the encoder, without latent refinement."""
        return {s: codes_of(self.model, self.data.by_split[s], 0) for s in ("train", "validation", "test")}

    @cached_property
    def aggregate(self) -> AggregatePosterior:
        """One Gaussian for all classes and one per class, fitted to training codes."""
        codes = self.codes["train"]
        found = AggregatePosterior(self.model.spec.model.latent, len(self.model.spec.vocabulary[0]))
        found.fit(codes.posterior.mean, codes.posterior.logvar, codes.labels[:, 0], codes.lengths)
        return found

    @cached_property
    def asked(self) -> tuple[Tensor, Tensor, Tensor]:
        """One draw of the code of each probed test domain, with label ids and lengths."""
        return self.codes["test"].draw(self.data.asked, torch.Generator().manual_seed(1))

    @cached_property
    def watched(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same for validation domains."""
        rows = torch.arange(len(self.codes["validation"].lengths))
        return self.codes["validation"].draw(rows, torch.Generator().manual_seed(1))

    def rmsd(self, change: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda z, labels, lengths: z) -> str:
        """RMSD in Å of decoded posterior means of validation domains, after applying `change` to them."""
        domains, codes = self.data.by_split["validation"], self.codes["validation"]
        z = change(codes.posterior.mean, codes.labels, codes.lengths)
        with torch.no_grad():
            made = decode_all(self.model, z, codes.labels, codes.lengths)
        return f"{trace_errors(self.model, domains, made).mean():.3f}"

    def own(self) -> dict[str, str]:
        """Cells for the unchanged model, whose noise is its codes in units of its own prior."""
        seen = []
        for z, labels, lengths in (self.asked, self.watched):
            with torch.no_grad():
                prior = self.model.prior(self.model.condition(labels, lengths))
            seen.append((z - prior.mean) * torch.exp(-0.5 * prior.logvar))
        found = self.data.noise(*seen) | {"rmsd": self.rmsd()}
        if (shape := self.model.blocks.get("shape")) is not None:
            found |= {f"shape block, {k}": v for k, v in self.data.leaks(seen[0][:, slice(*shape)]).items()}
        return found

    def whitened(self) -> dict[str, str]:
        """Cells for codes whitened by one Gaussian for all classes."""
        flow = LatentFlow(self.model.spec)
        flow.whiten(self.aggregate)
        return self.data.noise(flow.to_noise(*self.asked), flow.to_noise(*self.watched))

    def of_classes(self) -> dict[str, str]:
        """Cells for codes whitened by the Gaussian of their class."""

        def white(z: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
            mean, factor = self.aggregate.given(labels[:, 0], lengths)
            return torch.linalg.solve_triangular(factor, (z - mean)[..., None], upper=False)[..., 0]

        return self.data.noise(white(*self.asked), white(*self.watched))

    def flow(self, told: int, student: bool = False) -> dict[str, str]:
        """Cells for a flow with early stopping, conditioned on `told` label levels; normal flows are widened."""
        spec = self.model.spec

        def heard(labels: Tensor) -> Tensor:
            return labels * (torch.arange(labels.shape[1]) < told)

        torch.manual_seed(0)
        settings = TrainSettings(flow_steps=self.data.flow_steps)
        flow = (StudentFlow if student else LatentFlow)(spec, settings.flow_dropout)
        flow.whiten(self.aggregate)
        codes = {split: replace(each, labels=heard(each.labels)) for split, each in self.codes.items()}
        about = {}
        if isinstance(flow, StudentFlow):
            white = flow._whitened(self.watched[0], self.watched[2])
            flow.degrees = max(DEGREES, key=lambda each: float(student_log_density(white, each).mean()))
            about["degrees"] = str(flow.degrees)
        rows = fit_flow(flow, {"evaluated": codes["train"], "validation": codes["validation"]}, settings, "leaks", 0)
        about["step"] = str(next(row["step"] for row in rows if row["best"]))
        asked, watched = ((z, heard(labels), lengths) for z, labels, lengths in (self.asked, self.watched))
        if not student:
            about["widened"] = f"{flow.widen(*(each[:256] for each in watched)):g}"
        return about | self.of_flow(flow, asked, watched)

    def of_flow(
        self, flow: LatentFlow, asked: tuple[Tensor, Tensor, Tensor], watched: tuple[Tensor, Tensor, Tensor]
    ) -> dict[str, str]:
        """Cells for the noise of held-out codes under a flow."""
        z, labels, lengths = asked
        density, noise = flow.log_density(z, labels, lengths)
        other = flow.to_noise(*watched)
        if isinstance(flow, StudentFlow):
            normal = -0.5 * (noise.square() + np.log(2 * np.pi)).sum(1)
            density = density - normal + student_log_density(noise, flow.degrees)
            noise, other = to_normal(noise, flow.degrees), to_normal(other, flow.degrees)
        gain = (density - self.aggregate.log_density(z, 0 * lengths, lengths)).double().numpy()
        ids = self.data.by_split["test"].ids
        groups = np.array([self.data.facts[ids[row]]["superfamily"] or ids[row] for row in self.data.asked])
        low, high = bounds(bootstrap_means(gain, groups, 1000, np.random.default_rng(0)), ScoreSettings())
        heard = watched[1]
        back = self.rmsd(lambda z, _, lengths: flow.to_codes(flow.to_noise(z, heard, lengths), heard, lengths))
        return self.data.noise(noise, other) | {"nats": f"{gain.mean():.1f} ({low:.1f} to {high:.1f})", "rmsd": back}


def coefficients(model: CVAE, domains: DomainSet) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients (D, K, 3), label ids (D, levels) and lengths (D,) of domains."""
    found = torch.zeros(len(domains), model.spec.model.coefficients, 3)
    for rows in by_length(domains.lengths):
        found[rows] = model.describe(domains.batch(model.spec, rows))[0]
    return found, domains.label_ids(model.spec), torch.from_numpy(domains.lengths)


def wide_critic(data: Data) -> Terms:
    """The critic of `adversarial`, fitted and fooled with `MANY` codes of all training domains and crops per step."""

    def terms(model: CVAE, settings: TrainSettings, generator: torch.Generator) -> list[WeightedTerm]:
        critic = model.critic
        assert isinstance(critic, PriorCritic)
        parts = zip(*(coefficients(model, each) for each in pool()), strict=True)
        flat, labels, lengths = (torch.cat(part) for part in parts)

        def draw() -> tuple[Tensor, Tensor, Tensor, Tensor]:
            rows = torch.randint(len(flat), (MANY,), generator=generator)
            about = labels[rows], lengths[rows]
            prior = model.prior(model.condition(*about))
            return model.posterior(flat[rows], *about).sample(generator), prior.sample(generator), *about

        def fit(batch: Batch, output: Output) -> Tensor:
            encoded, drawn, *about = (each.detach() for each in draw())
            return 0.5 * (F.softplus(-critic(drawn, *about)) + F.softplus(critic(encoded, *about))).mean()

        def fool(batch: Batch, output: Output) -> Tensor:
            encoded, _, *about = draw()
            return F.softplus(-critic.frozen(encoded, *about)).mean()

        return [
            WeightedTerm("critic_fit", fit, constant(1.0)),
            WeightedTerm("critic_fool", fool, ramp(settings.adversary, settings.kl.steps)),
        ]

    def pool() -> tuple[DomainSet, DomainSet]:
        return data.by_split["train"], crops_of(data.by_split, CROPS)

    return terms


def information_of(codes: np.ndarray, labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Nats of each dimension of codes (D, Z) about the label (D,), from one normal distribution per label, at least 0.

    The apparent information about permuted labels is subtracted.
    """
    names, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = counts / len(labels)

    def left(place: np.ndarray) -> np.ndarray:
        mean = np.stack([codes[place == i].mean(0) for i in range(len(names))])
        variance = np.stack([np.square(codes[place == i] - mean[i]).mean(0) for i in range(len(names))])
        drawn = (counts / (counts + 10))[:, None]  # shrinkage to the variance pooled over labels
        return shares @ np.log(drawn * variance + (1 - drawn) * (shares @ variance) + 1e-6)

    return np.maximum(0, 0.5 * (left(random.permutation(place)) - left(place)))


def pressed_by_information(data: Data) -> Terms:
    """A KL divergence with weight 1 + `PRESSED` i / mean(i) for a dimension with i nats about all label levels."""

    def terms(model: CVAE, settings: TrainSettings, generator: torch.Generator) -> list[WeightedTerm]:
        domains, random = data.by_split["train"], np.random.default_rng(0)
        known = coefficients(model, domains)
        names = [np.array([truncate(label, level) for label in domains.labels]) for level in LEVELS]
        more, calls = torch.zeros(model.spec.model.latent), 0

        def term(batch: Batch, output: Output) -> Tensor:
            nonlocal calls
            if calls % EVERY == 0:
                with torch.no_grad():
                    mean = model.eval().posterior(*known).mean.double().numpy()
                model.train()
                said = np.sum([information_of(mean, each, random) for each in names], axis=0)
                more.copy_(torch.from_numpy(PRESSED * said / max(said.mean(), 1e-6)))
            calls += 1
            return (more * output.posterior.kl(output.prior)).sum(-1).mean()

        return [WeightedTerm("kl_by_information", term, schedule(settings.kl))]

    return terms


CHANGED: dict[str, tuple[str, Callable[[Data], Terms]]] = {
    "adversarial, critic of many": ("adversarial", wide_critic),
    "concat, divergence by information": ("concat", pressed_by_information),
}
"""Name of a training -> its variant, and the terms that replace those of the variant."""
OTHER_SIZES: dict[str, dict[str, Any]] = {"nested": {"nested": 0.5}, "concat 16": {"latent": 16}}
"""Name of a training of `concat` for `nested_code.py` -> its model settings."""


def trained(data: Data, work: Path, name: str, steps: int) -> CVAE:
    """The model of a training, trained if missing; without a flow or latent refinement."""
    folder = work / "models" / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        usual = load.load(CONFIGURATION)
        rise = replace(usual.train.kl, steps=max(1, steps // 2))
        settings = replace(usual.train, steps=steps, flow_steps=0, report_every=steps, kl=rise)
        model = replace(usual.model, inference_steps=0, **OTHER_SIZES.get(name, {}))
        of, change = CHANGED.get(name, ("concat" if name in OTHER_SIZES else name, None))
        places = data.results / "domains.h5", data.results / "splits.tsv"
        checkpoint = folder.with_name(f"{name}.checkpoint")
        with patch.object(variant(of), "extra_terms", change(data), create=True) if change else nullcontext():
            train(*places, of, 0, folder, model, settings, RefineSettings(), 1, checkpoint)
    return load_model(folder)


def rows_of(data: Data, work: Path, folder: Path, steps: int) -> dict[str, Callable[[], dict[str, str]]]:
    """Every row and the function that measures it."""
    package = Coded(load_model(folder), data)

    def shipped() -> dict[str, str]:
        load_weights(
            flow := LatentFlow(package.model.spec), "flow.", folder, load_tensors(folder / "weights.safetensors")[0]
        )
        return package.of_flow(flow, package.asked, package.watched)

    def of(name: str) -> Coded:
        return Coded(trained(data, work, name, steps), data)

    return {
        "codes": package.own,
        "whitened": package.whitened,
        "a Gaussian a class": package.of_classes,
        "flow of the model, three levels": shipped,
        "flow, class": partial(package.flow, 1),
        "flow, three levels": partial(package.flow, 3),
        "Student-t flow, class": partial(package.flow, 1, student=True),
        "Student-t flow, three levels": partial(package.flow, 3, student=True),
        **{name: lambda name=name: of(name).own() for name in (*PLAIN, *CHANGED)},  # type: ignore[misc]
        "flow_prior": lambda: of("concat").flow(1),
    }


def main() -> None:
    """Measure the missing rows and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a run, with domains.h5 and splits.tsv")
    parser.add_argument("work", type=Path, help="folder for trainings and results")
    parser.add_argument("--model", type=Path, default=FOLDER / "model")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--flow-steps", type=int, default=2000, help="maximum steps of a fitted flow")
    parser.add_argument("--most", type=int, default=200)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="default: all")
    given = parser.parse_args()
    rows = rows_of(Data(given.results, given.most, given.flow_steps), given.work, given.model, given.steps)
    if unknown := set(given.only or ()) - set(rows):
        parser.error(f"--only: no row {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    (given.work / "rows").mkdir(parents=True, exist_ok=True)
    for name in given.only or rows:
        path = given.work / "rows" / f"{name}.json"
        if not path.exists():
            found = rows[name]()
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(found), encoding="utf-8")
        cells = json.loads(path.read_text(encoding="utf-8"))
        print("\t".join((name, *(f"{key} {value}" for key, value in cells.items()))), flush=True)


if __name__ == "__main__":
    main()
