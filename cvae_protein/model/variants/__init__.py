"""The variants: each file here is one, with `build(spec)` and, where it adds terms, `extra_terms(model, ...)`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from ...errors import UserError


def names() -> list[str]:
    """Names of all variants, by listing this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def variant(name: str) -> ModuleType:
    """The module of a variant; `UserError` where there is none of that name."""
    if name not in names():
        raise UserError(f"variant: expected one of {', '.join(names())}, got {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
