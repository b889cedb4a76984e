"""A small network that predicts the fold class of a CA trace, level by level, from averages along the chain.

It sees only distances, angles and handedness, so a rigid motion changes nothing but a mirror image does. Neither the
sequence nor the other atoms are used, so that real domains, samples and CA traces are treated alike. It uses averages
over residues, since a network along the chain memorised the training superfamilies (docs/history/diary.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.settings import ClassifierSettings
from ..core.errors import UserError
from ..core.files import atomic_path, sha256
from ..core.labels import label_ids, truncate
from ..core.progress import Progress, say
from ..core.structure import CA
from ..store.layout import TEXT
from ..store.read import Store
from ..store.write import new_file
from .batch import by_length, pad_traces
from .device import pick_device
from .spec import load_tensors

FEWEST = 5  # CA that a trace needs
SEPARATIONS = (3, 6, 11, 21, 41)  # residues along the chain at which each kind of contact begins
NEAR, FAR = (8.0, 1.0), (12.0, 1.5)  # Å: distance and softness of a contact
ALONG = (2, 3, 4, 5)  # residues along the chain to which distances are taken
LAGS = (8, 14, 20, 28)  # residues along the chain between the two states of a counted pair
LOCAL, CONTACTS = 2 * len(ALONG) + 3, 4 * 2 * len(SEPARATIONS)
INPUTS = 2 * (LOCAL + CONTACTS) + 2 * (CONTACTS + 1) + 4 * len(LAGS) + 1
MOST = 5.0  # standard deviations of training at which an input is clamped


@dataclass(frozen=True)
class ClassifierSpec:
    """The specification of a fold classifier: its size, the training labels at each level, and its origin.

    `temperatures` divide the logits of each level (Guo et al. 2017, arXiv:1706.04599).
    """

    settings: ClassifierSettings
    seed: int
    vocabulary: tuple[tuple[str, ...], ...]
    temperatures: tuple[float, ...]
    origin: dict[str, Any]

    def label_ids(self, label: str) -> list[int]:
        """Ids of a dotted label at each level; 0 from the first level on that did not occur in training."""
        return label_ids(self.vocabulary, label)

    def to_json(self) -> str:
        """The spec as indented JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @staticmethod
    def read(path: Path) -> ClassifierSpec:
        """The spec in a file; `UserError` where it is absent or of another form."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            vocabulary = tuple(tuple(names) for names in data["vocabulary"])
            settings = ClassifierSettings(**data["settings"])
            return ClassifierSpec(settings, data["seed"], vocabulary, tuple(data["temperatures"]), data["origin"])
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: expected the spec.json of a trained fold classifier ({error})") from error


def _shifted(x: Tensor, offset: int) -> Tensor:
    """`x` (B, L, ...) of the residue `offset` further on; the chain's ends wrap around."""
    return torch.roll(x, -offset, 1)


def _inside(mask: Tensor, first: int, last: int) -> Tensor:
    """Where the residues from `first` to `last` steps along the chain exist (B, L)."""
    place, length = torch.arange(mask.shape[1], device=mask.device), mask.sum(1, keepdim=True)
    return mask & (place + first >= 0) & (place + last < length)


def _local(ca: Tensor, mask: Tensor) -> Tensor:
    """Distances along the chain, cosine of the angle and sine and cosine of the torsion at each CA (B, L, 11)."""
    parts = []
    for offset in (*ALONG, *(-k for k in ALONG)):
        there = _inside(mask, min(0, offset), max(0, offset))
        parts.append((there * (_shifted(ca, offset) - ca).norm(dim=-1) / 5)[..., None])
    steps = [F.normalize(_shifted(ca, k + 1) - _shifted(ca, k), dim=-1) for k in (-1, 0, 1)]
    across, onward = torch.linalg.cross(steps[0], steps[1]), torch.linalg.cross(steps[1], steps[2])
    bend = (steps[0] * steps[1]).sum(-1, keepdim=True) * _inside(mask, -1, 1)[..., None]
    sine = (torch.linalg.cross(across, onward) * steps[1]).sum(-1, keepdim=True)
    turn = F.normalize(torch.cat([sine, (across * onward).sum(-1, keepdim=True)], -1), dim=-1)
    return torch.cat([*parts, bend, turn * _inside(mask, -1, 2)[..., None]], dim=-1)


