"""Entry point: runs one command and turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from ..core.errors import StructureError, UserError
from ..core.progress import verbosity
from ..core.signals import ENDING, heeded
from ..core.threads import limit_threads, may_start_thread, usable_cores
from . import dataset, model, score  # noqa: F401  (each registers its commands)
from . import run as _run  # noqa: F401  (likewise)
from .options import UsageError, app
from .outputs import WORKFLOW

DONE, USER_MISTAKE, WRONG_CALL, DEFECT, INTERRUPTED = 0, 1, 2, 70, 130  # 70: EX_SOFTWARE
PIPE_CLOSED = 141  # exit code of a process ended by SIGPIPE
RENAMED = {
    "labels": "select",
    "names": "fold-names",
    "audit": "leak-audit",
    "oracle": "train-classifier",
    "inspect": "info",
    "show": "info",
    "generate": "sample",
    "designability --number": "--limit",
    "designability --seed": "--model-seed",
    "designability -n": "--limit",
    "embed --oracle": "--classifier",
    "ensemble --seed": "--model-seed",
    "export --input": "--store",
    "export -i": "--store",
    "featurize --labels": "--label-settings",
    "manifest --settings": "--config",
    "sample --out": "--output",
    "score --labels": "--targets",
    "score --oracle": "--classifier",
    "score --seed": "--model-seed",
    "split --labels": "--label-settings",
    "train --model": "--model-settings",
    "train --refine": "--refine-settings",
    "tune --model": "--model-settings",
    "tune --train": "--train-settings",
}
"""Former -> current names of commands, and of options (given after their command)."""
WAYS_OUT = {
    errno.ENOSPC: "free some there, or give a path elsewhere",
    errno.EDQUOT: "remove files of yours there, or give a path elsewhere",
    errno.EROFS: "give a path elsewhere",
    errno.EACCES: "ask its owner, or give a path elsewhere",
    errno.EPERM: "ask its owner, or give a path elsewhere",
    errno.EMFILE: "raise the limit of open files, `ulimit -n`",
    errno.EAGAIN: "raise the limit of processes, `ulimit -u`, or end others",
}
"""What to do about an error of the operating system, by its number."""
EXTRAS = {
    **dict.fromkeys(("biotite", "msgpack", "scipy"), "structures"),
    **dict.fromkeys(("Bio", "jinja2", "markupsafe", "matplotlib", "numba", "pandas", "sklearn", "tmtools"), "report"),
    **dict.fromkeys(("hdf5plugin", "httpx", "snakemake"), "workflow"),
    "mdtraj": "all",
    "optuna": "tune",
}
"""The extra of the package that installs a module."""
PARALLEL = {"train", "sample", "embed", "train-classifier", "tune"}  # use several threads unless a number is set
LAUNCHER = "launch"
OUTPUT = "standard output"
CallError: type[Exception] = typer.BadParameter.__mro__[2]  # base of everything that typer raises for an invalid call


def main() -> None:
    """Run the command line of this process and exit with its code."""
    for number in heeded():
        signal.signal(number, _terminate)
    started = time.time()
    _open_streams()
    if (command := sys.argv[1] if len(sys.argv) > 1 else "") != LAUNCHER:  # torchrun sets it for each of its processes
        limit_threads(usable_cores() if command in PARALLEL else 1)
    os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"  # overrides h5py; stores, complete or absent, need no locks
    code = run(sys.argv[1:])
    if folder := os.environ.get(WORKFLOW):
        from ..runs.manifest import write_record

        write_record(Path(folder), sys.argv[1:], started, code)
    sys.exit(code)


def _open_streams() -> None:
    """Open standard streams that the process was started without, and make them accept any text.

    Standard error carries progress and no results, so text that cannot be written there is dropped silently.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes this number, the lowest free one, before another file does
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name, kind in (("stdout", _Output), ("stderr", _Progress)):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            file = io.BufferedWriter(kind(stream.fileno(), "w", closefd=False))
            by_line = name == "stderr" or stream.line_buffering
            setattr(sys, name, io.TextIOWrapper(file, stream.encoding, stream.errors, line_buffering=by_line))


