"""The variants: each file here is one, with `build(spec)` and, where it adds terms, `extra_terms(model, ...)`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from ...core.errors import UserError


def names() -> list[str]:
    """Names of all variants, by listing this folder."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(importlib.import_module(__package__).__path__)
        if module.name != "registry"
    )


def variant(name: str) -> ModuleType:
    """The module of a variant; `UserError` where there is none of that name."""
    if name not in names():
        raise UserError(f"variant: expected one of {', '.join(names())}, got {name!r}")
    return importlib.import_module(f"{__package__}.{name}")


def is_trained(name: str) -> bool:
    """Whether a variant is trained, or is only fitted as the baseline is."""
    return bool(getattr(variant(name), "TRAINED", True))


def has_own_flow(name: str) -> bool:
    """Whether the flow that is fitted to the codes is part of the model, so that its noise is the code."""
    return bool(getattr(variant(name), "OWN_FLOW", False))


def has_flow(name: str) -> bool:
    """Whether a flow is fitted to the variant's codes after its training; `pca` draws from a Gaussian a class."""
    return is_trained(name) or bool(getattr(variant(name), "FLOW", False))


def codes(name: str) -> str:
    """Where samples' codes come from: the `prior` of the settings, or a baseline's `copies` or `shuffled` labels."""
    return str(getattr(variant(name), "CODES", "prior"))
