"""Fit priors to the codes of a trained model and print the log density of held-out codes under each, by rung.

    python experiments/prior_likelihood.py RESULTS VARIANT [--seed 0] [--steps 3000] [--dropout 0.1 0.3 0.5]
        [--codes CODES.safetensors] [--widen] [--mixture] [--kernels] [--crops 9000]

Nats are log densities of one draw of each domain's code, less those under one Gaussian for all classes (full
covariance, given the length), with 95 % intervals over superfamilies; "norm" is the squared norm of the flow's noise
divided by the latent size. `--mixture`: mixtures of Gaussians (full covariance, length as a further dimension) with as
many components as validation prefers; `--kernels`: a mixture with a kernel on each training code. `--crops`: flows are
also fitted to that many random crops of training domains and of longer ones (the split `crops`), without labels, which
make up half of each step. `--widen`: each flow and the Gaussian are also evaluated with codes scaled by the factor that
validation codes prefer. Codes take long to infer: those kept by training are used, and all are kept in the file
`--codes`. With `--steps 0` nothing is fitted: the model's own flow is evaluated against its own Gaussians.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from cvae_protein.config.settings import ScoreSettings, TrainSettings
from cvae_protein.core.files import read_table
from cvae_protein.core.labels import RUNGS
from cvae_protein.model.batch import SHORTEST_CROP, DomainSet, crop, read_split
from cvae_protein.model.codes import CodeSet, codes_of, kept_codes, read_codes, write_codes
from cvae_protein.model.priors import AggregatePosterior, Gaussian, LatentFlow
from cvae_protein.model.registry import load_model, load_weights
from cvae_protein.model.spec import Spec, load_tensors
from cvae_protein.score.metrics.metric import bootstrap_means, bounds
from cvae_protein.training.prior import fit_flow

COMPONENTS = (1, 2, 4, 8, 16)
KERNELS = ((0, 0.0), (0, 0.3), (0, 0.6), (0, 0.85), (2, 0.55), (3, 0.5), (3, 0.65), (3, 0.8))  # level of the label, a
KERNEL_LENGTH = 0.3  # standard deviation in log length
WIDER = (0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One draw of the code of each domain of a split, facts about the domains, and densities under one Gaussian."""

    z: Tensor
    labels: Tensor
    lengths: Tensor
    groups: np.ndarray
    rungs: np.ndarray
    gaussian: Tensor


def gains(densities: Tensor, held: HeldOut) -> str:
    """Cells: mean gain over one Gaussian with its interval, over all and for each rung."""
    settings, cells = ScoreSettings(), []
    gain = (densities - held.gaussian).double().numpy()
    for rung in ("", *RUNGS):
        here = (held.rungs == rung) | (rung == "")
        if here.sum() < 5:
            cells.append("-")
            continue
        drawn = bootstrap_means(gain[here], held.groups[here], settings.bootstrap, np.random.default_rng(0))
        low, high = bounds(drawn, settings)
        cells.append(f"{gain[here].mean():.1f} ({low:.1f} to {high:.1f})")
    return "\t".join(cells)


def mixture(codes: CodeSet, held: Mapping[str, HeldOut]) -> tuple[int, dict[str, Tensor]]:
    """Number of components that validation prefers, and log densities of each split's codes under that mixture."""

    def joint(z: Tensor, lengths: Tensor) -> np.ndarray:
        return torch.cat([z, torch.log(lengths.float())[:, None]], 1).double().numpy()

    z, _, lengths = codes.draw(torch.arange(len(codes.lengths)), torch.Generator().manual_seed(0))
    best: tuple[float, int, dict[str, Tensor]] = (-np.inf, 0, {})
    for count in COMPONENTS:
        fitted = GaussianMixture(count, reg_covar=1e-2, random_state=0).fit(joint(z, lengths))
        last = slice(-1, None)
        alone = GaussianMixture(count)
        alone.weights_, alone.means_ = fitted.weights_, fitted.means_[:, last]
        alone.covariances_ = fitted.covariances_[:, last, last]
        alone.precisions_cholesky_ = 1 / np.sqrt(alone.covariances_)
        found = {}
        for split, each in held.items():
            both = joint(each.z, each.lengths)
            found[split] = torch.from_numpy(fitted.score_samples(both) - alone.score_samples(both[:, last]))
        score = float((found["validation"] - held["validation"].gaussian).mean())
        print(f"mixture of {count}\tvalidation {score:.1f}", flush=True)
        if score > best[0]:
            best = (score, count, found)
    return best[1], best[2]


