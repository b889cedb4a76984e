"""Loads a configuration (YAML file or mapping) and checks it against the settings; one line per mistake."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, asdict, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pydantic
import yaml

from ..core import variants
from ..core.errors import UserError
from ..core.labels import CLASSES, USUAL_CLASSES
from .settings import (
    LARGEST_SEED,
    DecoderSettings,
    LabelSettings,
    RefineSettings,
    SecondLevel,
    Settings,
    SplitSettings,
    TrainSettings,
)


def disagreements(settings: Any, prefix: tuple[str, ...]) -> Iterator[str]:
    """One line for each contradiction within a section or across the whole configuration."""
    dotted = "".join(f"{part}." for part in prefix)
    if check := CHECKS.get(type(settings)):
        yield from (f"{dotted}{line}" for line in check(settings))
    for field in fields(settings):
        if is_dataclass(value := getattr(settings, field.name)):
            yield from disagreements(value, (*prefix, field.name))


def _label_mistakes(labels: LabelSettings) -> Iterator[str]:
    if labels.min_length > labels.max_length:
        yield f"min_length: expected at most max_length, got {labels.min_length} > {labels.max_length}"
    if doubled := _doubled(labels.classes):
        yield f"classes: expected each class once, got {doubled} more than once"
    if labels.scheme == "cluster" and labels.depth > 1:
        yield f"depth: expected 1 for the scheme cluster, whose classes have one level, got {labels.depth}"
    if labels.scheme == "none" and labels.depth > 1:
        yield f"depth: expected 1 for the scheme none, which has one class, got {labels.depth}"
    known = CLASSES.get(labels.scheme, labels.classes)
    if labels.classes and not set(known) & set(labels.classes):
        example = ", ".join(USUAL_CLASSES[labels.scheme])
        yield f"classes: expected classes of {labels.scheme} such as {example}, got {', '.join(labels.classes)}"


def _split_mistakes(split: SplitSettings) -> Iterator[str]:
    if math.fsum((split.test, split.validation)) >= 1:
        yield f"test: expected test + validation < 1, got {split.test} + {split.validation}: no domain would train"
    if split.scheme == "file" and not (split.file and re.fullmatch("[0-9a-f]{64}", split.sha256)):
        yield (
            "scheme: expected file and sha256 with the scheme file, the frozen table and its SHA-256 in 64 small "
            f"hexadecimal digits, got {split.file!r} and {split.sha256!r}"
        )


def _train_mistakes(train: TrainSettings) -> Iterator[str]:
    if train.terms.schedule.kind == "target_rate":
        yield "terms.schedule.kind: expected constant, ramp, cosine or cycle; target_rate steers the divergence alone"
    if train.terms.compare_structures and train.batch_size < 2 * train.processes:
        yield f"batch_size: expected 2 or more a process where terms compare structures, got {train.batch_size}"


def _start_mistakes(second_level: RefineSettings | DecoderSettings) -> Iterator[str]:
    if not (second_level.steps or second_level.start):
        yield "steps: expected 1 or more, or `start` with the weights to take as they are, got 0"


def _refine_mistakes(refine: RefineSettings) -> Iterator[str]:
    if refine.width % refine.heads:
        yield f"heads: expected a divisor of width, got {refine.heads} heads for {refine.width} channels"
    yield from _start_mistakes(refine)


def _decoder_mistakes(decoder: DecoderSettings) -> Iterator[str]:
    if decoder.width % decoder.heads:
        yield f"heads: expected a divisor of width, got {decoder.heads} heads for {decoder.width} channels"
    yield from _start_mistakes(decoder)
    if decoder.depth % decoder.stages:
        yield f"stages: expected a divisor of depth, got {decoder.stages} stages for {decoder.depth} blocks"


def _run_mistakes(settings: Settings) -> Iterator[str]:
    known = variants.choices()
    for name in settings.variants:
        if name == variants.BASELINE:
            yield f"variants: {name} is trained in every run and is not listed"
        elif name in get_args(SecondLevel):
            yield f"variants: {name} is a second level, which `second_level` chooses, and is not listed"
        elif name not in known:
            near = (
                [variants.RENAMED[name]] if name in variants.RENAMED else difflib.get_close_matches(name, known, 1, 0.5)
            )
            said = f"; did you mean {near[0]}?" if near else ""
            yield f"variants: expected some of {', '.join(known)} (files in model/variants), got {name!r}{said}"
    if variants.FINE_TUNED in settings.variants and not settings.train.start:
        yield "train.start: expected `pretrained` or the folder of a trained model with the variant fine_tuned, got ''"
    if variants.PRETRAINED in settings.variants and settings.labels.scheme != "cath":
        scheme = settings.labels.scheme
        yield f"variants: expected no {variants.PRETRAINED} with labels.scheme {scheme}; its labels are those of cath"
    if doubled := _doubled(settings.variants):
        yield f"variants: expected each variant once, got {doubled} more than once"
    if doubled := _doubled(settings.seeds):
        yield f"seeds: expected each seed once, got {doubled} more than once"
    for seed in settings.seeds:
        if not 0 <= seed <= LARGEST_SEED:
            yield f"seeds: expected whole numbers ≥ 0 and ≤ {LARGEST_SEED}, got {seed}"
    results = settings.results
    if results.startswith(("~", "$")) or set(results) & set("{}") or not results.isprintable():
        yield f"results: expected a path without braces, ~, $ or line ends, got {results!r}"
    if not settings.train.flow_steps:
        if settings.sample.prior == "flow":
            yield "train.flow_steps: expected 1 or more with sample.prior flow, got 0; gaussian and model need no flow"
        for name in settings.variants:
            if variants.find(name).view:
                yield f"train.flow_steps: expected 1 or more with the variant {name}, which is a flow, got 0"
    if settings.sample.numbers > settings.model.latent:
        yield f"sample.numbers: expected at most model.latent, got {settings.sample.numbers} > {settings.model.latent}"
    if settings.labels.scheme == "cluster" and settings.split.scheme != "sequence":
        yield (
            "split.scheme: expected sequence with labels.scheme cluster, whose classes would else be held out whole, "
            f"got {settings.split.scheme}"
        )
    if settings.labels.scheme in ("own", "none") and settings.split.scheme in ("topology", "ladder"):
        yield (
            f"split.scheme: expected superfamily or sequence with labels.scheme {settings.labels.scheme}, whose labels "
            f"say nothing of topologies, got {settings.split.scheme}"
        )
    if settings.labels.scheme != "cluster" and settings.split.scheme == "ladder" and settings.cluster.method == "auto":
        yield (
            "cluster.method: expected kmer or mmseqs with split.scheme ladder, whose rungs would else depend on what "
            "is installed, got auto"
        )


def _doubled(values: tuple) -> str:
    """The repeated values, as text."""
    return ", ".join(dict.fromkeys(str(value) for value in values if values.count(value) > 1))


CHECKS: Mapping[type, Callable[[Any], Iterator[str]]] = types.MappingProxyType(
    {
        LabelSettings: _label_mistakes,
        SplitSettings: _split_mistakes,
        RefineSettings: _refine_mistakes,
        DecoderSettings: _decoder_mistakes,
        TrainSettings: _train_mistakes,
        Settings: _run_mistakes,
    }
)
RENAMED = types.MappingProxyType(
    {
        "oracle": "classifier",
        "classifier.copies": "classifier.augmentations",
        "split.redundancy": "labels.max_per_cluster",
        "split.max_per_cluster": "labels.max_per_cluster",
        "split.max_per_superfamily": "labels.max_per_superfamily",
        "verdict.flip": "verdict.swap_followed",
        "verdict.copied": "verdict.copy_tm",
        "verdict.fail": "verdict.fail_run",
    }
)
"""Former -> current names of keys."""
BOUND_WORDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}
TYPE_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def load(source: str | Path | Mapping[str, Any]) -> Settings:
    """Settings of a run from a YAML file or its content as a mapping; `UserError` with one line per mistake."""
    where = "configuration" if isinstance(source, Mapping) else str(source)
    data = source if isinstance(source, Mapping) else read_yaml(Path(source))
    return _checked(Settings, data, where, ())


FILES: Mapping[str, tuple[str, ...]] = {
    "labels": ("boundaries", "include", "names", "superfamilies"),
    "fetch": ("locked",),
    "split": ("file",),
}
"""Keys of the files that a run reads besides its table; their values are empty if there is no file."""
NAMED_SOURCES = ("embedded", "rcsb", "pdbe", "afdb")


def check_files(settings: Settings) -> None:
    """Raise `UserError` if a file or folder named in the settings does not exist; the table is not checked."""
    for part, keys in FILES.items():
        for key in keys:
            if (path := getattr(getattr(settings, part), key)) and not Path(path).is_file():
                raise UserError(f"{part}.{key}: found no file at {path}")
    for name in settings.fetch.sources:
        if name not in NAMED_SOURCES and "://" not in name and not Path(name).is_dir():
            known = ", ".join(NAMED_SOURCES)
            raise UserError(f"fetch.sources: expected {known}, a folder or a URL, found no folder at {name}")


def layered(paths: Iterable[Path]) -> dict[str, Any]:
    """The merged content of YAML files, later ones overriding earlier ones, as in Snakemake."""
    whole: dict[str, Any] = {}
    for path in paths:
        if not isinstance(data := read_yaml(path), Mapping | None):
            raise UserError(f"{path}: expected sections of keys, found {type(data).__name__}")
        whole = _laid_over(whole, data or {})
    return whole


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _laid_over(below[key], above[key]) for key in above if _are_sections(below.get(key), above[key])}
    return {**below, **above, **both}


def _are_sections(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def section(name: str, source: str | Path) -> Any:
    """Settings of one section, from its JSON text or from the path of a YAML configuration file."""
    kinds: dict[str, Any] = {field.name: hint for field, hint in settings_fields(Settings) if is_dataclass(hint)}
    if name not in kinds:
        raise ValueError(f"section: expected one of {', '.join(kinds)}, got {name!r}")
    text = str(source)
    if not text.lstrip().startswith("{"):
        return getattr(load(Path(text)), name)
    try:
        data = json.loads(text, object_pairs_hook=partial(_once, name))
    except json.JSONDecodeError as error:
        raise UserError(f'{name}: expected JSON such as {{"key": value}}, got {text!r} ({error})') from error
    return _checked(kinds[name], data, "settings", (name,))


def _once(name: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; `UserError` if it repeats a key."""
    if doubled := _doubled(tuple(key for key, _ in pairs)):
        raise UserError(f"{name}: expected each key once, got {doubled} more than once")
    return dict(pairs)


