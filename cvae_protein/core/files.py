"""Atomic writing, so that files are either complete or absent, and tables as tab-separated text."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import os
import re
import shutil
import socket
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import UnusableDomain, UserError
from .progress import say

GZIP = b"\x1f\x8b"  # magic number of a gzip file
DAMAGED_GZIP = (gzip.BadGzipFile, zlib.error)  # raised for damaged content; `EOFError` if it ends early
LONGEST_LINE = 100 << 20  # characters; a file with a longer unpacked line is not a table


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressing it if its content is gzip, whatever its name.

    Reading raises `DAMAGED_GZIP` if the compressed data are damaged, and `EOFError` if they end early.
    """
    with open(path, "rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    return gzip.open(path) if packed else open(path, "rb")  # type: ignore[return-value]


def read_unpacked(path: Path, most: int) -> bytes:
    """A file's content, decompressed if it is gzip, of one or several members.

    A result longer than `most` bytes means that the content is too large. Read in one go, because streaming takes a
    tenth longer for a structure. Raises the same errors as reading from `open_unpacked`.
    """
    data, parts, left = path.read_bytes(), [], most + 1
    if not data.startswith(GZIP):
        return data
    while data and left:
        if not data.startswith(GZIP):
            raise gzip.BadGzipFile("garbage behind the compressed data")
        reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
        parts.append(reader.decompress(data, left))
        left -= len(parts[-1])
        if left and not reader.eof:
            raise EOFError("the compressed data end too early")
        data = reader.unused_data.lstrip(b"\0")  # a member may be followed by padding
    return parts[0] if len(parts) == 1 else b"".join(parts)


def check_may_read(path: Path) -> None:
    """Raise `OSError` if a file may not be read, which libraries report as damaged or absent."""
    with open(path, "rb"):
        pass


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty and not a comment (`#`); gzip is recognised by content.

    Raises `UserError` if the file does not exist, is not text, or has compressed data that are damaged or end early.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: expected a tab-separated table, a classification file or a folder, found no file there"
        )
    with open_unpacked(path) as file:
        try:
            text_of = io.TextIOWrapper(file, encoding_of(file), errors="replace")
            for number, line in enumerate(iter(lambda: text_of.readline(LONGEST_LINE), ""), 1):
                if len(line) == LONGEST_LINE and line[-1] != "\n":
                    raise UserError(f"{path}, line {number}: a line of more than {LONGEST_LINE:,} letters")
                if number == 1 and "\0" in line:
                    raise UserError(f"{path}: binary data, expected text")
                if (text := line.rstrip("\r\n")) and not text.startswith("#") and not text.isspace():
                    yield number, text
        except EOFError as error:
            raise UserError(f"{path}: the compressed data end too early; get the file again") from error
        except (OSError, zlib.error) as error:
            raise UserError(f"{path}: damaged gzip data ({error}); get the file again") from error


def encoding_of(file: Any) -> str:
    """UTF-16 (the `Unicode Text` of spreadsheets) if an opened file begins with its byte order mark, else UTF-8."""
    with contextlib.suppress(EOFError, OSError, zlib.error):  # reported when the file is read
        if file.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
    return "utf-8-sig"


def comments_of(path: Path) -> Iterator[str]:
    """The comment lines (`#`) at the beginning of a text file, gzip-compressed or not."""
    with open_unpacked(path) as file, contextlib.suppress(EOFError, OSError, zlib.error):  # `lines_of` reports these
        for line in io.TextIOWrapper(file, encoding_of(file), errors="replace"):
            if not line.startswith("#"):
                return
            yield line.rstrip("\r\n")


def bad_row(number: int, expected: str, line: str) -> UnusableDomain:
    """The problem with a line that does not follow its format."""
    cells = line.split(maxsplit=1)
    return UnusableDomain(
        cells[0] if cells else "", "bad_row", f"line {number}: expected {expected}, got {line[:80]!r}"
    )


def cells_of(line: str) -> list[str]:
    """Cells of a tab-separated line, without the quotes that spreadsheets put around whole cells."""
    cells = line.split("\t")
    if '"' in line:
        quoted = [len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells]
        cells = [cell[1:-1].replace('""', '"') if q else cell for cell, q in zip(cells, quoted, strict=True)]
    return cells


