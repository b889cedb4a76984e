"""The specification of a trained model, as JSON: enough to rebuild it and to know where it came from."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..config.settings import DecoderSettings, ModelSettings, RefineSettings
from ..core.errors import UserError
from ..core.files import atomic_path, check_may_read
from ..core.labels import label_ids


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any] | None = None) -> None:
    """Write tensors, and `facts` as JSON in the header, to a safetensors file, with a checksum over both."""
    clean = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    written = json.dumps(facts or {}, sort_keys=True)
    signed = json.dumps({"facts": written, "crc32": _checksum(clean, written)}, sort_keys=True)
    with atomic_path(path) as temporary:
        try:
            save_file(clean, temporary, metadata={"signed": signed})  # one key: the order of several is not fixed
        except SafetensorError as error:  # as on a full disk
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error), str(path)) from error


def _checksum(tensors: dict[str, Tensor], facts: str) -> int:
    """CRC-32 of facts, names, types, shapes and values: the format itself has none."""
    found = zlib.crc32(facts.encode())
    for name, value in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), found)
        found = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().tobytes(), found)
    return found


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file that `save_tensors` wrote; `UserError` where it is damaged.

    `OSError` where it is absent or may not be read.
    """
    check_may_read(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            header = file.metadata() or {}
        if "facts" in header:  # written before files had a checksum
            return tensors, json.loads(header["facts"])
        signed = json.loads(header.get("signed", "{}"))
        if signed.get("crc32") != _checksum(tensors, signed.get("facts", "")):
            raise ValueError("the checksum does not fit")
        return tensors, json.loads(signed["facts"])
    except (OSError, SafetensorError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); remove it and train again") from error


@dataclass(frozen=True)
class Spec:
    """Architecture, labels and origin of a model.

    `refine` are the settings of the second level. `vocabulary` lists, level by level, the labels seen in training; id 0
    stands for an unknown or hidden label. `lengths` gives the residue counts of the training domains of each label at
    every level.
    """

    variant: str
    seed: int
    model: ModelSettings
    refine: RefineSettings | DecoderSettings
    vocabulary: tuple[tuple[str, ...], ...]
    lengths: dict[str, tuple[int, ...]]
    origin: dict[str, Any]

    @property
    def depth(self) -> int:
        """Number of label levels."""
        return len(self.vocabulary)

    @property
    def of_start(self) -> frozenset[str]:
        """Labels known only to the model that training started from; none of its own training domains has them."""
        return frozenset(self.origin.get("start", {}).get("labels", ()))

    def folds(self) -> list[dict[str, str | int]]:
        """One row per label: `fold`, its training `domains`, and residues of the `shortest`, `median` and `longest`."""
        return [
            {
                "fold": fold,
                "domains": len(members),
                "shortest": min(members),
                "median": sorted(members)[len(members) // 2],
                "longest": max(members),
            }
            for fold, members in self.lengths.items()
            if members
        ]

    def label_ids(self, label: str) -> list[int]:
        """Ids of a dotted label at each level; 0 from the first level on that did not occur in training."""
        return label_ids(self.vocabulary, label)

    def to_json(self) -> str:
        """The spec as indented JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @staticmethod
    def read(path: Path) -> Spec:
        """The spec in a file; `UserError` where it is absent or of another form."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            second_level = DecoderSettings if data["variant"] == "decoder" else RefineSettings
            return Spec(
                variant=data["variant"],
                seed=data["seed"],
                model=ModelSettings(**data["model"]),
                refine=second_level(**data["refine"]),
                vocabulary=tuple(tuple(names) for names in data["vocabulary"]),
                lengths={label: tuple(lengths) for label, lengths in data["lengths"].items()},
                origin=data["origin"],
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: expected the spec.json of a trained model ({error})") from error