class _Output(io.FileIO):
    """Standard output that is named in the error if it cannot be written."""

    def write(self, data: Any) -> int:
        """Write `data`, a buffer."""
        try:
            return super().write(data) or 0
        except OSError as error:
            raise OSError(error.errno, error.strerror, OUTPUT) from error


class _Progress(io.FileIO):
    """Standard error, which drops text that cannot be written because the disk is full or the reader is gone."""

    def write(self, data: Any) -> int:
        """Write `data`, a buffer, or drop it."""
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; user mistakes are printed on one line, defects with a traceback."""
    try:
        with verbosity("all"):  # the effect of `--quiet` ends with the command
            result = app(list(arguments) or ["--help"], prog_name="cvae-protein", standalone_mode=False)
        sys.stdout.flush()
        if result == INTERRUPTED:  # typer converts an interrupt to its exit code
            return _interrupted()
        return result if isinstance(result, int) else DONE
    except UsageError as error:
        return _mistake(str(error), WRONG_CALL)
    except (UserError, StructureError) as error:
        return _mistake(str(error))
    except CallError as error:
        said = f"{getattr(error, 'format_message', error.__str__)()} See cvae-protein --help"
        return _mistake("".join([said, *renamed(arguments)]), WRONG_CALL)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # handled by click, which asks for exit code 1
            _drop_output()
            return PIPE_CLOSED
        if isinstance(error.code, int) and error.code - 128 in ENDING:
            name = signal.Signals(error.code - 128).name
            print(f"cvae-protein: ended by {name}; nothing half-written is left", file=sys.stderr)
        raise
    except BrokenPipeError:  # the reader, such as `head`, needs no more
        _drop_output()
        return PIPE_CLOSED
    except OSError as error:
        if error.errno is None:
            return _defect(arguments, error)
        said = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        if error.filename == OUTPUT:
            _drop_output()
        return _mistake("; ".join(filter(None, [said, WAYS_OUT.get(error.errno, "")])))
    except ModuleNotFoundError as error:
        if (name := (error.name or "").split(".")[0]) not in EXTRAS:
            return _defect(arguments, error)
        return _mistake(f"this needs {name}, which is not installed: pip install 'cvae_protein[{EXTRAS[name]}]'")
    except MemoryError as error:
        return _mistake(f"memory does not suffice ({error or 'no number is told'}); use a machine with more")
    except Exception as error:
        return _defect(arguments, error)


def _drop_output() -> None:
    """Discard further output, so that flushing it at exit raises no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def renamed(arguments: Sequence[str]) -> Iterator[str]:
    """A sentence for each former name of a command or option used in a call."""
    command = arguments[0] if arguments else ""
    for word in dict.fromkeys(word.split("=")[0] for word in arguments):
        if new := RENAMED.get(word if word == command else f"{command} {word}"):
            yield f"; {word} is now {new}"


def _mistake(message: str, code: int = USER_MISTAKE) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _interrupted() -> int:
    """Report an interrupt; or its real cause, as OpenBLAS interrupts its own process if it cannot start threads."""
    if not may_start_thread():
        limit = "the user's limit (`ulimit -u`) or that of the container is reached"
        return _mistake(f"no thread can be started: {limit}; end other processes, or set OMP_NUM_THREADS=1")
    print("cvae-protein: interrupted; nothing half-written is left", file=sys.stderr)
    return INTERRUPTED


def _defect(arguments: Sequence[str], error: BaseException) -> int:
    from .defect import write_report

    traceback.print_exception(error)
    written = write_report(arguments, error)
    what = f"send {written}, a text which you may read before" if written else "report it with the lines above"
    print(f"error: this is a defect of cvae_protein; please {what}", file=sys.stderr)
    return DEFECT


def _terminate(number: int, _: object) -> None:
    """Exit through the `finally` blocks, so that no temporary file is left."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
