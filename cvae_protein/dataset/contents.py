"""Whether a downloaded file is what was asked for: whole, not too large once unpacked, of the right entry."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import IO

from ..core.errors import StructureError

HEAD = 1 << 18  # bytes in which a file says what it is
CHUNK = 1 << 20
GZIP = b"\x1f\x8b"
MESSAGE_PACK_MAP = (*range(0x80, 0x90), 0xDE, 0xDF)  # first byte of a BinaryCIF file, and of no text
CODE = re.compile(r"(?:pdb_0000)?([1-9][a-z0-9]{3})")  # of the PDB, short or extended, in small letters
BLOCK = re.compile(rb"^data_(\S+)", re.IGNORECASE | re.MULTILINE)
ENTRY = re.compile(rb"^_entry\.id\s+['\"]?([^\s'\"]+)", re.IGNORECASE | re.MULTILINE)
HEADER = re.compile(rb"^HEADER.{56}(.{4})", re.MULTILINE)  # columns 63 to 66 of the PDB format
RECORD = re.compile(rb"^(ATOM  |HETATM|HEADER|MODEL |CRYST1|REMARK|TITLE |COMPND)", re.MULTILINE)


def check_structure(path: Path, name: str, most_bytes: int, certain: bool) -> None:
    """Raise `StructureError` where the file at `path` is not the entry `name`.

    `certain` demands that the file names its entry, as every file of the archive does; else a file that names none, or
    not by a code of the PDB, passes. Codes: bad_download, or too_large for more than `most_bytes`, unpacked.
    """
    head = _unpacked_head(path, most_bytes)
    if not head.strip():
        raise StructureError("bad_download", "no content")
    if head[0] in MESSAGE_PACK_MAP:
        named = _name_in_binary(path)
    elif head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        raise StructureError("bad_download", "an HTML or XML page instead of a structure")
    else:
        named = _name_in_text(head)
    if certain and not named:
        raise StructureError("bad_download", f"the file does not say that it is {name}")
    found, wanted = (CODE.fullmatch(text.lower()) for text in (named, name))
    differ = found[1] != wanted[1] if found and wanted else certain and named.lower() != name.lower()
    if differ:
        raise StructureError("bad_download", f"the file is of the entry {named}, not {name}")


def _open(path: Path) -> IO[bytes]:
    """The file's content, unpacked where it is gzip."""
    with open(path, "rb") as raw:
        packed = raw.read(2) == GZIP
    return gzip.open(path) if packed else open(path, "rb")  # type: ignore[return-value]


def _unpacked_head(path: Path, most_bytes: int) -> bytes:
    """The first bytes of a file, unpacked, after reading all of it."""
    head, size = b"", 0
    try:
        with _open(path) as opened:
            while chunk := opened.read(CHUNK):
                head += chunk[: HEAD - len(head)]
                size += len(chunk)
                if size > most_bytes:
                    raise StructureError("too_large", f"more than {most_bytes} bytes once unpacked")
    except EOFError as error:
        raise StructureError("bad_download", f"the gzip data end early, after {size} bytes unpacked") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise StructureError("bad_download", f"damaged gzip data ({error})") from error
    return head


def _name_in_text(head: bytes) -> str:
    """The entry that mmCIF or PDB text names, empty where it names none."""
    if block := BLOCK.search(head):
        entry = ENTRY.search(head)
        return (entry or block)[1].decode("latin-1")
    if not RECORD.search(head):
        raise StructureError("bad_download", f"neither PDB nor mmCIF; it begins with {head.strip()[:40]!r}")
    header = HEADER.search(head)
    return header[1].decode("latin-1").strip() if header else ""


def _name_in_binary(path: Path) -> str:
    """The entry that a BinaryCIF file names."""
    from biotite.structure.io.pdbx import BinaryCIFFile

    try:
        with _open(path) as opened:
            return next(iter(BinaryCIFFile.read(opened)))  # the block's name; nothing is unpacked for it
    except Exception as error:  # whatever a library raises on bytes of a stranger
        raise StructureError("bad_download", f"not readable as BinaryCIF ({error})") from error
