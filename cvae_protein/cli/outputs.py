"""What commands may overwrite: only earlier outputs of their own.

Every command that writes declares with `writes` which options name outputs, and of what kind. Before it computes
anything, existing content is checked: foreign content always stops it; an earlier output from other inputs or settings
stops it unless `--force` is given. A record next to each output (`.NAME.made.json`) says which call wrote it, so that
the same call can be repeated. Jobs of a workflow keep no such record and need no `--force`: their outputs belong to the
workflow.
"""

from __future__ import annotations

import errno
import functools
import inspect
import json
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ..core.errors import UserError
from ..core.files import MARKER, REJECTED_COLUMNS, atomic_path, recover, try_move
from ..core.programs import is_first
from ..core.progress import say

WORKFLOW = "CVAE_PROTEIN_JOBS"  # set by the workflow for its jobs: folder for records of their resource use
NAMES = frozenset({"output", "rejected", "lock", "report", "checkpoint"})  # options that name an output
NOT_COMPARED = frozenset({"force", "jobs", "cores"})  # options that do not affect the result
FORCE = typer.Option(
    "--force", help="Replace an earlier output of this command that was made from other inputs or settings."
)
FIRST = is_first()
Recognise = Callable[[Path], bool]
Parameters = Mapping[str, Any]


def table(*columns: str) -> Recognise:
    """Recognises a tab-separated table by some adjacent columns."""
    return text("\t".join(columns), 1)


def text(mark: str, lines: int = 40) -> Recognise:
    """Recognises a text file by a string in its first lines."""

    def is_one(path: Path) -> bool:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return any(mark in line for line in islice(handle, lines))

    return is_one


def json_with(key: str) -> Recognise:
    """Recognises a JSON file by a key of its top-level object."""

    def is_one(path: Path) -> bool:
        try:
            return key in json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError):
            return False

    return is_one


def hdf5(name: str, value: str = "") -> Recognise:
    """Recognises an HDF5 file by a root dataset, or by an attribute and its value."""

    def is_one(path: Path) -> bool:
        from ..store.layout import bears

        return bears(path, name, value)

    return is_one