def as_json(settings: Any) -> str:
    """A section as JSON text that `section` can read."""
    return json.dumps(asdict(settings), ensure_ascii=False)


class _Loader(yaml.SafeLoader):
    """Reads keys as literal text; refuses repeated keys, and octal or sexagesimal numbers.

    YAML would interpret these differently from what is meant.
    """


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _misread("expected text as a key", key)
        if key.value in lines and key.value != "<<":
            raise _misread(f"{key.value} stands there twice, in line {lines[key.value]} as well; join the two", key)
        lines[key.value] = line
    loader.flatten_mapping(node)
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


def _integer(loader: _Loader, node: yaml.ScalarNode) -> Any:
    text = node.value.lstrip("+-")
    if ":" in text or (len(text) > 1 and text[0] == "0"):
        raise _misread(f"{node.value} is a number of another base in YAML; write it in decimal or in quotes", node)
    return loader.construct_yaml_int(node)


def _real(loader: _Loader, node: yaml.ScalarNode) -> Any:
    if ":" in node.value:
        raise _misread(f"{node.value} is a number of base 60 in YAML; write it in decimal or in quotes", node)
    return loader.construct_yaml_float(node)


def _misread(said: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=said, problem_mark=node.start_mark)


for _tag, _read in (("map", _mapping), ("int", _integer), ("float", _real)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _read)