def check_columns(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    """Raise `UserError` if a table's header lacks a required column or has one twice, however spelt."""
    spelt: dict[str, list[str]] = {}
    for name in header:
        spelt.setdefault(name.strip().lower(), []).append(name)
    if doubled := [" and ".join(dict.fromkeys(names)) for name, names in spelt.items() if name and len(names) > 1]:
        raise UserError(f"{path}: expected each column once, found {', '.join(doubled)} more than once")
    if missing := [name for name in required if name not in header]:
        refuse_renamed(path, "column", (name for name in header if RENAMED["column"].get(name) in missing))
        parted = "; its cells are not parted by tabs" if len(header) == 1 and re.search("[,;]", header[0]) else ""
        raise UserError(f"{path}: expected the columns {', '.join(required)}; {', '.join(missing)} not found{parted}")


RENAMED: Mapping[str, Mapping[str, str]] = {
    "column": {
        "copy_of": "duplicate_of",
        "drawn": "prior_draw",
        "fired": "state",
        "flagged": "state",
        "oracle_label": "predicted_label",
        "oracle_probability": "target_probability",
        "permuted_rmsd": "permuted_code_rmsd",
        "setbacks": "rollbacks",
        "swapped_rmsd": "swapped_label_rmsd",
        "told": "predicted",
    },
    "split": {"stretches": "crops"},
    "metric": {
        "clusters": "cluster_share",
        "leak_skill": "class_leakage",
        "mmd": "feature_mmd",
        "oracle_accuracy": "classifier_accuracy",
        "oracle_disagreement": "classifier_nearest_disagreement",
        "permuted_ratio": "permuted_code_ratio",
        "physical_yield": "physically_valid",
        "ss_agreement": "ss_q3",
        "state_nearer": "state_improved",
        "swap_flip": "swap_followed",
        "swapped_ratio": "swapped_label_ratio",
        "tm": "tm_score",
        "told_levels": "given_levels",
        "training_equal_tm": "training_tm_matched",
        "vendi": "vendi_score",
    },
}
"""Former -> current names of table columns, store arrays, and values of the columns `split` and `metric`."""


def refuse_renamed(path: Path, kind: str, names: Iterable[str]) -> None:
    """Raise `UserError` if any of a file's `names` has since been renamed; `kind` is a key of `RENAMED`."""
    for name in names:
        if name in RENAMED[kind]:
            raise UserError(f"{path}: {kind} `{name}` is now `{RENAMED[kind][name]}`: make the file again")


def columns_of(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]] | UnusableDomain]:
    """For each line of a tab-separated table, its number and its cells in `columns`; or the problem with a bad line.

    Raises `UserError` if the header lacks a column.
    """
    lines = lines_of(path)
    header = cells_of(next(lines, (0, ""))[1])
    check_columns(path, header, columns)
    places = [header.index(name) for name in columns]
    for number, line in lines:
        cells = cells_of(line)
        if len(cells) != len(header):
            yield bad_row(number, f"{len(header)} columns", line)
        else:
            yield number, [cells[place] for place in places]