def tensors(path: Path) -> bool:
    """Recognises a safetensors file signed by this package."""
    with open(path, "rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        head = handle.read(min(size, 1 << 20))
    return head.startswith(b'{"__metadata__":{"signed"') or head.startswith(b'{"__metadata__":{"facts"')


def recorded(path: Path) -> bool:
    """For formats without a mark of ours: only the record next to a file identifies it."""
    return False


@dataclass(frozen=True)
class Output:
    """An output named by an option: a file of one kind (`files` empty), or a folder of files, each with its kind.

    Names in `files` may contain `*`; `optional` ones may be missing from an earlier output. An output that `goes_on`,
    such as a checkpoint, is continued by the command itself and needs no `--force`.
    """

    is_ours: Recognise = recorded
    files: Mapping[str, Recognise] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    is_folder: bool = False
    goes_on: bool = False


DOMAINS, SAMPLES = (Output(hdf5("kind", kind)) for kind in ("domains", "samples"))
SCORES = Output(table("variant", "seed", "split", "fold", "metric"))
PAGE = Output(text('name="generator" content="cvae_protein"'))
REJECTED = Output(table(*REJECTED_COLUMNS))
CHECKPOINT = Output(tensors, goes_on=True)
STRUCTURE_FILES = {".pdb": Output(text("REMARK 250 MODEL")), ".cif": Output(text("_software.name cvae_protein"))}
EACH_FILES = {
    "samples.tsv": table("id", "file", "length"),
    **{f"*{suffix}": kind.is_ours for suffix, kind in STRUCTURE_FILES.items()},
}
Plan = Callable[[Parameters], Mapping[Path, Output]]


def folder(files: Mapping[str, Recognise], optional: Iterable[str] = (), *, goes_on: bool = False) -> Output:
    """A folder that a command writes as a whole."""
    return Output(files=files, optional=frozenset(optional), is_folder=True, goes_on=goes_on)


EACH = folder(EACH_FILES, optional=["*.pdb", "*.cif"])  # one file per structure


def writes(
    plan: Plan | None = None, reads: Callable[[Parameters], Iterable[str]] | None = None, **outputs: Output
) -> Callable[[Callable], Callable]:
    """Guard the outputs of a command: `outputs` by option name, and those that `plan` derives from the options.

    reads : returns paths named in the settings that the command reads
    """

    def decorate(command: Callable) -> Callable:
        def planned(parameters: Parameters) -> dict[Path, Output]:
            """The outputs that a call is about to write, by path."""
            found = dict(plan(parameters)) if plan else {}
            for name, kind in outputs.items():
                if (path := parameters.get(name)) is None:
                    continue
                if _absolute(path) in map(_absolute, found):
                    raise UserError(f"{path}: two outputs have this name; give each its own")
                found[path] = kind
            return found

        signature = inspect.signature(command)
        types = get_type_hints(command, include_extras=True) | {"force": Annotated[bool, FORCE]}

        @functools.wraps(command)
        def guarded(*arguments: Any, force: bool = False, **options: Any) -> Any:
            bound = signature.bind(*arguments, **options)
            bound.apply_defaults()
            parameters = bound.arguments
            targets = planned(parameters)
            if "force" in signature.parameters:
                parameters["force"] = force
            guard = Guard(command.__name__, parameters, targets, list(reads(parameters)) if reads else [])
            guard.check(force)
            try:
                result = command(**parameters)
            except BaseException as error:
                guard.record(finished=isinstance(error, typer.Exit))
                raise
            guard.record(finished=True)
            guard.tell()
            return result

        named = [each for each in signature.parameters.values() if each.name != "force"]
        every = [each.replace(annotation=types[each.name]) for each in named]
        extra = inspect.Parameter("force", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=types["force"])
        guarded.__signature__ = inspect.Signature([*every, extra])  # type: ignore[attr-defined]
        guarded.__annotations__ = types
        return guarded

    return decorate


class Guard:
    """One call of a command and the outputs that it is about to write."""

    def __init__(self, command: str, parameters: Parameters, targets: Mapping[Path, Output], reads: list[str]) -> None:
        self.command, self.targets = command, targets
        self.name = _as_given(command)
        self.inputs = [*_inputs(parameters), *(Path(path) for path in reads if os.path.exists(path))]
        compared = parameters.keys() - NOT_COMPARED - NAMES
        self.made = {_absolute(path).resolve() for path in targets}  # may lie inside an input or inside each other
        self.call = {name: self._describe(parameters[name]) for name in sorted(compared)}
        self.before: dict[Path, Any] = {}
        self.in_workflow = WORKFLOW in os.environ

    def check(self, force: bool) -> None:
        """Raise `UserError`, on one line, if anything but an earlier output of this very call would be lost."""
        for path, kind in self.targets.items() if FIRST else ():
            self._check_place(path)
            recover(path)
            self.before[path] = _identity(path)
            if path.is_symlink():
                raise UserError(f"{path}: is a link; give the path that it leads to ({os.readlink(path)})")
            if not path.exists():
                continue
            if not (path.is_dir() if kind.is_folder else path.is_file()):
                wanted = "folder" if kind.is_folder else "file"
                raise UserError(f"{path}: `{self.name}` writes a {wanted} there, found something else; {OTHER}")
            if os.path.ismount(path):
                raise UserError(f"{path}: is where a file system is mounted and cannot be replaced; {OTHER}")
            empty = not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0
            if empty:
                continue
            record = self._record_of(path)
            self._check_ours(path, kind, record)
            if not (kind.goes_on or self.in_workflow or force or self._is_repeated(record)):
                raise UserError(
                    f"{path}: is there already, of other inputs or settings of `{self.name}` than these or of a "
                    f"workflow; --force replaces it, or give another path"
                )
            if kind.is_folder and not kind.goes_on:
                try:
                    try_move(path)
                except OSError as error:
                    raise UserError(f"{path}: cannot be replaced ({error.strerror}); {OTHER}") from error

    def _check_place(self, path: Path) -> None:
        """Raise `UserError` if no output can be written at this path."""
        place = _absolute(path).resolve()
        for name, taken in (("working folder", Path.cwd()), ("home folder", Path(os.path.expanduser("~")))):
            if place == taken.resolve() or place in taken.resolve().parents:
                raise UserError(f"{path}: is or holds the {name}; give another path")
        for read in self.inputs:
            if place == read.resolve():
                raise UserError(f"{path}: is an input of this call as well; give another path")
            if place in read.resolve().parents and place.is_dir():
                raise UserError(f"{path}: holds an input of this call, {read}; give another path")
        above = next(parent for parent in place.parents if parent.exists())
        if not above.is_dir():
            raise UserError(f"{path}: {above} is a file, so nothing can be written below it; give another path")
        if not os.access(above, os.W_OK | os.X_OK):
            why = os.strerror(errno.EROFS if os.statvfs(above).f_flag & os.ST_RDONLY else errno.EACCES)
            raise UserError(f"{path}: the folder {above} cannot be written to ({why}); give another path")

    def _check_ours(self, path: Path, kind: Output, record: Mapping[str, Any]) -> None:
        """Raise `UserError` if something at `path` was not written by this command."""
        if record.get("command", self.command) != self.command:
            raise UserError(f"{path}: is an output of `{_as_given(record['command'])}`; {OTHER}")
        if not kind.is_folder:
            if not record and not kind.is_ours(path):
                raise UserError(f"{path}: is not known to be an output of `{self.name}`; {OTHER}")
            return
        entries = sorted(path.iterdir(), key=lambda entry: entry.name)
        for entry in entries:
            if entry.resolve() in self.made or (kind.goes_on and (entry / MARKER).is_file()):
                continue  # another output of this call, or the scratch folder of a killed writer
            if not _is_among(entry, kind.files):
                raise UserError(f"{path}: holds {entry.name}, which `{self.name}` does not write; {OTHER}")
        if record or kind.goes_on or self.in_workflow:
            return
        names = [entry.name for entry in entries]
        for pattern in kind.files.keys() - kind.optional:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(f"{path}: is no output of `{self.name}`, which has {pattern} as well; {OTHER}")

    def _describe(self, value: Any) -> Any:
        """An option as recorded: paths with size and date of what is there, settings as values."""
        if isinstance(value, list):
            return [self._describe(each) for each in value]
        if not isinstance(value, Path | str):
            return value
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return [str(_absolute(value)), _identity(Path(value), self.made)] if _is_there(value) else str(value)

    def _record_of(self, path: Path) -> dict[str, Any]:
        """The record of the content at `path`; empty if there is none or it describes something else."""
        try:
            record = json.loads(_record_path(path).read_text(encoding="utf-8"))
            return record if record["content"] == _identity(path) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _is_repeated(self, record: Mapping[str, Any]) -> bool:
        """Whether the record is of this very call, or of a call that failed."""
        return bool(record) and record["call"] in (None, json.loads(json.dumps(self.call)))

    def tell(self) -> None:
        """Report, as the last message, where the outputs are."""
        made = [str(path) for path in self.targets if path.exists()]
        if made and FIRST:
            say(self.name, f"wrote {', '.join(made)}")

    def record(self, *, finished: bool) -> None:
        """Write next to each output which call made it; for a failed call, only that it failed."""
        if self.in_workflow or not FIRST:
            return
        for path, kind in self.targets.items():
            content = _identity(path)
            if content is None or kind.goes_on or (not finished and content == self.before.get(path)):
                continue
            facts = {"command": self.command, "call": self.call if finished else None, "content": content}
            with atomic_path(_record_path(path)) as temporary:
                temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")


def _as_given(command: str) -> str:
    """The name of a command as typed in a call."""
    return command.replace("_", "-")


OTHER = "give another path, or remove it yourself"


def _is_among(entry: Path, files: Mapping[str, Recognise]) -> bool:
    """Whether an entry of a folder is one of the files that a command writes."""
    if entry.is_symlink() or not entry.is_file():
        return False
    return any(fnmatchcase(entry.name, pattern) and is_ours(entry) for pattern, is_ours in files.items())


def _record_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.made.json")


def _absolute(path: str | Path) -> Path:
    """`path` as an absolute path without `..`; links are not resolved."""
    return Path(os.path.abspath(path))


def _identity(path: Path, without: Container[Path] = ()) -> Any:
    """Size and date of a file, or of everything in a folder except links, hidden files and the outputs `without`.

    None if nothing is there.
    """
    try:
        if path.is_dir():
            inside = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
            kept = [entry for entry in inside if not entry.is_symlink() and entry.resolve() not in without]
            return {entry.name: _identity(entry, without) for entry in kept}
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _inputs(parameters: Parameters) -> Iterator[Path]:
    """Existing files and folders named by options that are not outputs."""
    for name, value in parameters.items():
        for each in value if isinstance(value, list) else [value]:
            if name not in NAMES and _is_there(each):
                yield Path(each)


def _is_there(value: Any) -> bool:
    """Whether an option is the path of something that exists."""
    return isinstance(value, Path | str) and 0 < len(str(value)) < 4096 and os.path.exists(value)