def _contacts(ca: Tensor, mask: Tensor) -> Tensor:
    """Contacts of each CA by their distance along the chain: number, parallelism, handedness (B, L, 40)."""
    length = ca.shape[1]
    direction = F.normalize(_shifted(ca, 1) - _shifted(ca, -1), dim=-1) * _inside(mask, -1, 1)[..., None]
    between = ca[:, None] - ca[:, :, None]  # (B, i, j, 3), from i to j
    distance = between.norm(dim=-1)
    pair = (mask[:, :, None] & mask[:, None]).to(ca.dtype)
    near, far = (pair * torch.sigmoid((radius - distance) / soft) for radius, soft in (NEAR, FAR))
    # The handedness of crossing: the triple product of both directions and the unit vector from i to j.
    normal = torch.linalg.cross(direction[:, :, None].expand_as(between), direction[:, None].expand_as(between))
    handed = (normal * between).sum(-1) / distance.clamp(min=1.0)
    parallel = direction @ direction.mT
    place = torch.arange(length, device=ca.device)
    apart = place - place[:, None]
    bounds = (*SEPARATIONS, length + SEPARATIONS[-1])
    kinds = [(sign * apart >= a) & (sign * apart < b) for a, b in pairwise(bounds) for sign in (1, -1)]
    kind = torch.stack(kinds).to(ca.dtype)  # (10, L, L)
    found = [torch.einsum("bij,kij->bik", x, kind) for x in (near, far / 3, near * parallel, far * handed / 3)]
    return torch.cat(found, dim=-1) / 2


def _states(local: Tensor) -> Tensor:
    """How helix-like and strand-like each residue is, by distances and torsion along the chain (B, L, 2)."""
    two, three = 5 * local[..., 0], 5 * local[..., 1]
    right_handed = (local[..., LOCAL - 2] > 0.3).to(local.dtype)
    helix = torch.exp(-(((two - 5.5) / 0.5) ** 2) - ((three - 5.2) / 0.7) ** 2) * right_handed
    strand = torch.sigmoid((two - 6.1) / 0.2) * torch.sigmoid((three - 9.0) / 0.4)
    return torch.stack([helix, strand], dim=-1)


def trace_features(ca: Tensor, mask: Tensor) -> Tensor:
    """Averages over the residues of padded CA traces (B, L, 3) in Å: (B, INPUTS).

    Mean and spread of distances along the chain, angles and contacts; contacts of helix- and strand-like residues; how
    often one state follows another; log length.
    """
    inside, length = mask[..., None].to(ca.dtype), mask.sum(1, keepdim=True).to(ca.dtype)
    local, contacts = _local(ca, mask) * inside, _contacts(ca, mask) * inside
    both = torch.cat([local, contacts], dim=-1)
    mean = both.sum(1) / length
    spread = (((both - mean[:, None]) * inside).square().sum(1) / length).sqrt()
    states = _states(local) * inside
    of_state = torch.einsum("bls,blc->bsc", states, contacts) / length[..., None]
    parts = [mean, spread, states.sum(1) / length, of_state.flatten(1)]
    for lag in LAGS:
        there = torch.roll(states, -lag, 1) * _inside(mask, 0, lag)[..., None]
        parts.append((torch.einsum("bls,blt->bst", states, there) / length[..., None]).flatten(1))
    return torch.cat([*parts, torch.log(length / 100)], dim=-1)


class FoldClassifier(nn.Module):
    """`trace_features` of CA traces (B, INPUTS) -> features, and log probabilities of the labels of each level.

    The labels form a tree: a level's network distinguishes the children of each parent, and a label's probability is
    its parent's times that. So the probabilities of a parent's children sum to its own.
    """

    middle: Tensor
    spread: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        own = spec.settings
        self.spec = spec
        self.layers = nn.Sequential(
            nn.Dropout(own.dropout / 2),
            nn.Linear(INPUTS, own.width),
            nn.GELU(),
            nn.Dropout(own.dropout),
            nn.Linear(own.width, own.features),
        )
        self.tell = nn.ModuleList(nn.Linear(own.features, len(names)) for names in spec.vocabulary)
        for name, size in (("middle", INPUTS), ("spread", INPUTS), ("centre", own.features), ("scale", own.features)):
            self.register_buffer(name, torch.full((size,), float(name in ("spread", "scale"))))
        for level, parents in enumerate(_parents(spec.vocabulary)):
            self.register_buffer(f"parents{level}", parents, persistent=False)

    def features(self, described: Tensor) -> Tensor:
        """Features (B, F), before standardisation."""
        return self.layers(((described - self.middle) / self.spread).clamp(-MOST, MOST))

    def forward(self, described: Tensor) -> list[Tensor]:
        """Log probabilities (B, labels) of each level."""
        return self.posterior(self.features(described))

    def logits(self, features: Tensor) -> list[Tensor]:
        """Logits (B, labels) of each level, comparable among the children of one parent."""
        return [head(F.gelu(features)) for head in self.tell]

    def posterior(self, features: Tensor, temperatures: tuple[float, ...] = ()) -> list[Tensor]:
        """Log probabilities of each level from features (B, F); the spec's temperatures unless others are given."""
        predicted: list[Tensor] = []
        for level, logits in enumerate(self.logits(features)):
            logits = logits / (temperatures or self.spec.temperatures)[level]
            parents: Tensor = getattr(self, f"parents{level}")
            families = torch.arange(int(parents.max()) + 1, device=logits.device)
            foreign = families[:, None] != parents
            total = logits[:, None].masked_fill(foreign, -torch.inf).logsumexp(-1)  # (B, parents)
            above = predicted[-1][:, parents] if level else 0.0
            predicted.append(above + logits - total[:, parents])
        return predicted


