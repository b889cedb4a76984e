"""Evaluate second levels on held-out domains: secondary structure, validity, error, labels followed, speed.

    python experiments/decoder.py domains.h5 splits.tsv --level refiner=models/refiner/seed0 --level decoder=FOLDER
        [--prototype ../shared/prototype/stages.safetensors] [--classifier ../shared/union/classifier]
        [--every 6] [--codes 64:0.25 32:0.5] [--swap 8 16 32] [--free 32 --model MODEL] [--invert 16] [--probe 64]

Codes are the first 64 principal components of the training traces, so that the result does not depend on a variant;
`k:noise` keeps the first k of them and starts the flow from that much noise. `--prototype` is a decoder of another
program, whose weights fit ours. `--swap` keeps k dimensions and asks for the domain's own class and architecture and
for those of another class. `--invert` does the same with the noise obtained by running the flow backwards under the own
label. `--free` does the same with a code from which the label is removed: the flow of a model maps its code to noise
under the own label and back to a code under the requested one, and the trace that the model decodes from that code
replaces the domain's trace. The fold classifier determines what was made. `--probe` tests how well fresh probes read
the class from the first k dimensions and from the noise of the second level. All rows are of the same domains; in
brackets are 95 % intervals over them. Structures per second are CPU time of one core, without relaxation. The output of
`--swap`, `--free` and `--probe` is drawn by `decoder_plot.py`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from cvae_protein.config.settings import DecoderSettings, ModelSettings, ScoreSettings
from cvae_protein.core.geometry import rmsd
from cvae_protein.core.labels import superfamily, truncate
from cvae_protein.core.pretrained import package_model
from cvae_protein.model import layers
from cvae_protein.model.batch import DomainSet, as_backbone, by_length, read_split
from cvae_protein.model.decoder import ChainDecoder, Coarse, noise_features, replace_labels
from cvae_protein.model.fold_classifier import FoldClassifier, describe_traces, load_classifier
from cvae_protein.model.refiner import Refiner
from cvae_protein.model.registry import load_second_level
from cvae_protein.model.representation import PrincipalComponents, encode_trace
from cvae_protein.model.spec import Spec
from cvae_protein.sampling.relax import FREE
from cvae_protein.sampling.sampler import INVERSION_STEPS, load_sampler, relax_all
from cvae_protein.score.metrics.latent import PROBES, probe_predictions
from cvae_protein.score.metrics.metric import PreparedStructure, mean_estimate
from cvae_protein.score.metrics.physical_validity import helix, physically_valid, strand
from cvae_protein.similarity.tm_score import tm_scores
from cvae_protein.training.decoder import coarsen_to, left_out
from cvae_protein.training.second_level import fit_components
from cvae_protein.training.train import make_spec

Atoms = list[np.ndarray]
PROTOTYPE_SCALE = ((0, 8, 16, 24, 32, 48, 64), (11.5, 7.8, 5.6, 4.1, 3.1, 2.4, 2.0))  # Å by which it was trained
STEPS = {Refiner: 3, ChainDecoder: 8}
COMMON = 50  # training domains of an architecture that is asked for
RELAX_STEPS = 200
SETTINGS = ScoreSettings()


def from_prototype(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The prototype's weights under the names of `ChainDecoder`; its features of a pair are split in two there."""
    parts = {"qkv": "query_key_value", "o": "project", "m": "perceptron", "conv": "convolution", "mod": "modulate"}
    whole = {"inp": "into", "t": "moment", "lab": "levels.0", "ln": "sizes", "pos": "place", "rel": "separation"}
    found, stages = {}, sum(name.startswith("pair.") for name in given) // 2
    for name, value in given.items():
        head, _, rest = name.partition(".")
        if head == "bl":
            block, part, tail = rest.split(".", 2)
            found[f"blocks.{block}.{parts[part]}.{tail}"] = value.float()
        elif head != "pair":
            found[f"{whole.get(head, head)}.{rest}"] = value.float()
    weights = [given[f"pair.{stage}.weight"].float() for stage in range(stages)]
    for stage, weight in enumerate(weights):
        found[f"pair.{stage}.weight"] = torch.cat([weight[:, :32], weight[:, 64:]], dim=1)
    found["trace_pair.weight"] = torch.cat([weight[:, 32:64] for weight in weights])
    found["trace_pair.bias"] = torch.cat([given[f"pair.{stage}.bias"].float() for stage in range(stages)])
    return found