MARKER = ".cvae_protein.scratch"  # file in every scratch folder of ours; a folder without it is not ours
PRIVATE = 0o600  # file mode: only the owner may read and write
FORMER = "former"  # name, in the scratch folder, of the output being replaced


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` if the block succeeds, else remove it.

    Works for files and folders. The temporary name keeps the suffix, for writers that depend on it. A file gets the
    mode that the umask gives. An existing folder at `path` is moved aside, and put back if the new one cannot take its
    place. What killed writers of the same output left behind is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(path) as scratch, _named(path, scratch):
        temporary = scratch / path.name
        yield temporary
        if temporary.is_file():
            if stat.S_IMODE(temporary.stat().st_mode) == PRIVATE:  # some libraries write through files of their own
                shutil.copymode(scratch / MARKER, temporary)
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
        elif temporary.is_dir() and path.is_dir():
            os.replace(path, scratch / FORMER)
        os.replace(temporary, path)


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # reported for an open file, without its name


@contextmanager
def _named(path: Path, scratch: Path) -> Iterator[None]:
    """Make errors in writing name the output instead of its scratch file or nothing."""
    try:
        yield
    except OSError as error:
        name = str(error.filename or "")
        if name.startswith(str(scratch)) or (not name and error.errno in NO_ROOM):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def recover(path: Path) -> None:
    """Put back a folder at `path` whose replacement was killed halfway, and remove what killed writers left."""
    if path.parent.is_dir():
        with _locked(path.parent):
            _remove_abandoned(path)


def try_move(folder: Path) -> None:
    """Move a folder aside and back; `OSError` if it cannot be moved, which is better known before the work."""
    with _scratch(folder) as scratch:
        os.replace(folder, scratch / FORMER)
        os.replace(scratch / FORMER, folder)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A folder next to `path`, removed at the end; its lock distinguishes it from one left by a killed process."""
    with _locked(path.parent):
        _remove_abandoned(path)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        (scratch / MARKER).touch()  # with the mode that the umask gives
        lock = _try_lock(scratch)
    try:
        yield scratch
    finally:
        _remove_scratch(scratch, path)
        if lock is not None:
            os.close(lock)


def _remove_abandoned(path: Path) -> None:
    """Remove the scratch folders of `path` that contain our marker and that no living process has locked."""
    ours = re.compile(re.escape(f".{path.name}.") + "[a-z0-9_]{8}")
    with os.scandir(path.parent) as entries:
        found = [entry.path for entry in entries if ours.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    for folder in map(Path, found):
        if (folder / MARKER).is_file() and (lock := _try_lock(folder)) is not None:
            _remove_scratch(folder, path)
            os.close(lock)


def _remove_scratch(scratch: Path, path: Path) -> None:
    """Remove a scratch folder; a former output in it is put back first if nothing has taken its place."""
    former = scratch / FORMER
    if former.exists() and not os.path.lexists(path):
        os.replace(former, path)
    shutil.rmtree(scratch, ignore_errors=True)


def _try_lock(scratch: Path) -> int | None:
    """Descriptor that keeps a scratch folder locked until closed; None if it is taken or there are no locks.

    The lock is on the marker file, because the folder itself is locked while further scratch folders are made inside
    it.
    """
    try:
        descriptor = os.open(scratch / MARKER, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # as on Lustre or NFS mounted without locks
_lockless: set[int] = set()  # file systems without locks that have been reported


def take_lock(file: IO, how: int = fcntl.LOCK_EX) -> bool:
    """Try to lock an open file; false if another process holds the lock.

    On a file system without locks, nothing is locked, the result is true, and this is reported once.
    """
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise OSError(error.errno, error.strerror, file.name) from error
        if (system := os.fstat(file.fileno()).st_dev) not in _lockless:
            _lockless.add(system)
            unseen = "two runs or commands that make the same at once would not be noticed"
            say(os.path.dirname(file.name) or ".", f"this file system has no locks ({error.strerror}); {unseen}")
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder, so that no scratch folder is seen before it is locked itself; does nothing without locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def owned(path: str | Path) -> Iterator[None]:
    """Hold the lock file of an output while it is made; `UserError` if another process holds it.

    The lock ends with the process, even if it is killed. The lock file stays next to the output, since removing it
    would let a third process in; it names the process that holds the lock, or that was killed while holding it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "a+", encoding="utf-8") as handle:
        if not take_lock(handle):
            handle.seek(0)
            owner = " ".join(handle.read().split())
            who = f" ({owner})" if owner else ""
            raise UserError(f"{path}: another process is making it{who}; wait for it or end it")
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)


def holder(lock: Path) -> str | None:
    """Who holds a lock file of `owned`, such as `process 123 on node7`; None if nobody or without locks."""
    with open(lock, encoding="utf-8") as handle:
        return None if take_lock(handle, fcntl.LOCK_SH) else " ".join(handle.read().split()) or "a process"


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` as tab-separated text with a header; white space inside values becomes single spaces."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        handle.write("\t".join(columns) + "\n")
        for row in rows:
            cells = ("" if row[name] is None else str(row[name]) for name in columns)
            handle.write("\t".join(" ".join(cell.split()) for cell in cells) + "\n")


def read_table(path: str | Path, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """Rows of a tab-separated file as dictionaries.

    Raises `UserError` if a required column is missing, a row has the wrong number of cells, or a name has been replaced
    (`RENAMED`).

    Empty lines are skipped, and so is a byte order mark (UTF-8 or UTF-16) as written by spreadsheets.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: expected a tab-separated table, found no file there")
    with open(path, "rb") as file:
        encoding = encoding_of(file)
    with open(path, encoding=encoding, errors="replace", newline="") as handle:
        lines = (cells_of(line.rstrip("\r\n")) for line in handle)
        header = next(lines, None)
        if header is None:
            raise UserError(f"{path}: expected a header line, the file is empty")
        check_columns(path, header, required)
        rows = []
        for number, cells in enumerate(lines, 2):
            if cells == [""]:
                continue
            if len(cells) != len(header):
                raise UserError(f"{path}, line {number}: expected {len(header)} columns, found {len(cells)}")
            rows.append(dict(zip(header, cells, strict=True)))
    for column in ("split", "metric"):
        if column in header:
            refuse_renamed(path, column, (row[column] for row in rows))
    return rows


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


REJECTED_COLUMNS = ("domain_id", "source", "reason", "detail")
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


def unsafe(text: str) -> str:
    """Why an id cannot be used in a file name (why `SAFE_ID` does not match it); empty if it can."""
    if SAFE_ID.fullmatch(text):
        return ""
    if strange := re.sub(r"[A-Za-z0-9._+-]", "", text):
        return f"expected letters, digits and ._+- only, found {strange[0]!r}"
    if not text[:1].isalnum():
        return f"expected a letter or digit at the beginning, found {text[:1]!r}"
    return f"expected 80 letters at most, found {len(text)}"


def safe_id(text: str) -> str:
    """An id that can be used in a file name: the text if it can, else its allowed characters and six hash digits.

    Different texts get different ids.
    """
    if SAFE_ID.fullmatch(text):
        return text
    kept = re.sub(r"[^A-Za-z0-9._+-]+", "_", text).lstrip("._+-")[:64]
    return f"{kept or 'x'}-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:6]}"


def write_rejected(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows made by `rejection` to a table."""
    write_table(path, REJECTED_COLUMNS, rows)