def read_yaml(path: Path) -> Any:
    """Content of a YAML file with keys as text; `UserError` with line and column if YAML would misread it."""
    if path.is_dir() or not path.exists():  # a pipe, such as a shell's `<(…)`, counts as a file
        raise UserError(f"{path}: expected a YAML configuration file, found no file there")
    try:
        return _Loader(path.read_text(encoding="utf-8-sig")).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}{place}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error


def _checked(kind: type, data: Any, where: str, prefix: tuple[str, ...]) -> Any:
    """An instance of the settings dataclass `kind`; `UserError` with one line (and dotted path) per mistake."""
    given = _understood(kind, _text_keys(data))
    for labels in [given] if kind is LabelSettings else [given.get("labels")] if isinstance(given, dict) else []:
        if isinstance(labels, dict) and "scheme" in labels:
            labels.setdefault("classes", USUAL_CLASSES.get(str(labels["scheme"]), ()))
    try:
        settings: Any = pydantic.TypeAdapter(kind).validate_json(json.dumps(given, default=str))
    except pydantic.ValidationError as error:
        lines = (_mistake(kind, item, prefix) for item in error.errors(include_url=False))
        raise UserError("\n".join(dict.fromkeys(f"{where}: {line}" for line in lines))) from None
    if mistakes := [f"{where}: {line}" for line in disagreements(settings, prefix)]:
        raise UserError("\n".join(mistakes))
    return settings


def _text_keys(data: Any) -> Any:
    """The same data with keys as text: YAML reads some keys as numbers, dates, booleans or null."""
    if isinstance(data, Mapping):
        return {_key_text(key): _text_keys(value) for key, value in data.items()}
    return data


def _key_text(key: Any) -> str:
    """A key as its author may have written it: `true` for what YAML reads from `on`, `yes` and `true`."""
    return key if isinstance(key, str) else json.dumps(key, default=str).strip('"')