def load_prototype(path: Path) -> ChainDecoder:
    """A decoder with the prototype's weights; it knows classes 1, 2 and 3."""
    spec = Spec("decoder", 0, ModelSettings(), DecoderSettings(), (("1", "2", "3"),), {}, {"prototype": True})
    net = ChainDecoder(spec)
    net.load_state_dict(from_prototype(load_file(path)))
    return net.eval()


def read_classifier(folder: Path) -> FoldClassifier:
    """A fold classifier, also one that was written before a setting was renamed."""
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    if "copies" not in spec["settings"]:
        return load_classifier(folder)
    spec["settings"]["augmentations"] = spec["settings"].pop("copies")
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        Path(scratch, "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
        return load_classifier(Path(scratch))


@dataclass(frozen=True, eq=False)
class Ground:
    """Shared by all rows: the held-out domains, and the linear map whose scores are their codes."""

    domains: DomainSet
    spec: Spec
    linear: PrincipalComponents
    sigma: float
    training: Sequence[str]  # labels of the training domains

    @property
    def classes(self) -> np.ndarray:
        """First level of each domain's label."""
        return np.array([label.partition(".")[0] for label in self.domains.labels])

    def coarse(self, level: ChainDecoder | Refiner, rows: np.ndarray, kept: int) -> tuple[Tensor, Tensor, Coarse]:
        """CA and carbonyl directions of some domains in the chain frame, and their traces of `kept` numbers."""
        spec = level.spec if isinstance(level, ChainDecoder) else self.spec
        numbers, error = torch.full((len(rows),), kept), torch.zeros(len(rows))
        batch = self.domains.batch(spec, rows)
        ca, carbonyl, coarse = coarsen_to(batch, self.linear, self.sigma, numbers, error, torch.Generator())
        if "prototype" in spec.origin:
            scale = torch.full((len(rows),), float(np.interp(kept, *PROTOTYPE_SCALE)))
            coarse = replace(coarse, scale=scale)
        return ca, carbonyl, coarse


def build(
    ground: Ground,
    level: ChainDecoder | Refiner,
    kept: int,
    noise: float,
    asked: np.ndarray | None = None,
    guidance: float = 1.0,
    inverted: bool = False,
) -> tuple[Atoms, Atoms, float]:
    """Backbones before and after relaxation, and CPU seconds a structure, under the classes `asked` or the own."""
    lengths, generator = ground.domains.lengths, torch.Generator().manual_seed(0)
    made: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * len(lengths)
    spent = 0.0
    for rows in by_length(lengths, 2048):
        ca, carbonyl, coarse = ground.coarse(level, rows, kept)
        start = noise * torch.randn((*coarse.mask.shape, 6), generator=generator)
        began = time.process_time()
        if isinstance(level, Refiner):
            with torch.no_grad():
                found = level.integrate(start, coarse.trace, coarse.mask, STEPS[Refiner])
        else:
            told, steps = coarse, STEPS[ChainDecoder]
            if inverted:
                steps = INVERSION_STEPS
                start = level.to_noise(ca, carbonyl, coarse, steps)
            if asked is not None:
                ids = torch.tensor([level.spec.label_ids(str(label)) for label in asked[rows]])
                told = replace_labels(coarse, ids)
            found = level.to_structure(start, told, steps, guidance)
        spent += time.process_time() - began
        for place, row in enumerate(rows):
            made[row] = found[0][place, : lengths[row]], found[1][place, : lengths[row]]
    raw, relaxed = (relax_all(made, steps, FREE, "experiment", said=False) for steps in (0, RELAX_STEPS))
    return raw, relaxed, spent / len(lengths)


def shown(values: np.ndarray, figures: int = 2) -> str:
    """A mean with its interval over domains."""
    found = mean_estimate(values, SETTINGS, np.random.default_rng(0))
    return f"{found.value:.{figures}f} ({found.low:.{figures}f}-{found.high:.{figures}f})"


def judged(ground: Ground, made: Atoms, classes: np.ndarray) -> list[str]:
    """Helix and strand of each class and of all, and the share of physically valid structures."""
    rows = zip(ground.domains.ids, made, classes, strict=True)
    prepared = [PreparedStructure.of(as_backbone(name, atoms), str(label)) for name, atoms, label in rows]
    helices, strands = (np.array([share(one) for one in prepared]) for share in (helix, strand))
    cells = []
    for label in [*sorted(set(classes.tolist())), "all"]:
        chosen = np.full(len(classes), True) if label == "all" else classes == label
        cells.append(f"{shown(helices[chosen])} / {shown(strands[chosen])}")
    return [*cells, shown(np.array([physically_valid(one) for one in prepared]))]


def distance_rows(ground: Ground, levels: dict[str, ChainDecoder | Refiner], codes: list[str]) -> None:
    """Print how each level completes codes under the own label."""
    classes, real = ground.classes, [np.asarray(c, np.float32) for c in ground.domains.coords]
    names = [f"helix / strand {label}" for label in [*sorted(set(classes.tolist())), "all"]]
    columns = ["level", "numbers", "noise", "n", "state", *names, "physically valid"]
    print("\t".join([*columns, "CA RMSD, Å", "moved by relaxation, Å (median)", "structures/CPU s"]), flush=True)
    print("\t".join(["real", "", "", str(len(real)), "", *judged(ground, real, classes), "", "", ""]), flush=True)
    for code in codes:
        kept, noise = int(code.partition(":")[0]), float(code.partition(":")[2])
        for name, level in levels.items():
            raw, relaxed, seconds = build(ground, level, kept, noise)
            moved = [rmsd(a[:, 1], b[:, 1]) for a, b in zip(raw, relaxed, strict=True)]
            for state, made in (("raw", raw), ("relaxed", relaxed)):
                error = np.array([rmsd(a[:, 1], b[:, 1]) for a, b in zip(made, real, strict=True)])
                row = [name, str(kept), f"{noise:g}", str(len(real)), state, *judged(ground, made, classes)]
                last = [f"{np.median(moved):.2f}", f"{1 / seconds:.1f}"] if state == "relaxed" else ["", ""]
                print("\t".join([*row, shown(error), *last]), flush=True)


def told_labels(classifier: FoldClassifier, made: Atoms) -> list[np.ndarray]:
    """The class and the architecture that the fold classifier gives each structure."""
    with torch.no_grad():
        described = describe_traces([np.asarray(atoms[:, 1], np.float32) for atoms in made], torch.device("cpu"))
        likely = classifier.posterior(classifier.features(described))
    return [np.array(classifier.spec.vocabulary[level])[likely[level].argmax(-1).numpy()] for level in (0, 1)]


def other_labels(own: np.ndarray, training: Sequence[str]) -> np.ndarray:
    """An architecture of another class for each class of `own`, as often as training has it, of at least 50 domains."""
    rng, counts = np.random.default_rng(0), Counter(truncate(label, 2) for label in training)
    known = sorted(name for name, count in counts.items() if count >= COMMON and name.count(".") == 1)
    found = []
    for label in own:
        names = [name for name in known if truncate(name, 1) != label]
        weights = np.array([counts[name] for name in names], float)
        found.append(rng.choice(names, p=weights / weights.sum()))
    return np.array(found)


def freed(model: Path, domains: DomainSet, guidance: float) -> Callable[[np.ndarray], DomainSet]:
    """A function from labels to the domains with CA as the model decodes them under these labels.

    The flow of the model maps the code of each domain to noise under the own label, as in `flow_prior`, and, with
    `guidance`, to a code under the label asked for.
    """
    sampler = load_sampler(model, package_model() / "refiner")
    assert sampler.flow is not None
    flow, lengths = sampler.flow, torch.from_numpy(domains.lengths)
    noise = flow.to_noise(sampler.infer(domains).mean, domains.label_ids(sampler.spec), lengths)

    def under(asked: np.ndarray) -> DomainSet:
        labels = torch.tensor([sampler.spec.label_ids(str(label)) for label in asked])
        traces = sampler.decode(flow.to_codes(noise, labels, lengths, guidance), labels, lengths)
        pairs = zip(domains.coords, traces, strict=True)
        moved = tuple(own + (trace.numpy() - own[:, 1])[:, None] for own, trace in pairs)
        return replace(domains, coords=moved)

    return under


def swap_rows(
    ground: Ground,
    name: str,
    level: ChainDecoder,
    classifier: FoldClassifier,
    numbers: list[int],
    inverted: bool = False,
    under: Callable[[np.ndarray], DomainSet] | None = None,
    how: str = "",
) -> None:
    """Print how often the requested label results from the first dimensions of a code, for the own label and another.

    `under` gives the domains whose traces are used instead of the own; `how` is printed behind the label.
    """
    own = np.array([truncate(label, 2) for label in ground.domains.labels])
    real = [np.asarray(c, np.float32) for c in ground.domains.coords]
    other = other_labels(ground.classes, ground.training)
    names = [f"helix / strand {label}" for label in [*sorted(set(ground.classes.tolist())), "all"]]
    columns = ["level", "numbers", "label", "n", "class asked", "architecture asked", *names, "physically valid"]
    print("\t".join([*columns, "CA RMSD to the own structure, Å", "TM-score to it"]), flush=True)

    def row(label: str, kept: int | str, made: Atoms, asked: np.ndarray) -> None:
        wanted = [np.array([truncate(name, depth) for name in asked]) for depth in (1, 2)]
        told = zip(told_labels(classifier, made), wanted, strict=True)
        followed = [shown((found == each).astype(float)) for found, each in told]
        error = np.array([rmsd(a[:, 1], b[:, 1]) for a, b in zip(made, real, strict=True)])
        tm = tm_scores([(a[:, 1], b[:, 1]) for a, b in zip(made, real, strict=True)])
        first = [name, str(kept), label, str(len(made)), *followed]
        print("\t".join([*first, *judged(ground, made, wanted[0]), shown(error), shown(tm)]), flush=True)

    row("real", "", real, own)
    for kept in numbers:
        for label, asked in (("own", own), ("another", other)):
            guidance = 1.0 if inverted and label == "own" else 2.0
            source = replace(ground, domains=under(asked)) if under else ground
            made = build(source, level, kept, 1.0, asked, guidance, inverted)[1]
            row(f"{label}{how}", kept, made, asked)


def probe_rows(ground: Ground, name: str, level: ChainDecoder, numbers: list[int]) -> None:
    """Print the class skill of probes of code and noise, the norm of the noise, and the error of each level."""
    classes = ground.classes
    groups = np.array([superfamily(label) or label for label in ground.domains.labels])
    columns = ["level", "numbers", "n", "class skill of the code", "of the noise", "squared norm a number of the noise"]
    print("\t".join([*columns, "CA RMSD of the code, Å", "of code and noise"]), flush=True)

    def skill(seen: np.ndarray) -> str:
        found = [probe_predictions(seen, classes, groups, probe, 0) for probe in PROBES]
        best = max(found, key=lambda each: each.skill).estimate(SETTINGS, np.random.default_rng(0))
        return f"{best.value:.2f} ({best.low:.2f}-{best.high:.2f})"

    for kept in numbers:
        count = len(classes)
        codes, features = np.zeros((count, kept)), np.zeros((count, 0))
        norm, coarse_error, both_error = np.zeros(count), np.zeros(count), np.zeros(count)
        for rows in by_length(ground.domains.lengths, 2048):
            ca, carbonyl, coarse = ground.coarse(level, rows, kept)
            coefficients = encode_trace(ca, coarse.mask, ground.spec.model.coefficients)[0].flatten(1)
            with torch.no_grad():
                codes[rows] = ground.linear.encode(coefficients - ground.linear.center)[:, :kept]
            noise = level.to_noise(ca, carbonyl, coarse, INVERSION_STEPS)
            seen = noise_features(noise, coarse.mask)
            features = features if features.size else np.zeros((count, seen.shape[1]))
            features[rows], sizes = seen, coarse.mask.sum(1)
            norm[rows] = noise.square().sum((1, 2)) / (6 * sizes)
            back = level.to_structure(noise, coarse, INVERSION_STEPS)[0]
            for errors, made in ((coarse_error, coarse.trace), (both_error, back)):
                errors[rows] = ((made - ca).square().sum((1, 2)) / sizes).sqrt()
        row = [name, str(kept), str(count), skill(codes), skill(features), shown(norm)]
        print("\t".join([*row, shown(coarse_error), shown(both_error)]), flush=True)


def underflow_rows(ground: Ground, levels: dict[str, ChainDecoder | Refiner]) -> None:
    """Print the CPU time of one evaluation with features of far pairs that may underflow and with the bound on them."""
    rows = np.argsort(ground.domains.lengths)[-16:]
    print("level\tresidues\twithout the bound, CPU s\twith it", flush=True)
    bound = layers.LEAST_EXPONENT
    for name, level in levels.items():
        coarse = ground.coarse(level, rows, 64)[2]
        state, at = (
            torch.randn((*coarse.mask.shape, 6), generator=torch.Generator().manual_seed(0)),
            torch.full((16,), 0.5),
        )
        spent: dict[float, list[float]] = {-1e9: [], bound: []}
        for _ in range(5):
            for least, seconds in spent.items():
                layers.LEAST_EXPONENT = least
                began = time.process_time()
                with torch.no_grad():
                    told = (coarse,) if isinstance(level, ChainDecoder) else (coarse.trace, coarse.mask)
                    level(state, at, *told)
                seconds.append(time.process_time() - began)
        found = "\t".join(f"{np.median(seconds):.3f}" for seconds in spent.values())
        print(f"{name}\t{int(coarse.mask.sum())}\t{found}", flush=True)
    layers.LEAST_EXPONENT = bound


def main() -> None:
    """Read, build, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("splits", type=Path)
    parser.add_argument("--level", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--prototype", type=Path)
    parser.add_argument("--classifier", type=Path)
    parser.add_argument("--every", type=int, default=6, help="use every n-th held-out domain of at most 128 residues")
    parser.add_argument("--per-class", type=int, help="use that many random domains of each class instead")
    parser.add_argument("--codes", nargs="*", default=["64:0.25", "32:0.5", "16:1"], metavar="NUMBERS:NOISE")
    parser.add_argument("--swap", nargs="*", type=int, default=[], metavar="NUMBERS")
    parser.add_argument("--free", nargs="*", type=int, default=[], metavar="NUMBERS")
    parser.add_argument(
        "--model", type=Path, default=package_model() / "model", help="the model whose codes --free uses"
    )
    parser.add_argument("--guidance", type=float, default=1.0, help="of that model's flow, under the label asked for")
    parser.add_argument("--invert", nargs="*", type=int, default=[], metavar="NUMBERS")
    parser.add_argument("--probe", nargs="*", type=int, default=[], metavar="NUMBERS")
    parser.add_argument("--underflow", action="store_true", help="CPU time of one evaluation, see `layers.nearness`")
    given = parser.parse_args()
    levels = {name: load_second_level(Path(path)) for name, _, path in (one.partition("=") for one in given.level)}
    if given.prototype:
        levels["prototype"] = load_prototype(given.prototype)
    by_split = read_split(given.store, given.splits)
    train, test = by_split["train"], by_split["test"].first_conformations()
    spec = make_spec("pca", 0, ModelSettings(), DecoderSettings(), 1, train, {})
    linear = fit_components(train, spec, spec.model.latent)
    rows = np.flatnonzero(test.lengths <= 128)[:: given.every]
    if given.per_class:
        rows, first = np.flatnonzero(test.lengths <= 128), np.array([label[0] for label in test.labels])
        draw, chosen = np.random.default_rng(0), []
        for label in spec.vocabulary[0]:
            members = rows[first[rows] == label]
            chosen += draw.choice(members, min(given.per_class, len(members)), replace=False).tolist()
        rows = np.sort(chosen)
    ground = Ground(test.take(rows), spec, linear, left_out(train, spec, linear), train.labels)
    print(
        f"# 64 scores leave {3**0.5 * ground.sigma:.2f} Å of training traces; {len(rows)} held-out domains", flush=True
    )
    if given.codes:
        distance_rows(ground, levels, given.codes)
    for numbers, inverted, how in ((given.swap, False, ""), (given.invert, True, ", inverted")):
        for name, level in levels.items():
            if numbers and isinstance(level, ChainDecoder):
                swap_rows(ground, name, level, read_classifier(given.classifier), numbers, inverted, how=how)
    if given.free:
        under, how = freed(given.model, ground.domains, given.guidance), f", label removed, guidance {given.guidance:g}"
        for name, level in levels.items():
            if isinstance(level, ChainDecoder):
                swap_rows(ground, name, level, read_classifier(given.classifier), given.free, under=under, how=how)
    if given.underflow:
        underflow_rows(ground, levels)
    for name, level in levels.items():
        if given.probe and isinstance(level, ChainDecoder):
            probe_rows(ground, name, level, given.probe)


if __name__ == "__main__":
    main()
