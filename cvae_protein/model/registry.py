"""Variants and the trained model of the package: built by name, loaded from a folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from ..config.settings import DecoderSettings
from ..core import pretrained, variants
from ..core.errors import UserError
from .cvae import CVAE
from .decoder import ChainDecoder
from .refiner import Refiner
from .spec import Spec, load_tensors

SECOND_LEVELS = ("refiner", "decoder")


def variant(name: str) -> ModuleType:
    """The module that builds a variant; `UserError` where there is none of that name."""
    folder = importlib.import_module("..variants", __name__)
    wanted = Path(variants.find(name).file).stem
    if wanted not in (module.name for module in pkgutil.iter_modules(folder.__path__)):
        hint = f"; it is now {variants.RENAMED[name]}" if name in variants.RENAMED else ""
        raise UserError(f"variant: expected one of {', '.join(variants.names())}, got {name!r}{hint}")
    return importlib.import_module(f"{folder.__name__}.{wanted}")


def load_model(folder: Path) -> CVAE:
    """Rebuild a model alone, without flow and refiner; `UserError` where a file is absent or does not fit."""
    spec = Spec.read(folder / "spec.json")
    model: CVAE = variant(spec.variant).build(spec)
    load_weights(model, "cvae.", folder, load_tensors(folder / "weights.safetensors")[0])
    return model


def load_weights(module: nn.Module, prefix: str, source: Path, tensors: Mapping[str, Tensor]) -> None:
    """Load into a module the weights whose names start with `prefix`, and set it to evaluation mode."""
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{source}: weights do not fit the spec ({str(error).splitlines()[0]})") from error
    module.eval()


def load_second_level(folder: Path) -> Refiner | ChainDecoder:
    """Rebuild a refiner or a decoder over whole chains; `UserError` where a file is absent or does not fit."""
    spec, tensors = Spec.read(folder / "spec.json"), load_tensors(folder / "weights.safetensors")[0]
    if isinstance(spec.refine, DecoderSettings):
        decoder = ChainDecoder(spec)
        load_weights(decoder, "decoder.", folder, tensors)
        return decoder
    refiner = Refiner(spec.refine)
    load_weights(refiner, "refiner.", folder, tensors)
    return refiner


def resolve(model: Path, refiner: Path | None) -> tuple[Path, Path]:
    """Folders of a model and of its second level.

    The name `pretrained`, or a version of it such as `pretrained@1`, stands for the package's model; a folder of that
    name is given as `./pretrained`. A second level is a folder, or `refiner` or `decoder`: the one of the same seed
    beside the model, in the package or in the models folder of a run. The default is the refiner, or the decoder if
    there is no refiner. Raises `UserError` if the package has no such model.
    """
    if pretrained.is_named(str(model)):
        folder = pretrained.package_model(str(model))
        model, beside = folder / "model", {name: folder / name for name in SECOND_LEVELS}
    else:
        beside = {name: model.parent.parent / name / model.name for name in SECOND_LEVELS}
    if refiner is not None:
        return model, beside.get(str(refiner), refiner)
    return model, next((folder for folder in beside.values() if folder.is_dir()), beside["refiner"])