def _understood(hint: Any, value: Any) -> Any:
    """A value from YAML or the command line, converted to the setting type `hint`; unchanged if that is impossible.

    Text is parsed as a section, list or number, nothing becomes an empty section, and an integer becomes text.
    """
    if is_dataclass(hint) or get_origin(hint) is dict:
        if isinstance(value, str) and value.strip().startswith("{"):
            value = _parsed(value)
        if isinstance(value, Mapping):
            hints = get_type_hints(hint) if is_dataclass(hint) else {}
            return {str(key): _understood(hints.get(key), item) for key, item in value.items()}
        return {} if value is None else value
    if get_origin(hint) is tuple:
        if isinstance(value, str):
            value = _parsed(value if value.strip().startswith("[") else f"[{value}]")
        return [_understood(get_args(hint)[0], item) for item in value] if isinstance(value, list | tuple) else value
    if hint is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if hint is bool and isinstance(value, str):
        return found if isinstance(found := _parsed(value), bool) else value
    if hint in (int, float) and isinstance(value, str | float):
        with contextlib.suppress(ValueError, OverflowError):
            return value if isinstance(value, float) and hint(value) != value else hint(value)
    return value


def _parsed(text: str) -> Any:
    """The value of JSON or YAML text; the text itself if invalid, so that its type is reported as wrong."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def settings_fields(kind: type) -> list[tuple[Field, Any]]:
    """Fields of a settings dataclass with their resolved types."""
    hints = get_type_hints(kind)
    return [(field, hints[field.name]) for field in fields(kind)]


# Messages about mistakes


def _mistake(kind: type, item: Any, prefix: tuple[str, ...]) -> str:
    """One line about a mistake: its path, the value given, and what is allowed."""
    path = [part for part in item["loc"] if isinstance(part, str)]
    name = ".".join((*prefix, *path)) or "the whole"
    if item["type"] == "unexpected_keyword_argument":
        if name in RENAMED:
            return f"{name}: is now {RENAMED[name]}"
        known = [field.name for field, _ in settings_fields(_owner(kind, path[:-1]))]
        near = _of_sections(path[-1]) if name == path[-1] else []
        near = near or difflib.get_close_matches(path[-1], known, 1, 0.5)
        said = f"did you mean {' or '.join(near)}?" if near else "no key is like it;"
        return f"{name}: unknown key; {said} Known here: {', '.join(known)}"
    field, hint = _field(kind, path)
    if field is None:
        return f"{name}: expected a section of keys, got {item['input']!r}"
    value, allowed = item["input"], expected(hint, field.metadata)
    if place := [part for part in item["loc"] if isinstance(part, int)]:
        name, allowed = f"{name}[{place[-1]}]", TYPE_WORDS[get_args(hint)[0]]
    near = difflib.get_close_matches(str(value), map(str, get_args(hint)), 1, 0.5) if _is_literal(hint) else []
    hinted = f"; did you mean {near[0]}?" if near else ""
    return f"{name}: expected {allowed} ({field.metadata['description']}), got {value!r}{hinted}"


def expected(hint: Any, bounds: Mapping[str, Any]) -> str:
    """Description in words of the values that a setting of type `hint` with `bounds` may have."""
    if is_dataclass(hint):
        return "a section of keys"
    if get_origin(hint) is dict:
        return "a section of dotted keys, each with a list"
    if _is_literal(hint):
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        least = f" of {bounds['min_length']} or more" if bounds.get("min_length") else ""
        return f"a list{least} ({TYPE_WORDS[get_args(hint)[0]]} each)"
    ranges = " and ".join(BOUND_WORDS[key].format(value) for key, value in bounds.items() if key in BOUND_WORDS)
    return " ".join(filter(None, (TYPE_WORDS[hint], "that is not empty" if "min_length" in bounds else "", ranges)))


def _of_sections(key: str) -> list[str]:
    """Dotted names of all keys with this name, in any section."""
    parts: list[tuple[str, Any]] = [(f.name, hint) for f, hint in settings_fields(Settings) if is_dataclass(hint)]
    return [f"{part}.{key}" for part, hint in parts if any(key == field.name for field, _ in settings_fields(hint))]


def _is_literal(hint: Any) -> bool:
    return get_origin(hint) is Literal


def _owner(kind: Any, path: Iterable[str]) -> Any:
    """The settings dataclass at a path within `kind`."""
    for part in path:
        kind = {field.name: hint for field, hint in settings_fields(kind)}[part]
    return kind


def _field(kind: Any, path: list[str]) -> tuple[Field | None, Any]:
    """The field at a path within `kind` and its type; None for `kind` as a whole."""
    for field, hint in settings_fields(_owner(kind, path[:-1])) if path else ():
        if field.name == path[-1]:
            return field, hint
    return None, kind