def _parents(vocabulary: tuple[tuple[str, ...], ...]) -> list[Tensor]:
    """For each level, the row of every label's parent among the labels above; at the first, all have one parent."""
    found = [torch.zeros(len(vocabulary[0]), dtype=torch.long)]
    for above, names in pairwise(vocabulary):
        found.append(torch.tensor([above.index(name.rpartition(".")[0]) for name in names], dtype=torch.long))
    return found


def deepest_label_loss(predicted: list[Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy in nats per structure of label ids (B, levels), 0 = unknown, each at its deepest known level."""
    depth = (labels > 0).sum(1)
    losses = [
        -predicted[level - 1][rows].gather(1, labels[rows, level - 1 : level] - 1)[:, 0]
        for level in range(1, len(predicted) + 1)
        if (rows := depth == level).any()
    ]
    return torch.cat(losses).sum() / len(labels) if losses else predicted[0].sum() * 0


def load_classifier(folder: Path) -> FoldClassifier:
    """Rebuild a fold classifier from its folder; `UserError` where a file is absent or does not fit."""
    classifier = FoldClassifier(ClassifierSpec.read(folder / "spec.json"))
    tensors, _ = load_tensors(folder / "weights.safetensors")
    try:
        classifier.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{folder}: weights do not fit the spec ({str(error).splitlines()[0]})") from error
    return classifier.eval()


SEEN_AT_ONCE = 4096  # padded residues; memory grows with them times the length


@torch.no_grad()
def describe_traces(traces: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """`trace_features` (D, INPUTS) of CA traces (L, 3) in Å; NaN for fewer than five CA."""
    enough = np.flatnonzero([len(trace) >= FEWEST for trace in traces])
    found = torch.full((len(traces), INPUTS), torch.nan)
    for places in by_length([len(traces[row]) for row in enough.tolist()], SEEN_AT_ONCE):
        rows = enough[places].tolist()
        ca, mask = pad_traces([torch.from_numpy(traces[row]).float() for row in rows])
        found[rows] = trace_features(ca.to(device), mask.to(device)).cpu()
    return found


def embed(classifier: Path, stores: Sequence[Path], output: Path) -> None:
    """Embed the first conformation of every structure of some stores with the fold classifier.

    Writes into the folder `output`, for each store a file of the same name: `id` and `label` (n), `feature` (n, F)
    standardised over the training domains, `level1`, `level2`, … the probabilities (n, labels), whose attribute
    `labels` names the columns; attribute `classifier` is the hash of its weights. NaN where a structure has fewer than
    five CA.
    """
    if len({path.name for path in stores}) < len(stores):
        raise UserError("embed: expected stores of different file names, since each names its file of features")
    net = load_classifier(classifier).to(pick_device("embed"))
    weights = sha256(classifier / "weights.safetensors")[:16]
    progress = Progress("embed", len(stores), "stores")
    with atomic_path(output) as folder:
        folder.mkdir()
        for path in stores:
            _embed(net, path, folder / path.name, weights)
            progress.advance()


@torch.no_grad()
def _embed(classifier: FoldClassifier, path: Path, output: Path, weights: str) -> None:
    with Store(path) as store:
        names = store.ids
        coords = [store.coords(store.rows(name)[0]) for name in names]
        labels = [str(store.fact(name, "label")) if "label" in store.columns else "" for name in names]
    classes = classifier.spec.vocabulary[0]
    unknown = [label for label in labels if label and truncate(label, 1) not in classes]
    if unknown and len(unknown) == sum(map(bool, labels)):
        said = f"none of its {len(unknown)} labels, such as {unknown[0]}, is known to the classifier"
        say("embed", f"{path}: {said}, which tells {', '.join(classes)} apart")
    device = classifier.centre.device
    traces = [c[np.isfinite(c[:, CA]).all(-1), CA] for c in coords]
    seen = classifier.features(describe_traces(traces, device).to(device))
    predicted = classifier.posterior(seen)
    with new_file(output) as file:
        file.attrs["classifier"] = weights
        for column, words in (("id", names), ("label", labels)):
            file.create_dataset(column, data=np.array(words, object), dtype=TEXT)
        file["feature"] = ((seen - classifier.centre) / classifier.scale).cpu().numpy()
        for level, (p, known) in enumerate(zip(predicted, classifier.spec.vocabulary, strict=True), 1):
            data = file.create_dataset(f"level{level}", data=p.exp().cpu().numpy())
            data.attrs.create("labels", np.array(known, object), dtype=TEXT)
