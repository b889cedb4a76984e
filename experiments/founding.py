"""Print what three textbook designs of a conditional VAE show on proteins, and what each remedy changes.

    python experiments/founding.py results/founding [--form contacts] [--only GROUP …] [--seeds 0 1 2] [--part 1/4]

Uses the store and split of a run (`config/examples/founding.yaml`). The designs see either a contact map (the chain
resampled to 32 points, pairs three or more apart, CA within 10 Å: 435 binary numbers, sigmoid and cross-entropy) or, as
the variants `literal_*` of the package, the coefficients of the trace. Each setting of the grid `CHANGES` differs from
the unmodified design in one respect. Each training writes a file below `--rows`, and existing files are not made again:
an interrupted run resumes, and the parts 1/N … N/N may run at the same time, on a cluster as jobs of an array. A call
without `--part` makes what is missing, prints the tables and writes them to `results/founding.tsv`.

No model is chosen by held-out data: the weights of the last step are evaluated, on training domains and on all domains
of held-out superfamilies (the splits `validation` and `test` together).
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from founding_tables import write_tables
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from cvae_protein.config import load
from cvae_protein.config.settings import RefineSettings, Settings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import atomic_path, owned, read_table
from cvae_protein.core.labels import truncate
from cvae_protein.core.pretrained import FOLDER
from cvae_protein.core.progress import track
from cvae_protein.core.structure import CA
from cvae_protein.model.batch import Batch, DomainSet, hide_labels, read_split
from cvae_protein.model.cvae import CVAE, Output
from cvae_protein.model.device import pick_device
from cvae_protein.model.literal import LiteralDecoder, LiteralEncoder, OneHot, Standardisation
from cvae_protein.model.losses import critics, evidence_bound
from cvae_protein.model.losses.evidence_bound import TargetRate, WeightedTerm, constant, evidence_terms
from cvae_protein.model.losses.objective import further_terms
from cvae_protein.model.priors import FoldPrior, Gaussian, StandardPrior
from cvae_protein.model.spec import Spec
from cvae_protein.model.variants.adversarial import extra_terms
from cvae_protein.runs.sweep import changed
from cvae_protein.sampling.reconstruct import trace_errors
from cvae_protein.sampling.sampler import draw_codes, load_sampler
from cvae_protein.score.metrics.distribution import FeatureSet, coverage
from cvae_protein.score.metrics.latent import (
    PROBES,
    Codes,
    ProbePredictions,
    active_units,
    information,
    probe_predictions,
)
from cvae_protein.training.checkpoint import TrainingState
from cvae_protein.training.loop import Losses, Task, minimise
from cvae_protein.training.train import make_spec, train

CONFIGURATION = Path(__file__).parents[1] / "config/examples/founding.yaml"
POINTS, APART, CONTACT = 32, 3, 10.0  # points per chain, minimum separation of a pair along it, contact distance in Å
PAIRS = torch.triu_indices(POINTS, POINTS, APART)
PLACES = PAIRS[0] * POINTS + PAIRS[1]  # indices of the pairs in a flattened distance matrix
FEATURES = 16  # number of principal components of real maps in which coverage is measured
FEWEST_TAUGHT = 20  # minimum number of training codes for a probe of held-out ones
MOST_PROBED = 1500  # maximum number of training codes for a probe
DESIGNS = ("concat", "branched", "adversarial")
FORMS = ("contacts", "traces", "own")
OWN = ("pca", "concat", "branched", "adversarial", "flow_prior")


@dataclass(frozen=True)
class Change:
    """One setting of the grid: its group, and how it differs from the unmodified design.

    model, train : settings of the package
    extra : changes without a setting: `share` of the training domains, `prior`, `likelihood`, `decoder_dropout`;
        `size`, the number of dimensions of a nested code that are evaluated
    """

    group: str
    name: str
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    designs: tuple[str, ...] = ("concat",)
    form: str = "contacts"


def _kl(weight: float, **other: Any) -> dict[str, Any]:
    return {"kl": {"kind": "constant", "weight": weight, **other}}


def _terms(**weights: float) -> dict[str, Any]:
    return {"terms": weights}


BASE = Change("as it stands", "as it stands", designs=DESIGNS)
CHANGES = (
    BASE,
    *(Change("KL weight", f"KL weight {w:g}", train=_kl(w), designs=DESIGNS) for w in (0.1, 8, 30)),
    Change("likelihood", "loss averaged over x", extra={"likelihood": "mean"}, designs=DESIGNS),
    *(Change("adversary", f"adversary {w:g}", train={"adversary": w}, designs=DESIGNS[2:]) for w in (0.0, 30.0)),
    Change("against the label", "label adversary 30", train=_terms(label_adversary=30)),
    Change("against the label", "HSIC 1000", train=_terms(hsic=1000)),
    Change("against the label", "class MMD 300", train=_terms(class_mmd=300)),
    Change("against the label", "CLUB 10", train=_terms(club=10)),
    *(Change("latent size", f"latent {z}", {"latent": z}, designs=DESIGNS) for z in (4, 8)),
    Change("nested code", "nested 0.5", {"nested": 0.5}, designs=DESIGNS),
    Change("nested code", "nested 0.5, the first 4", {"nested": 0.5}, extra={"size": 4}, designs=DESIGNS),
    # If a strong KL weight has emptied the code: what restores it?
    *(
        Change("KL weight 8", f"KL weight 8, {name}", train=_kl(8, **kl) | rest, extra=extra)
        for name, kl, rest, extra in (
            ("free bits 0.5", {}, {"free_bits": 0.5}, {}),
            ("variance floor 10", {}, _terms(variance_floor=10), {}),
            ("ramp", {"kind": "ramp"}, {}, {}),
            ("cyclical", {"kind": "cycle"}, {}, {}),
            ("mode seeking 300", {}, _terms(mode_seeking=300), {}),
            ("learnt prior", {}, {}, {"prior": "learnt"}),
            ("decoder dropout 0.5", {}, {}, {"decoder_dropout": 0.5}),
        )
    ),
    # If a weak KL weight lets the code carry everything: what makes the label count?
    *(
        Change("KL weight 0.1", f"KL weight 0.1, {name}", model, _kl(0.1) | rest)
        for name, model, rest in (
            ("label seeking 300", {}, _terms(label_seeking=300)),
            ("HSIC 1000", {}, _terms(hsic=1000)),
            ("latent 4", {"latent": 4}, {}),
        )
    ),
    Change("prior", "learnt prior", extra={"prior": "learnt"}),
    Change("prior", "MMD 1000", train=_terms(mmd=1000)),
    Change("prior", "total correlation 4", train=_terms(total_correlation=4)),
    Change("likelihood", "Gaussian, sigma 1", extra={"likelihood": 1.0}),
    Change("likelihood", "Gaussian, sigma learnt", extra={"likelihood": "learnt"}),
    *(Change("free bits", f"free bits {b:g}", train={"free_bits": b}, designs=DESIGNS) for b in (0.5, 2.0)),
    Change("schedule", "target rate 20", train={"kl": {"kind": "target_rate", "rate": 20.0, "steps": 50}}),
    Change("schedule", "cyclical", train={"kl": {"kind": "cycle"}}),
    Change("label dropout", "label dropout 0.5", train={"label_dropout": 0.5}),
    Change("auxiliary loss", "label seeking 300", train=_terms(label_seeking=300)),
    Change("auxiliary loss", "mode seeking 300", train=_terms(mode_seeking=300)),
    Change("decoder dropout", "decoder dropout 0.5", extra={"decoder_dropout": 0.5}),
    *(Change("data", f"{s:.0%} of the data", extra={"share": s}) for s in (0.1, 0.3)),
    Change("capacity", "width 16", {"width": 16, "decoder_width": 16}, designs=DESIGNS),
    Change("capacity", "encoder width 16", {"width": 16}),
    Change("capacity", "decoder width 16", {"decoder_width": 16}),
    Change("capacity", "width 2048", {"width": 2048, "decoder_width": 2048}, designs=DESIGNS),
    Change("capacity", "depth 6", {"depth": 6, "decoder_depth": 6}),
    # Combinations.
    *(
        Change("combination", name, model, train, extra)
        for name, model, train, extra in (
            ("latent 8, HSIC 1000", {"latent": 8}, _terms(hsic=1000), {}),
            ("latent 8, label adversary 30", {"latent": 8}, _terms(label_adversary=30), {}),
            ("latent 4, HSIC 1000", {"latent": 4}, _terms(hsic=1000), {}),
            ("KL weight 0.3, HSIC 1000", {}, _kl(0.3) | _terms(hsic=1000), {}),
            ("latent 8, KL weight 2, label adversary 30", {"latent": 8}, _kl(2) | _terms(label_adversary=30), {}),
            ("nested 0.5, the first 4, HSIC 1000", {"nested": 0.5}, _terms(hsic=1000), {"size": 4}),
            ("nested 0.5, the first 4, label adversary 30", {"nested": 0.5}, _terms(label_adversary=30), {"size": 4}),
            ("nested 0.5, the first 8, label adversary 30", {"nested": 0.5}, _terms(label_adversary=30), {"size": 8}),
        )
    ),
    *(Change("KL weight", f"KL weight {w:g}", train=_kl(w), designs=DESIGNS) for w in (0.3, 3)),
    Change("latent size", "latent 128", {"latent": 128}, designs=DESIGNS),
    Change("free bits", "free bits 0.1", train={"free_bits": 0.1}),
    Change("schedule", "ramp", train={"kl": {"kind": "ramp"}}),
    Change("schedule", "target rate 5", train={"kl": {"kind": "target_rate", "rate": 5.0, "steps": 50}}),
    Change("label dropout", "label dropout 0.1", train={"label_dropout": 0.1}),
    Change("likelihood", "Gaussian, sigma 0.3", extra={"likelihood": 0.3}),
    Change("capacity", "encoder width 2048", {"width": 2048}),
    Change("capacity", "decoder width 2048", {"decoder_width": 2048}),
    Change("capacity", "encoder depth 6", {"depth": 6}),
    Change("capacity", "decoder depth 6", {"decoder_depth": 6}),
    # The same designs with a Gaussian likelihood of the trace, as in the package, and the package's own variants.
    replace(BASE, form="traces"),
    *(
        Change("KL weight", f"KL weight {w:g}", train=_kl(w), designs=DESIGNS, form="traces")
        for w in (0.1, 8, 100, 1000)
    ),
    *(Change("latent size", f"latent {z}", {"latent": z}, form="traces") for z in (4, 8)),
    Change("against the label", "HSIC 1000", train=_terms(hsic=1000), form="traces"),
    Change("own", "as the package has it", designs=OWN, form="own"),
)
"""The grid. A change without `designs` is applied to the first design only."""


def settings_of(change: Change, steps: int) -> Settings:
    """Settings of a training of so many steps; weights reach their full value after half of them."""
    usual = load.load(CONFIGURATION)
    if change.form == "own":
        return Settings()
    kl = {"kind": "constant", "steps": max(1, steps // 2), **change.train.get("kl", {})}
    kl["steps"] = max(1, steps // 4) if kl["kind"] == "cycle" else kl["steps"]
    terms = {**change.train.get("terms", {}), "schedule": {"steps": max(1, steps // 2)}}
    given = {**change.train, "kl": kl, "terms": terms, "steps": steps, "report_every": max(1, steps // 6)}
    keys = {f"model.{key}": value for key, value in change.model.items()}
    return changed(usual, keys | {f"train.{key}": value for key, value in given.items()})


def points_of(ca: np.ndarray) -> np.ndarray:
    """A CA trace (L, 3) linearly interpolated at `POINTS` equidistant points along the chain."""
    at = np.linspace(0, len(ca) - 1, POINTS)
    return np.stack([np.interp(at, np.arange(len(ca)), ca[:, axis]) for axis in range(3)], axis=1)


def contact_maps(points: Tensor) -> Tensor:
    """Contacts (B, pairs) of points (B, `POINTS`, 3) in Å."""
    apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").flatten(1)
    return (apart.index_select(1, PLACES.to(apart.device)) < CONTACT).float()


class ContactCVAE(CVAE):
    """A literal design whose x is a contact map; traces have `POINTS` points, and the decoder returns logits."""

    def __init__(self, spec: Spec, branched: bool) -> None:
        count, latent, condition = PAIRS.shape[1], spec.model.latent, OneHot(spec)
        super().__init__(
            spec,
            LiteralEncoder(spec, count, condition.size, branched),
            StandardPrior(latent),
            Standardisation(1),  # no standardisation: x is binary
            {"z": (0, latent)},
            condition=condition,
            decoder=LiteralDecoder(spec, count, condition.size, branched),
        )

    def describe(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Contacts of the batch (B, pairs, 1), twice: as input of the encoder and as target of the decoder."""
        maps = contact_maps(batch.ca)[..., None]
        return maps, maps

    def decode(self, z: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, pairs, 1) of codes (B, Z)."""
        return self.decoder(z, self.condition(labels, mask.sum(1)))[..., None]


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each structure (B,), nats."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum((1, 2))


def likelihood(kind: str | float) -> evidence_bound.Term:
    """The reconstruction term: cross-entropy of a sigmoid, its mean over x, or a Gaussian around the sigmoid."""

    def term(batch: Batch, output: Output) -> Tensor:
        if kind in ("binary", "mean"):
            found = cross_entropy(output.reconstruction, output.target).mean()
            return found if kind == "binary" else found / PAIRS.shape[1]
        made = replace(output, reconstruction=torch.sigmoid(output.reconstruction))
        if kind != "learnt":
            made = replace(made, log_sigma=torch.tensor(float(kind)).log())
        error = evidence_bound.squared_error(batch, made)
        return (0.5 * error * torch.exp(-2 * made.log_sigma) + PAIRS.shape[1] * made.log_sigma).mean()

    return term


@dataclass(frozen=True, eq=False)
class Data:
    """Training and held-out domains, their superfamilies, and a classifier of real contact maps."""

    store: Path
    splits: Path

    @cached_property
    def by_part(self) -> dict[str, DomainSet]:
        """`train` and `held`: whole domains in their first conformation."""
        found = {name: domains.first_conformations() for name, domains in read_split(self.store, self.splits).items()}
        held = [found[name] for name in ("validation", "test") if name in found]
        coords, ids, labels = (
            tuple(x for each in held for x in getattr(each, name)) for name in ("coords", "ids", "labels")
        )
        return {"train": found["train"], "held": DomainSet(coords, ids, labels, np.ones(len(ids)))}

    @cached_property
    def superfamily(self) -> dict[str, str]:
        """Domain -> superfamily, or the domain itself if it has none."""
        rows = read_table(self.splits, ["domain_id", "superfamily"])
        return {row["domain_id"]: row["superfamily"] or row["domain_id"] for row in rows}

    @cached_property
    def points(self) -> dict[str, DomainSet]:
        """The domains resampled to `POINTS` points."""

        def thinned(coords: np.ndarray) -> np.ndarray:
            atoms = np.zeros((POINTS, 5, 3), np.float32)
            atoms[:, CA] = points_of(coords[:, CA])
            return atoms

        return {
            part: replace(domains, coords=tuple(map(thinned, domains.coords))) for part, domains in self.by_part.items()
        }

    def maps(self, part: str) -> np.ndarray:
        """Contact maps (D, pairs) of the real domains."""
        coords = np.stack([c[:, CA] for c in self.points[part].coords])
        return contact_maps(torch.from_numpy(coords)).numpy()

    @cached_property
    def classifier(self) -> Pipeline:
        """Classifier of a map's class by its share of contacts at each separation, fitted to training domains."""
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
        return probe.fit(profiles(self.maps("train")), classes_of(self.by_part["train"]))

    @cached_property
    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and principal axes (pairs, `FEATURES`) of real training maps."""
        maps = self.maps("train")
        mean = maps.mean(0)
        return mean, np.linalg.svd(maps - mean, full_matrices=False)[2][:FEATURES].T

    def features(self, maps: np.ndarray) -> np.ndarray:
        """Maps (D, pairs) as principal-component scores of real maps (D, `FEATURES`)."""
        mean, axes = self.components
        return (maps - mean) @ axes


def profiles(maps: np.ndarray) -> np.ndarray:
    """Share of contacts at each sequence separation (D, `POINTS` - `APART`)."""
    along = (PAIRS[1] - PAIRS[0]).numpy()
    return np.stack([maps[:, along == step].mean(1) for step in range(APART, POINTS)], axis=1)


def classes_of(domains: DomainSet) -> np.ndarray:
    """First level of each label (D,)."""
    return np.array([truncate(label, 1) for label in domains.labels])


@dataclass(frozen=True, eq=False)
class Judged:
    """A trained model as the measures use it: posterior, prior, errors and contact maps of codes of some domains."""

    domains: Mapping[str, DomainSet]
    infer: Callable[[DomainSet], Gaussian]
    prior: Callable[[Tensor, Tensor], Gaussian]
    draw: Callable[[Tensor, Tensor], Tensor]
    error: Callable[[DomainSet, Tensor, Tensor], Tensor]  # domains, codes, labels -> (D,)
    maps: Callable[[Tensor, Tensor, Tensor], np.ndarray]  # codes, labels, lengths -> (D, pairs)
    spec: Spec


def train_contacts(change: Change, design: str, seed: int, data: Data, steps: int) -> tuple[Judged, list[dict]]:
    """Train a literal design on contact maps with the package's loop and loss terms; returns it and its history."""
    settings = settings_of(change, steps)
    s, extra = settings.train, change.extra
    domains, rng = data.points["train"], np.random.default_rng(seed)
    if share := extra.get("share"):
        kept = np.sort(rng.permutation(len(domains))[: max(s.batch_size // 8, round(share * len(domains)))])
        parts = (tuple(part[i] for i in kept) for part in (domains.coords, domains.ids, domains.labels))
        domains = DomainSet(*parts, domains.weights[kept])
    spec = make_spec(f"literal_{design}", seed, settings.model, settings.refine, 1, domains, {})
    torch.manual_seed(seed)
    model = ContactCVAE(spec, design == "branched")
    if extra.get("prior") == "learnt":
        model.prior = FoldPrior(0, settings.model.latent, model.condition.size)
    if dropout := extra.get("decoder_dropout"):
        model.decoder.hidden.dropout.share = dropout
    if design == "adversarial":
        model.critic = critics.PriorCritic(spec)
    device, generator = pick_device("founding"), torch.Generator().manual_seed(seed)
    model.to(device)
    reconstruction = WeightedTerm("reconstruction", likelihood(extra.get("likelihood", "binary")), constant(1.0))
    terms = [reconstruction, evidence_terms(s)[1], *further_terms(model, s.terms, generator)]
    terms += extra_terms(model, s, generator) if model.critic is not None else []
    controllers = [term.weight for term in terms if isinstance(term.weight, TargetRate)]
    every, watched = domains.batch(spec), domains.batch(spec, range(min(512, len(domains)))).to(device)

    def losses(step: int, ranks: Any) -> tuple[Losses, float]:
        rows = torch.from_numpy(rng.choice(len(domains), s.batch_size))
        labels = hide_labels(every.labels[rows], s.label_dropout, rng)
        batch = Batch(every.coords[rows], every.mask[rows], labels).to(device)
        output = model(batch, generator)
        return {t.name: (t.term(batch, output), t.weight(step)) for t in terms}, 1.0

    def observe(found: dict[str, float]) -> None:
        for t in terms:
            if isinstance(t.weight, TargetRate):
                t.weight.observe(found[t.name])

    def watch() -> dict[str, float]:
        with torch.no_grad():
            posterior = model.posterior(model.describe(watched)[0], watched.labels, watched.lengths)
            units = posterior.kl(model.prior(model.condition(watched.labels, watched.lengths))).mean(0)
        return {f"unit_{unit:03d}": value for unit, value in enumerate(units.sort(descending=True).values.tolist())}

    optimizer = torch.optim.AdamW(model.parameters(), s.learning_rate, weight_decay=s.weight_decay, fused=True)
    state = TrainingState(model.named_parameters(), optimizer, generator, rng, controllers)
    task = Task("founding", model, losses, watch, steps, s.learning_rate, {}, seed, observe)
    history = minimise(task, state, s)
    model.cpu()

    def ones(count: int) -> Tensor:
        return torch.ones(count, POINTS, dtype=torch.bool)

    def decode(z: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            return model.decode(z, labels, ones(len(z)))

    def prior(labels: Tensor, lengths: Tensor) -> Gaussian:
        with torch.no_grad():
            return model.prior(model.condition(labels, torch.full_like(lengths, POINTS)))

    judged = Judged(
        {part: data.points[part] for part in ("train", "held")} | {"train": domains},
        infer=lambda domains: model.infer(domains.batch(spec), 0, extra.get("size")),
        prior=prior,
        draw=lambda labels, lengths: prior(labels, lengths).sample(torch.Generator().manual_seed(seed)),
        error=lambda domains, z, labels: cross_entropy(decode(z, labels), model.describe(domains.batch(spec))[1]),
        maps=lambda z, labels, lengths: torch.sigmoid(decode(z, labels))[..., 0].numpy(),
        spec=spec,
    )
    return judged, history


def train_traces(
    change: Change, design: str, seed: int, data: Data, steps: int, folder: Path
) -> tuple[Judged, list[dict]]:
    """Train a variant of the package as the workflow does; it is evaluated by the maps of its decoded traces."""
    settings = settings_of(change, steps)
    name = design if change.form == "own" else f"literal_{design}"
    train(data.store, data.splits, name, seed, folder, settings.model, settings.train, RefineSettings(), 1)
    sampler = load_sampler(folder, FOLDER / "refiner")  # not needed for traces

    def maps(z: Tensor, labels: Tensor, lengths: Tensor) -> np.ndarray:
        traces = [points_of(trace.numpy()) for trace in sampler.decode(z, labels, lengths)]
        return contact_maps(torch.from_numpy(np.stack(traces)).float()).numpy()

    def error(domains: DomainSet, z: Tensor, labels: Tensor) -> Tensor:
        return trace_errors(sampler.model, domains, sampler.decode(z, labels, torch.from_numpy(domains.lengths)))

    def draw(labels: Tensor, lengths: Tensor) -> Tensor:
        return draw_codes(sampler, labels, lengths, settings.sample, torch.Generator().manual_seed(seed))

    history = [{key: float(value or "nan") for key, value in row.items()} for row in read_table(folder / "history.tsv")]
    return Judged(data.by_part, sampler.infer, sampler.prior, draw, error, maps, sampler.spec), history


def measure(judged: Judged, data: Data, seed: int) -> dict[str, float]:
    """The symptoms of one model; the endings `_train` and `_held` name the domains.

    Draws from the posterior are decoded, as in training: if a code is empty, no decoder has seen the posterior mean.
    """
    found: dict[str, float] = {}
    codes, drawn, labels, lengths = {}, {}, {}, {}
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    for part, domains in judged.domains.items():
        posterior = judged.infer(domains)
        codes[part], labels[part] = posterior, domains.label_ids(judged.spec)
        lengths[part] = torch.from_numpy(domains.lengths)
        prior = judged.prior(labels[part], lengths[part])
        units = posterior.kl(prior)
        kept = Codes(
            np.array(domains.ids),
            np.array(domains.labels),
            np.full(len(domains), part),
            *(x.double().numpy() for x in (posterior.mean, posterior.logvar, units)),
        )
        z = drawn[part] = posterior.sample(generator)
        own = judged.error(domains, z, labels[part])
        other = judged.error(domains, z[other_of_class(classes_of(domains), random)], labels[part])
        alone = judged.error(domains, prior.sample(generator), labels[part])
        swaps = (judged.error(domains, z, each) for each in swapped(labels[part], judged.spec))
        relabelled = torch.stack(list(swaps)).mean(0)
        every = kept if len(kept) <= 2000 else kept.take(random.permutation(len(kept))[:2000])
        found |= {
            f"error_{part}": own.mean().item(),
            f"rate_{part}": units.sum(1).mean().item(),
            f"active_{part}": active_units(kept),
            f"information_{part}": float(information(every, random).mean()),
            f"permuted_{part}": (other.mean() / own.mean()).item(),
            f"alone_{part}": alone.mean().item(),
            f"relabelled_{part}": (relabelled.mean() / own.mean()).item(),
        }
    found["units"] = float(units.shape[1])
    found |= leaks(codes, data, judged.domains, random)
    return found | of_samples(judged, data, drawn["held"], labels["held"], lengths["held"])


def other_of_class(names: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """For each row, another random row of the same class (itself if it is the only one)."""
    chosen = np.arange(len(names))
    for name in np.unique(names):
        rows = random.permutation(np.flatnonzero(names == name))
        chosen[rows] = np.roll(rows, 1)
    return chosen


def swapped(labels: Tensor, spec: Spec) -> Iterator[Tensor]:
    """The label ids (B, 1) with each class replaced by another, once for each other class."""
    count = len(spec.vocabulary[0])
    for shift in range(1, count):
        yield (labels - 1 + shift) % count + 1


def leaks(
    codes: Mapping[str, Gaussian], data: Data, domains: Mapping[str, DomainSet], random: np.random.Generator
) -> dict[str, float]:
    """Skill of the best of three fresh probes of posterior means, for the class and for the architecture.

    `_held`: trained on training codes, tested on held-out ones. `_train`: trained and tested on training codes, with no
    superfamily on both sides.
    """
    found = {}
    rows = random.permutation(len(domains["train"]))[:MOST_PROBED]
    known, asked = codes["train"].mean.numpy()[rows], codes["held"].mean.numpy()
    families = np.array([data.superfamily[domains["train"].ids[row]] for row in rows])
    for level, name in ((1, "leak"), (2, "leak2")):
        truth = {part: np.array([truncate(label, level) for label in each.labels]) for part, each in domains.items()}
        learnt = truth["train"][rows]
        within = [probe_predictions(known, learnt, families, probe, 0).skill for probe in PROBES]
        common = [
            each
            for each in np.unique(learnt)
            if len(np.unique(families[learnt == each])) >= 4 and (truth["held"] == each).sum() >= 4
        ]
        taught, judged = np.isin(learnt, common), np.isin(truth["held"], common)
        across = [float("nan")]
        if len(common) > 1:
            for probe in PROBES if taught.sum() >= FEWEST_TAUGHT else ():
                guess = PROBES[probe]().fit(known[taught], learnt[taught]).predict(asked[judged])
                across.append(ProbePredictions(truth["held"][judged], guess).skill)
        found |= {f"{name}_train": best(within), f"{name}_held": best(across)}
    return found


def best(values: Sequence[float]) -> float:
    """The largest finite value, NaN if there is none."""
    known = [value for value in values if np.isfinite(value)]
    return max(known) if known else float("nan")


def of_samples(judged: Judged, data: Data, held: Tensor, labels: Tensor, lengths: Tensor) -> dict[str, float]:
    """Effect of decoding under another label, and samples from the prior compared with real domains."""
    names = np.array(judged.spec.vocabulary[0])
    tell = data.classifier.predict

    def told(z: Tensor, asked: Tensor) -> float:
        maps = judged.maps(z, asked, lengths)
        return float(balanced_accuracy_score(names[asked[:, 0].numpy() - 1], tell(profiles(maps))))

    followed = [told(held, others) for others in swapped(labels, judged.spec)]
    drawn = judged.draw(labels, lengths)
    maps, real = judged.maps(drawn, labels, lengths), data.maps("held")
    binary = np.random.default_rng(0).random(maps.shape) < maps  # drawn from p(x | z, y), not its mean
    train_maps = data.maps("train")
    as_many = train_maps[np.random.default_rng(0).permutation(len(train_maps))[: len(real)]]
    beside = data.features(real)
    return {
        "class_own": told(held, labels),
        "class_swapped": float(np.mean(followed)),
        "class_samples": told(drawn, labels),
        "class_real": float(balanced_accuracy_score(names[labels[:, 0].numpy() - 1], tell(profiles(real)))),
        "spread": float(maps.var(0).sum() / real.var(0).sum()),
        "coverage": coverage(FeatureSet.even(data.features(binary), beside)),
        "coverage_real": coverage(FeatureSet.even(data.features(as_many), beside)),
    }


def trainings(seeds: Sequence[int], groups: Sequence[str], forms: Sequence[str]) -> Iterator[tuple[Change, str, int]]:
    """All trainings of the grid: the unmodified designs first, then seed by seed."""
    chosen = [c for c in CHANGES if c.form in forms and (not groups or c.group in groups)]
    first = [c for c in chosen if c.name == BASE.name]
    for changes in (first, [c for c in chosen if c not in first]):
        for seed in seeds:
            for change in changes:
                for design in change.designs:
                    yield change, design, seed


def row_path(folder: Path, change: Change, design: str, seed: int) -> Path:
    """The file of one training."""
    return folder / (re.sub(r"[^a-z0-9.]+", "-", f"{change.form} {design} {change.name} {seed}".lower()) + ".json")


def make_row(change: Change, design: str, seed: int, data: Data, steps: int, path: Path) -> None:
    """Train, measure and write the row."""
    with tempfile.TemporaryDirectory() as scratch:
        if change.form == "contacts":
            judged, history = train_contacts(change, design, seed, data, steps)
        else:
            judged, history = train_traces(change, design, seed, data, steps, Path(scratch) / "model")
        said = {"form": change.form, "design": design, "group": change.group, "change": change.name, "seed": seed}
        row = said | measure(judged, data, seed)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"row": row, "history": history}), encoding="utf-8")


def main() -> None:
    """Run the missing trainings, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a run, with domains.h5 and splits.tsv")
    parser.add_argument("--rows", type=Path, help="folder with one file per training; default: founding/ in RESULTS")
    parser.add_argument("--only", nargs="+", default=[], help="groups of changes; default: all")
    parser.add_argument("--form", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=load.load(CONFIGURATION).train.steps)
    parser.add_argument("--part", default="1/1", help="I/N: every N-th training, from the I-th")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/founding.tsv")
    given = parser.parse_args()
    folder = given.rows or given.results / "founding"
    data = Data(given.results / "domains.h5", given.results / "splits.tsv")
    part, parts = map(int, given.part.split("/"))
    wanted = list(trainings(given.seeds, given.only, given.form))
    own = wanted[part - 1 :: parts]
    for change, design, seed in track(own, "founding", len(own), "trainings"):
        path = row_path(folder, change, design, seed)
        if path.exists():
            continue
        try:
            with owned(path):
                make_row(change, design, seed, data, given.steps, path)
        except UserError as error:
            print(error, flush=True)
    if parts > 1:
        return
    if lacking := sum(not row_path(folder, *each).exists() for each in wanted):
        raise SystemExit(f"founding: {lacking} of {len(wanted)} trainings are not there; what ails them is said above")
    done = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    write_tables(done, given.output)


if __name__ == "__main__":
    main()