def kernels(
    codes: CodeSet, aggregate: AggregatePosterior, held: Mapping[str, HeldOut]
) -> tuple[Mapping[str, Tensor], dict[str, Tensor]]:
    """Weights of each kind of kernel on the training codes, and log densities of each split's codes under the mixture.

    With w the training code whitened by one Gaussian, a kernel is N(a w, (1 - a²) I), weighted by the similarity in
    length; at a = 0 it is that Gaussian. A kind is a value of `a` and the label level that the training domain must
    share with the code, 0 for none. The weights maximise the likelihood of validation codes, by expectation
    maximisation, separately for codes with a topology known in training and for others.
    """

    def whitened(z: Tensor, lengths: Tensor) -> Tensor:
        mean, factor = aggregate.given(0 * lengths, lengths)
        return torch.linalg.solve_triangular(factor[0], (z - mean).T, upper=False).T

    centres, sizes = whitened(codes.posterior.mean, codes.lengths), torch.log(codes.lengths.float())
    normal = math.log(2 * math.pi)
    terms: dict[str, Tensor] = {}
    for split, each in held.items():
        own, parts = whitened(each.z, each.lengths), []
        for rows in torch.arange(len(own)).split(256):
            apart = (torch.log(each.lengths[rows].float())[:, None] - sizes) / KERNEL_LENGTH
            kinds = []
            for level, shrunk in KERNELS:
                shared = torch.ones_like(apart, dtype=torch.bool)
                if level:
                    label = each.labels[rows, level - 1, None]
                    shared = (label == codes.labels[:, level - 1]) & (label > 0)
                weight = torch.where(shared, -0.5 * apart.square(), -1e9).log_softmax(1)
                square, variance = torch.cdist(own[rows], shrunk * centres).square(), 1 - shrunk**2
                density = -0.5 * (square / variance + own.shape[1] * (normal + math.log(variance)))
                kinds.append(torch.where(shared.any(1), torch.logsumexp(density + weight, 1), -1e9))
            parts.append(torch.stack(kinds, 1))
        jacobian = aggregate.log_density(each.z, 0 * each.lengths, each.lengths) + 0.5 * (
            own.square().sum(1) + own.shape[1] * normal
        )
        terms[split] = torch.cat(parts) + jacobian[:, None]
    known = {split: each.labels[:, -1] > 0 for split, each in held.items()}
    found, weights = {split: torch.zeros(len(each)) for split, each in terms.items()}, {}
    for part in (True, False):
        chosen = terms["validation"][known["validation"] == part]
        weight = torch.full((len(KERNELS),), 1 / len(KERNELS))
        for _ in range(200):
            weight = (chosen + weight.log()).softmax(1).mean(0).clamp(min=1e-9)
        weight = weight / weight.sum()
        weights["topology known" if part else "topology new"] = weight
        for split, each in terms.items():
            here = known[split] == part
            found[split][here] = torch.logsumexp(each[here] + weight.log(), 1)
    return weights, found


def some_of_each(rungs: np.ndarray, most: int) -> np.ndarray:
    """Rows of at most `most` random domains of each rung, with a fixed seed, rung by rung."""
    order = np.random.default_rng(0).permutation(len(rungs))
    return np.concatenate([order[rungs[order] == rung][:most] for rung in RUNGS])


