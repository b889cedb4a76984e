"""A trained model applied to held-out domains: codes, reconstructions, and domains under another class's label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..config.settings import SampleSettings
from ..model.batch import DomainSet, as_backbone
from ..model.cvae import CVAE
from ..model.decoder import ChainDecoder, noise_features
from ..model.priors import Gaussian
from ..store.layout import TEXT, Entry
from ..store.write import new_file, write_store
from .likelihood import judge_codes
from .relax import HELD
from .sampler import INVERSION_STEPS, Sampler, complete, draw_codes, no_noise, other_class, refine_all

MOST_JUDGED = {"train": 512, "validation": 1024, "test": 2048}  # domains whose codes are scored under the priors
MOST_REBUILT = 512  # domains per split that are decoded to compare training and held-out errors
MOST_SWAPPED = 64  # held-out domains that are also decoded under another class's label
MOST_INVERTED = 256  # held-out domains whose second-level noise is inferred


def sample_entry(name: str, coords: np.ndarray, facts: dict) -> Entry:
    """The store entry of a modelled structure."""
    return Entry(as_backbone(name, coords), facts)


@torch.no_grad()
def write_latents(
    path: Path,
    sampler: Sampler,
    by_split: dict[str, DomainSet],
    posteriors: dict[str, Gaussian],
    settings: SampleSettings,
    seed: int,
) -> None:
    """Write posterior mean, log variance and divergence from the prior, per dimension, of every domain.

    Also `prior_draw`, a code for the label and the length of each domain from the prior that samples come from, at
    temperature and guidance 1; attribute `levels`, the number of label levels that the model is conditioned on.
    `trace_rmsd` is the error in Å of the decoded posterior mean, for up to 512 domains per split. The group `judged`
    scores one draw of each domain's code under the priors (`judge_codes`). Both are NaN for domains not evaluated. If
    the second level is a decoder, the group `second_level` has the results of `invert`.
    """
    generator = torch.Generator().manual_seed(seed)
    judged: list[dict[str, Tensor]] = []
    errors: list[Tensor] = []
    parts: dict[str, list] = {"mean": [], "logvar": [], "kl": [], "prior_draw": []}
    text: dict[str, list[str]] = {"id": [], "label": [], "split": []}
    for split, domains in by_split.items():
        posterior = posteriors[split]
        labels, lengths = domains.label_ids(sampler.spec), torch.from_numpy(domains.lengths)
        prior = sampler.prior(labels, lengths)
        drawn = prior.sample(generator)
        if sampler.own_flow is None:  # for a model with its own flow, the prior of the noise counts
            as_learnt = replace(settings, temperature=1.0, guidance=1.0)
            drawn = draw_codes(sampler, labels, lengths, as_learnt, generator)
        rows = torch.randperm(len(domains), generator=generator)[: MOST_JUDGED[split]]
        code = posterior.sample(generator)[rows]
        if (flow := sampler.own_flow) is not None:
            device = sampler.device
            code = flow.to_codes(code.to(device), labels[rows].to(device), lengths[rows].to(device)).cpu()
        seen = judge_codes(sampler, code, labels[rows], lengths[rows], settings)
        judged.append(
            {name: torch.full((len(domains),), torch.nan).index_copy(0, rows, each) for name, each in seen.items()}
        )
        errors.append(torch.full((len(domains),), torch.nan))
        rebuilt = rows[:MOST_REBUILT]
        made = sampler.decode(posterior.mean[rebuilt], labels[rebuilt], lengths[rebuilt])
        errors[-1][rebuilt] = trace_errors(sampler.model, domains, made, rebuilt.tolist())
        values = (posterior.mean, posterior.logvar, posterior.kl(prior), drawn)
        for name, value in zip(parts, values, strict=True):
            parts[name].append(value.numpy())
        text["id"] += domains.ids
        text["label"] += domains.labels
        text["split"] += [split] * len(domains)
    inverted = {}
    if isinstance(sampler.second_level, ChainDecoder):
        inverted = invert(sampler, by_split["test"], posteriors["test"], settings, seed)
    with new_file(path) as file:
        for name, found in inverted.items():
            file[f"second_level/{name}"] = found.numpy()
        file.attrs["blocks"] = json.dumps(sampler.model.blocks)
        file.attrs["levels"] = sampler.spec.depth
        for name, arrays in parts.items():
            file[name] = np.concatenate(arrays)
        file["trace_rmsd"] = torch.cat(errors).numpy()
        for name in judged[0]:
            file[f"judged/{name}"] = torch.cat([each[name] for each in judged]).numpy()
        for name, words in text.items():
            file.create_dataset(name, data=np.array(words, object), dtype=TEXT)


def invert(
    sampler: Sampler, domains: DomainSet, posterior: Gaussian, settings: SampleSettings, seed: int
) -> dict[str, Tensor]:
    """The decoder's noise for up to 256 of the held-out `domains` (n,), and the error of both levels combined.

    By name: `row`, indices into `domains`; `features` (n, F), the noise as a probe sees it (`noise_features`); `norm`,
    its squared norm per number, 1 if the flow fits; and CA RMSD in Å before relaxation, `code_rmsd` from the code
    alone, with the mean of the noise, and `both_rmsd` from the code and the noise.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(domains))[:MOST_INVERTED])
    chosen, codes = domains.take(rows), posterior.mean[rows]
    noise = sampler.infer_noise(chosen, codes)
    traces = sampler.decode(codes, chosen.label_ids(sampler.spec), torch.from_numpy(chosen.lengths))
    whole = replace(settings, numbers=0, code_error=0.0, decoder_guidance=1.0)
    stage, errors = f"reconstruct {sampler.spec.variant} seed {sampler.spec.seed}", []
    for start, steps in ((no_noise(traces), settings.refine_steps), (noise, INVERSION_STEPS)):
        made = refine_all(sampler, traces, chosen.labels, replace(whole, refine_steps=steps), start, stage)
        errors.append(trace_errors(sampler.model, chosen, [ca.cpu() for ca, _ in made]))
    mask = torch.arange(int(chosen.lengths.max())) < torch.from_numpy(chosen.lengths)[:, None]
    return {
        "row": torch.from_numpy(rows),
        "features": noise_features(pad_sequence(noise, batch_first=True), mask),
        "norm": torch.stack([one.square().mean() for one in noise]),
        "code_rmsd": errors[0],
        "both_rmsd": errors[1],
    }


