"""The trained model that comes with the package: what the name `reference` stands for."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import UserError

NAME = "reference"
FOLDER = Path(__file__).parents[1] / NAME  # model/ and refiner/, each with spec.json and weights.safetensors


def resolve(model: Path, refiner: Path | None) -> tuple[Path, Path]:
    """Folders of a model and of its refiner.

    The name `reference` stands for the package's model; a folder of that name is given as `./reference`. Without
    `refiner`, a model's is the one beside it in the models folder of a run, of the same seed. Raises `UserError` where
    the package has no model.
    """
    if str(model) != NAME:
        return model, refiner or model.parent.parent / "refiner" / model.name
    if not (FOLDER / "model/spec.json").is_file():
        raise UserError(
            f"reference: expected a model in {FOLDER}, found none; this copy of the package has no reference model. "
            "Train one with `make run` and give its folder, such as results/models/concat/seed0"
        )
    return FOLDER / "model", refiner or FOLDER / "refiner"
