"""What a trained model is, as JSON: enough to rebuild it and to know where it came from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config.settings import ModelSettings, RefineSettings
from ..core.errors import UserError
from ..core.labels import label_ids


@dataclass(frozen=True)
class Spec:
    """Architecture, labels and origin of a model.

    `vocabulary` lists, level by level, the labels seen in training; id 0 stands for an unknown or hidden label.
    `lengths` gives the residue counts of the training domains of each label at every level.
    """

    variant: str
    seed: int
    model: ModelSettings
    refine: RefineSettings
    vocabulary: tuple[tuple[str, ...], ...]
    lengths: dict[str, tuple[int, ...]]
    origin: dict[str, Any]

    @property
    def depth(self) -> int:
        """Number of label levels."""
        return len(self.vocabulary)

    def label_ids(self, label: str) -> list[int]:
        """Ids of a dotted label at each level, 0 from the first level on that training did not see."""
        return label_ids(self.vocabulary, label)

    def to_json(self) -> str:
        """The spec as indented JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @staticmethod
    def read(path: Path) -> Spec:
        """The spec in a file; `UserError` where it is absent or of another form."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return Spec(
                variant=data["variant"],
                seed=data["seed"],
                model=ModelSettings(**data["model"]),
                refine=RefineSettings(**data["refine"]),
                vocabulary=tuple(tuple(names) for names in data["vocabulary"]),
                lengths={label: tuple(lengths) for label, lengths in data["lengths"].items()},
                origin=data["origin"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: expected the spec.json of a trained model ({error})") from error