@torch.no_grad()
def write_reconstructions(
    folder: Path, sampler: Sampler, domains: DomainSet, posterior: Gaussian, settings: SampleSettings, seed: int
) -> None:
    """Write held-out domains rebuilt from their posterior means, with the rate and errors of other codes and labels.

    Writes reconstructions.h5, and swapped.h5: up to 64 of the domains from their own codes under another class's label,
    which is the label they have there; it is empty if there is only one class.
    """
    model, spec = sampler.model, sampler.spec
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    labels, lengths = domains.label_ids(spec), torch.from_numpy(domains.lengths)
    prior = sampler.prior(labels, lengths)
    own = sampler.decode(posterior.mean, labels, lengths)
    permutation = _permute(labels, rng)
    permuted = sampler.decode(posterior.mean[permutation], labels, lengths)
    others = other_class(labels, len(spec.vocabulary[0]), generator)
    swapped = sampler.decode(posterior.mean, others, lengths)
    facts = {
        "rate": posterior.kl(prior).sum(-1),
        "trace_rmsd": trace_errors(model, domains, own),
        "permuted_code_rmsd": trace_errors(model, domains, permuted).where(
            permutation != torch.arange(len(domains)),
            torch.nan,  # alone in its class: there is no other code
        ),
        "swapped_label_rmsd": trace_errors(model, domains, swapped),
    }
    stage = f"reconstruct {spec.variant} seed {spec.seed}"
    without_noise = replace(settings, numbers=0, code_error=0.0)  # the mean of both levels of latents
    _, relaxed = complete(sampler, own, domains.labels, without_noise, no_noise(own), stage, HELD)
    origin = {"variant": spec.variant, "seed": spec.seed}
    entries = [
        sample_entry(
            name, coords, {"label": label, **origin} | {key: float(values[row]) for key, values in facts.items()}
        )
        for row, (name, label, coords) in enumerate(zip(domains.ids, domains.labels, relaxed, strict=True))
    ]
    write_store(folder / "reconstructions.h5", entries, kind="reconstructions")
    chosen = sorted(rng.permutation(len(domains))[:MOST_SWAPPED].tolist())
    traces, names = [swapped[row] for row in chosen], ["", *spec.vocabulary[0]]
    asked = [names[int(others[row, 0])] for row in chosen]
    stage = f"swap {spec.variant} seed {spec.seed}"
    _, relaxed = complete(sampler, traces, asked, without_noise, no_noise(traces), stage, HELD)
    entries = [
        sample_entry(domains.ids[row], coords, {"label": label, "own_label": domains.labels[row], **origin})
        for row, label, coords in zip(chosen, asked, relaxed, strict=True)
    ]
    write_store(folder / "swapped.h5", entries, kind="reconstructions")


def trace_errors(model: CVAE, domains: DomainSet, made: Sequence[Tensor], rows: Sequence[int] | None = None) -> Tensor:
    """RMSD (D,) in Å of CA traces (L, 3), in the chain frame, to the domains they were made from: all, or `rows`."""
    errors = []
    for row, trace in zip(range(len(domains)) if rows is None else rows, made, strict=True):
        wanted = model.describe(domains.batch(model.spec, [row]))[1][0]
        errors.append((wanted - trace).square().sum(-1).mean().sqrt())
    return torch.stack(errors)


def _permute(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """For each row (B,) a random other row of the same first-level class; itself if it is the only one."""
    chosen = torch.arange(len(labels))
    for label in labels[:, 0].unique():
        rows = torch.nonzero(labels[:, 0] == label)[:, 0].numpy()
        shuffled = rng.permutation(rows)
        chosen[shuffled] = torch.from_numpy(np.roll(shuffled, 1))
    return chosen
