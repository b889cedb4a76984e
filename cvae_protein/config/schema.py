"""The configuration described for programs (JSON schema) and people (a table of keys), from `config/settings.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, is_dataclass
from typing import Any

import pydantic
import yaml

from .load import expected, settings_fields
from .settings import Settings

WRITTEN_BY = "Written by `make schema` from cvae_protein/config/settings.py; edit that file instead."
GUIDE = """\
`config.yaml` is the file to edit. A key that is left out keeps its default; a key that does not exist stops the run
before its first job and names the nearest right one. `snakemake --configfile config/examples/NAME.yaml` lays another
file over it, `snakemake --config seeds=0,1 'train={"steps": 500}'` single keys. Give each experiment its own `results`.

| key | what it is | allowed | default |
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
    """The schema as YAML, as it stands in `workflow/schemas/config.schema.yaml`."""
    return f"# {WRITTEN_BY}\n" + yaml.safe_dump(schema(), sort_keys=False, allow_unicode=True, width=120)


def guide() -> str:
    """The keys of the configuration as a Markdown page, as it stands in `config/README.md`."""
    rows = "".join(f"| {' | '.join(row)} |\n" for row in _rows(Settings, ""))
    return f"<!-- {WRITTEN_BY} -->\n\n# Configuration\n\n{GUIDE}{rows}"


def _rows(kind: type, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Key, meaning, range and default of every setting below a settings dataclass."""
    for field, hint in settings_fields(kind):
        name = f"{prefix}{field.name}"
        if is_dataclass(hint):
            yield f"**`{name}`**", field.metadata["description"], "", ""
            yield from _rows(hint, f"{name}.")  # type: ignore[arg-type]
        else:
            value = field.default if field.default_factory is MISSING else field.default_factory()
            default = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            yield f"`{name}`", field.metadata["description"], expected(hint, field.metadata), f"`{default}`"


def _without_titles(node: Any) -> Any:
    """A schema without the titles that repeat the keys."""
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if key != "title" or isinstance(value, dict)}
        return {key: _without_titles(value) for key, value in kept.items()}
    return [_without_titles(value) for value in node] if isinstance(node, list) else node