def compare(
    spec: Spec,
    aggregate: AggregatePosterior,
    own: LatentFlow | None,
    codes: Mapping[str, CodeSet],
    about: Mapping[str, tuple[np.ndarray, np.ndarray]],
    given: argparse.Namespace,
) -> None:
    """Fit and print; `about`: superfamilies and rungs of each split's domains, `aggregate`: the model's Gaussians."""
    if given.steps:
        training = codes["train"]
        aggregate.fit(training.posterior.mean, training.posterior.logvar, training.labels[:, 0], training.lengths)
    held = {}
    for split, (groups, rungs) in about.items():
        if split == "train":
            continue
        chosen = some_of_each(rungs, given.most)
        drawn = codes[split].draw(torch.from_numpy(chosen), torch.Generator().manual_seed(1))
        held[split] = HeldOut(
            *drawn, groups[chosen], rungs[chosen], aggregate.log_density(drawn[0], 0 * drawn[2], drawn[2])
        )
        print(f"{split}\t{len(drawn[2])} domains, one Gaussian {held[split].gaussian.mean():.1f} nats", flush=True)
    print("\t".join(("prior", "split", "nats over one Gaussian", *RUNGS, "norm", "steps", "flow loss (Gaussian's)")))
    for split, each in held.items():
        found = aggregate.log_density(each.z, each.labels[:, 0], each.lengths)
        print(f"a Gaussian a class\t{split}\t{gains(found, each)}", flush=True)
    if own is not None:
        judge("the model's own flow", own, held, "")
    if not given.steps:
        return
    if given.widen:
        plain = LatentFlow(spec)
        plain.whiten(aggregate)
        widen("one Gaussian", plain, held)
        if own is not None:
            widen("the model's own flow", own, held)
    if given.mixture:
        count, densities = mixture(training, held)
        for split, each in held.items():
            print(f"mixture of {count}\t{split}\t{gains(densities[split], each)}", flush=True)
    if given.kernels:
        weights, densities = kernels(training, aggregate, held)
        for part, weight in weights.items():
            cells = (
                f"{share:.2f} at level {level}, a = {a:g}" for share, (level, a) in zip(weight, KERNELS, strict=True)
            )
            print(f"kernels, {part}\t" + "; ".join(cells), flush=True)
        for split, each in held.items():
            print(f"kernels on training codes\t{split}\t{gains(densities[split], each)}", flush=True)
    crops = codes.get("crops")
    fitted = {"": training} if crops is None else {"": training, ", crops": joined(training, crops)}
    for more, evaluated in fitted.items():
        for dropout, hidden in itertools.product(given.dropout, given.label_dropout):
            settings = TrainSettings(
                flow_steps=given.steps, flow_dropout=dropout, flow_label_dropout=hidden, weight_decay=given.weight_decay
            )
            torch.manual_seed(0)
            flow = LatentFlow(replace(spec, model=replace(spec.model, width=given.width)), dropout)
            flow.whiten(aggregate)
            watched = {"evaluated": evaluated, "validation": codes["validation"]}
            rows = fit_flow(flow, watched, settings, f"dropout {dropout}, label dropout {hidden}{more}", 0)
            kept = next(row for row in rows if row["best"])
            losses = f"{kept['validation_flow']:.1f} ({kept['validation_gaussian_flow']:.1f})"
            name = f"flow, dropout {dropout:g}, label dropout {hidden:g}{more}"
            judge(name, flow, held, f"{kept['step']}\t{losses}")
            if given.widen:
                widen(name, flow, held)


def joined(codes: CodeSet, crops: CodeSet) -> CodeSet:
    """Codes of whole domains and of crops, each with half of the sampling probability."""
    both = codes, crops
    mean, logvar = (torch.cat([getattr(each.posterior, name) for each in both]) for name in ("mean", "logvar"))
    labels, lengths = (torch.cat([getattr(each, name) for each in both]) for name in ("labels", "lengths"))
    return CodeSet(Gaussian(mean, logvar), labels, lengths, np.concatenate([each.chance / 2 for each in both]))


def crops_of(by_split: Mapping[str, DomainSet], number: int) -> DomainSet:
    """Random crops, without labels, of training domains and of domains that are too long to be used whole."""
    domains, rng = by_split["train"].with_crops_of(by_split.get("crops")), np.random.default_rng(0)
    rows = rng.choice(np.flatnonzero(domains.lengths > SHORTEST_CROP), number)
    longest = int(by_split["train"].lengths.max())
    cut = zip(rows, *crop(domains.lengths[rows], 1.0, rng, longest), strict=True)
    coords = tuple(domains.coords[row][start:stop] for row, start, stop in cut)
    return DomainSet(coords, tuple(map(str, range(number))), ("",) * number, np.ones(number))


