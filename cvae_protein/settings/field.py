"""What a setting is made of."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """A dataclass field with its meaning and its bounds (`ge`, `gt`, `le`, `lt`, `min_length`)."""
    metadata = {"help": help, "bounds": bounds}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)
