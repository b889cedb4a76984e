"""Print how well samples of a new label follow it, by the initialisation of the label in the package's model.

    python experiments/new_labels.py domains.h5 splits.tsv [--number 200] [--scheme scope] [--samples 100] [--seed 0]

The user's domains, their labels and the judge are those of `fine_tuning.py`; only the judge is trained. Each row is one
way to initialise a new label in the package's model: as the hidden label; as the known label, of one or two levels,
under which the flow has the lowest loss on the codes of the label's members; from the labels that the package's fold
classifier assigns to the members, as their mean, as the most frequent of them, or as their mixture, as in `fine_tuned`;
and as the mixture of the members' CATH architectures, which are unknown for a user's domains. Columns: share of samples
that the judge assigns to the requested label, as a mean over labels with its 95 % interval and n, and for each label.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from fine_tuning import judged, own_rows, train_judge, write_own
from torch import Tensor

from cvae_protein.config.settings import ModelSettings, RefineSettings, SampleSettings
from cvae_protein.core.labels import label_ids, truncate
from cvae_protein.core.pretrained import package_model
from cvae_protein.core.structure import CA
from cvae_protein.model import registry
from cvae_protein.model.batch import DomainSet, read_split
from cvae_protein.model.codes import codes_of
from cvae_protein.model.priors import AggregatePosterior, LatentFlow
from cvae_protein.sampling.sample import members_of
from cvae_protein.sampling.sampler import Sampler, complete, decode_all, draw_codes, noise_seeds, start_noise
from cvae_protein.store.read import Store
from cvae_protein.training.start import begin, tell_likeness
from cvae_protein.training.train import make_spec

NOISES = 16  # draws of noise and time per code for each known label


def begun(train: DomainSet) -> Sampler:
    """The package's model as initialised by `fine_tuned` for these training domains, without training."""
    told, depth = tell_likeness({"train": train}, 1, "begin")
    spec, start = begin(
        make_spec("fine_tuned", 0, ModelSettings(), RefineSettings(), depth, told["train"], {}), "pretrained"
    )
    model, flow = registry.variant("fine_tuned").build(spec), LatentFlow(spec)
    start.load(model, "cvae.")
    start.load(flow, "flow.")
    aggregate = AggregatePosterior(spec.model.latent, len(spec.vocabulary[0]))
    return Sampler(model, aggregate, flow, registry.load_second_level(package_model() / "refiner"))


@torch.no_grad()
def likeliest(sampler: Sampler, members: DomainSet, known: list[str]) -> str:
    """The known label under which the flow has the lowest loss on the members' codes, with the same noise for each."""
    codes, flow = codes_of(sampler.model, members, sampler.spec.model.inference_steps), sampler.flow
    rows = torch.arange(len(members)).repeat(NOISES)
    z, _, lengths = codes.draw(rows, torch.Generator().manual_seed(0))
    found = []
    for label in known:
        ids = torch.tensor([sampler.spec.label_ids(label)]).expand(len(rows), -1)
        found.append(float(flow.losses(z, ids, lengths, torch.Generator().manual_seed(1))[0].mean()))
    return known[int(np.argmin(found))]


def drawn(sampler: Sampler, ids: Tensor, lengths: Tensor, seed: int) -> list[np.ndarray]:
    """CA traces (L, 3) in Å of samples with given label ids (B, levels) and lengths (B,), before relaxation."""
    settings, generator = SampleSettings(relax_steps=0), torch.Generator().manual_seed(seed)
    codes = draw_codes(sampler, ids, lengths, settings, generator)
    traces = decode_all(sampler.model, codes, ids, lengths)
    noise = start_noise(lengths.tolist(), noise_seeds(len(traces), generator), settings.refine_noise)
    made, _ = complete(sampler, traces, [""] * len(traces), settings, noise, "draw", said=False)
    return [coords[:, CA] for coords in made]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", type=Path)
    parser.add_argument("splits", type=Path)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--scheme", choices=["cath", "scope"], default="scope")
    parser.add_argument("--samples", type=int, default=100, help="samples per label")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = own_rows(asked.domains, asked.splits, asked.number, asked.scheme)
        own = write_own(Path(scratch), asked.domains, rows)
        train = read_split(*own)["train"]
        judge = train_judge(Path(scratch), asked.domains, asked.splits, rows, asked.scheme, 1)
        with Store(asked.domains) as store:
            architectures = [truncate(str(store.fact(name, "cath")), 2) for name in train.ids]
        sampler, labels = begun(train), sorted(set(train.labels))
        spec = sampler.spec
        known = ["", *(name for name in spec.of_start if name.count(".") < 2)]
        ways: dict[str, dict[str, list[str]]] = {}
        for label in labels:
            members = np.flatnonzero([one == label for one in train.labels])
            like = [name for name, _ in members_of(spec, label)]
            ways.setdefault("hidden", {})[label] = [""]
            ways.setdefault("likeliest known label", {})[label] = [
                likeliest(sampler, train.take(members), sorted(known))
            ]
            ways.setdefault("mean of what members are like", {})[label] = [label]
            ways.setdefault("what most members are like", {})[label] = [Counter(like).most_common(1)[0][0]]
            ways.setdefault("mixture of what members are like", {})[label] = like
            ways.setdefault("mixture of members' own architectures", {})[label] = [
                architectures[row] for row in members
            ]
        print(
            "| a new label as | judged as asked | " + " | ".join(labels) + " |\n|---|---" + "|---" * len(labels) + "|"
        )
        for way, told in ways.items():
            traces, names = list[np.ndarray](), list[str]()
            for label in labels:
                rng = np.random.default_rng(asked.seed)
                lengths = rng.choice(
                    [len(c) for c, one in zip(train.coords, train.labels, strict=True) if one == label], asked.samples
                )
                ids = torch.tensor(
                    [label_ids(spec.vocabulary, name) for name in rng.choice(told[label], asked.samples)]
                )
                traces += drawn(sampler, ids, torch.from_numpy(lengths), asked.seed)
                names += [label] * asked.samples
            each = [
                judged(
                    judge,
                    [trace for trace, one in zip(traces, names, strict=True) if one == label],
                    [label] * asked.samples,
                    {},
                ).split()[0]
                for label in labels
            ]
            print(f"| {way} | {judged(judge, traces, names, {})} | " + " | ".join(each) + " |", flush=True)


if __name__ == "__main__":
    main()
