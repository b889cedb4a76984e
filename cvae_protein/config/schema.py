"""Describes the configuration for programs (JSON schema) and people (table of keys), from `config/settings.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import pydantic
import yaml

from .load import expected, settings_fields
from .settings import Settings

WRITTEN_BY = "Written by `make schema` from cvae_protein/config/settings.py; edit that file instead."
GUIDE = """\
`config.yaml` is the file to edit. A key left out of it has its default; where the file as supplied sets another value,
the table lists both. An unknown key stops the run before its first job, and the message names the nearest valid one.
`snakemake --configfile config/examples/NAME.yaml` applies another file on top of `config.yaml`,
`snakemake --config seeds=0,1 'train={"steps": 500}'` sets single keys. Give each experiment its own `results`.

| key | meaning | allowed | default |
|---|---|---|---|
"""


def schema() -> dict[str, Any]:
    """JSON schema of the configuration file, with meanings, defaults and bounds."""
    found: dict[str, Any] = _without_titles(pydantic.TypeAdapter(Settings).json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of cvae_protein",
        **found,
    }


def schema_text() -> str:
    """The schema as YAML, the content of `workflow/schemas/config.schema.yaml`."""
    return f"# {WRITTEN_BY}\n" + yaml.safe_dump(schema(), sort_keys=False, allow_unicode=True, width=120)


def guide(base: Settings) -> str:
    """The keys of the configuration as a Markdown page, the content of `config/README.md`.

    `base` are the settings of the distributed `config.yaml`; those that differ from the defaults are shown.
    """
    rows = "".join(f"| {' | '.join(row)} |\n" for row in _rows(Settings(), base, ""))
    return f"<!-- {WRITTEN_BY} -->\n\n# Configuration\n\n{GUIDE}{rows}"


def _rows(defaults: Any, base: Any, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Key, meaning, range and default of every setting in a section, and its value in `base` if different."""
    for field, hint in settings_fields(type(defaults)):
        name, default, own = f"{prefix}{field.name}", getattr(defaults, field.name), getattr(base, field.name)
        if is_dataclass(hint):
            yield f"**`{name}`**", field.metadata["description"], "", ""
            yield from _rows(default, own, f"{name}.")
        else:
            said = _cell(default) + (f"; in `config.yaml` {_cell(own)}" if own != default else "")
            yield f"`{name}`", field.metadata["description"], expected(hint, field.metadata), said


def _cell(value: Any) -> str:
    return f"`{', '.join(map(str, value)) if isinstance(value, tuple) else value}`"


def _without_titles(node: Any) -> Any:
    """A schema without titles, which repeat the keys."""
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if key != "title" or isinstance(value, dict)}
        return {key: _without_titles(value) for key, value in kept.items()}
    return [_without_titles(value) for value in node] if isinstance(node, list) else node
