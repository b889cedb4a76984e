"""Print whether chains with a gap are harder to represent than whole ones, in the cosine basis and as linear codes.

    python experiments/chain_breaks.py RESULTS

From a run with `domains.h5`, `splits.tsv` and `domains.tsv`, takes domains of 40 to 128 residues of three kinds: whole,
with a gap of their own (several segments of the chain), and with missing residues. Each broken domain is paired with
the whole domain of the nearest length that has not been used yet. Prints the CA RMSD in Å left by 48 cosine
coefficients and by 64 principal components of the training traces, the mean CA-CA distance across a gap, in the domain
and as reconstructed from the components, and 95 % intervals of the differences.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cvae_protein.config.settings import DecoderSettings, ModelSettings, ScoreSettings
from cvae_protein.core.files import read_table
from cvae_protein.model.batch import one_domain, read_split
from cvae_protein.model.representation import PrincipalComponents, center, decode_trace, encode_trace
from cvae_protein.score.metrics.metric import mean_estimate
from cvae_protein.store.read import Store
from cvae_protein.training.refiner import fit_components
from cvae_protein.training.train import make_spec

KINDS = ("whole", "gap of its own", "residues missing")


def errors(linear: PrincipalComponents, ca: np.ndarray, breaks: np.ndarray) -> list[float]:
    """RMSD left by coefficients and by components; mean CA steps across the gaps before and after (NaN if whole)."""
    trace, mask = torch.from_numpy(ca).float()[None], torch.ones(1, len(ca), dtype=torch.bool)
    count = linear.center.numel() // 3
    coefficients, frame = encode_trace(trace, mask, count)
    own = center(trace, mask) @ frame
    lengths = mask.sum(1)
    with torch.no_grad():
        flat = linear.center + linear.decode(linear.encode(coefficients.flatten(1) - linear.center))
    made = [decode_trace(each, lengths, len(ca)) for each in (coefficients, flat.view_as(coefficients))]
    left = [float((each - own).square().sum(-1).mean().sqrt()) for each in made]
    at = torch.from_numpy(np.flatnonzero(breaks))
    steps = [
        float((each[0, at + 1] - each[0, at]).norm(dim=-1).mean()) if len(at) else np.nan for each in (own, made[1])
    ]
    return [*left, *steps]


def shown(values: Sequence[float]) -> str:
    """A mean over domains with its interval."""
    found = mean_estimate(np.asarray(values), ScoreSettings(), np.random.default_rng(0))
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def main() -> None:
    """Group the domains, pair them by length and print the tables."""
    results = Path(sys.argv[1])
    ranges = {row["domain_id"]: row["residue_range"] for row in read_table(results / "domains.tsv", ("residue_range",))}
    train = read_split(results / "domains.h5", results / "splits.tsv")["train"]
    spec = make_spec("pca", 0, ModelSettings(), DecoderSettings(), 1, train, {})
    linear = fit_components(train, spec, spec.model.latent)
    trained, members = set(train.ids), {kind: list[tuple[int, list[float]]]() for kind in KINDS}
    with Store(results / "domains.h5") as store:
        for name in store.ids:
            backbone = store.backbone(name)
            if not 40 <= len(backbone) <= 128 or not np.isfinite(backbone.ca[0]).all() or name in trained:
                continue
            kind = KINDS[0]
            if backbone.breaks.any():
                kind = KINDS[1] if "," in ranges[name] else KINDS[2]
            coords = one_domain(backbone.coords[0], name, "").coords[0]
            members[kind].append((len(backbone), errors(linear, coords[:, 1], backbone.breaks)))
    print(
        "\t".join(["domains", "n", "48 coefficients leave", "64 components leave", "step over a gap", "as given back"])
    )
    for kind in KINDS:
        columns = list(zip(*(found for _, found in members[kind]), strict=True))
        cells = [shown(column) if np.isfinite(column).any() else "" for column in columns]
        print("\t".join([kind, str(len(members[kind])), *cells]))
    for kind in KINDS[1:]:
        free, pairs = list(members[KINDS[0]]), []
        for length, found in members[kind]:
            if free:
                beside = free.pop(int(np.argmin([abs(other - length) for other, _ in free])))
                pairs.append([mine - theirs for mine, theirs in zip(found[:2], beside[1][:2], strict=True)])
        cells = [shown(column) for column in zip(*pairs, strict=True)]
        print("\t".join([f"{kind}, less whole ones of like length", str(len(pairs)), *cells]))


if __name__ == "__main__":
    main()