def judge(name: str, flow: LatentFlow, held: Mapping[str, HeldOut], more: str) -> None:
    """Print one row per split: gains and noise norm of held-out codes under a flow."""
    for split, each in held.items():
        parts = [
            flow.log_density(each.z[rows], each.labels[rows], each.lengths[rows])
            for rows in torch.arange(len(each.z)).split(256)
        ]
        densities, noise = (torch.cat(part) for part in zip(*parts, strict=True))
        norm = noise.square().sum(-1).mean() / noise.shape[1]
        print(f"{name}\t{split}\t{gains(densities, each)}\t{norm:.2f}\t{more}", flush=True)


def widen(name: str, flow: LatentFlow, held: Mapping[str, HeldOut]) -> None:
    """Rescale a flow in place by the factor under which validation codes are likeliest, and evaluate it."""
    each = held["validation"]
    factor, best, found = flow.factor.clone(), 1.0, -math.inf
    for wider in WIDER:
        flow.factor.copy_(wider * factor)
        likely = flow.log_density(each.z, each.labels, each.lengths)[0].mean().item()
        if likely > found:
            best, found = wider, likely
    flow.factor.copy_(best * factor)
    judge(f"{name}, widened by {best:g}", flow, held, "")


def main() -> None:
    """Read the codes, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("variant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    parser.add_argument("--label-dropout", type=float, nargs="+", default=[0.1])
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--inference-steps", type=int, default=20, help="latent refinement steps; 0: encoder's codes")
    parser.add_argument("--most", type=int, default=1000, help="maximum number of evaluated domains per rung")
    parser.add_argument("--mixture", action="store_true", help="also fit mixtures")
    parser.add_argument("--widen", action="store_true", help="scale codes by the factor that validation prefers")
    parser.add_argument("--kernels", action="store_true", help="also evaluate kernels on the training codes")
    parser.add_argument("--crops", type=int, default=0, help="number of crops to whose codes flows are also fitted")
    parser.add_argument("--codes", type=Path, help="file for the codes; read if it exists")
    given = parser.parse_args()
    folder = given.results / "models" / given.variant / f"seed{given.seed}"
    model = load_model(folder)
    sources = given.results / "domains.h5", given.results / "splits.tsv"
    by_split = read_split(*sources)
    facts = {row["domain_id"]: row for row in read_table(sources[1], ("superfamily", "rung"))}
    codes = read_codes(given.codes) if given.codes and given.codes.is_file() else {}
    about, known = {}, bool(codes)
    as_trained = given.inference_steps == model.spec.model.inference_steps
    kept = kept_codes(folder, model.spec, *sources) if as_trained else {}
    for split in ("train", "validation", "test") if given.steps else ("test",):
        domains = by_split[split].first_conformations()
        if split == "test":
            domains = domains.take(some_of_each(np.array([facts[name]["rung"] for name in domains.ids]), given.most))
        if not known:
            own = kept.get(split) or codes_of(model, domains, given.inference_steps)
            codes[split] = replace(own, chance=domains.weights / domains.weights.sum())
        if len(codes[split].lengths) != len(domains):
            raise SystemExit(f"{given.codes}: expected {len(domains)} codes of {split}, found others; remove it")
        columns = ([facts[name][key] or name for name in domains.ids] for key in ("superfamily", "rung"))
        about[split] = tuple(map(np.array, columns))
    if given.crops and not known:
        codes["crops"] = codes_of(model, crops_of(by_split, given.crops), given.inference_steps)
    if given.codes and not known:
        write_codes(given.codes, codes)
    tensors, flow = load_tensors(folder / "weights.safetensors")[0], None
    if any(name.startswith("flow.") for name in tensors):
        load_weights(flow := LatentFlow(model.spec), "flow.", folder, tensors)
    aggregate = AggregatePosterior(model.spec.model.latent, len(model.spec.vocabulary[0]))
    load_weights(aggregate, "aggregate.", folder, tensors)
    compare(model.spec, aggregate, flow, codes, about, given)


if __name__ == "__main__":
    main()
