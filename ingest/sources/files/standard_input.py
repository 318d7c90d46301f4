"""Copying of standard input to a file, because files are read several times."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from catalog.errors import FileError
from catalog.files import make_folder, storage_errors
from ingest.sources.files.find import STDIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_COPY_NAME = ".standard-input"
_CHUNK = 4 << 20
_PACKED = {
    b"\x1f\x8b": "compressed with gzip: decompress it first, for example with `gzip -dc FILE |`",
    b"\x28\xb5\x2f\xfd": "compressed with zstandard: decompress it first, for example with "
    "`zstd -dc FILE |`",
    b"BZh": "compressed with bzip2: decompress it first, for example with `bzip2 -dc FILE |`",
    b"PK\x03\x04": "a .zip archive: save it to a file and name the file",
    b"PAR1": "a Parquet file: save it to a file and name the file",
}


@contextmanager
def copy_standard_input(files: Sequence[Path], work: Path) -> Iterator[Path | None]:
    """Copy standard input to a file in `work` if `STDIN` is in `files`; yield its path or None.

    The copy is removed at the end. Raises `FileError` if standard input cannot be read or is
    compressed, and `StorageError` if the copy cannot be written.
    """
    if STDIN not in files:
        yield None
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise FileError("standard input is a terminal: use `nextsong ingest run - < FILE`")
    path = make_folder(work) / _COPY_NAME
    try:
        _copy(sys.stdin.buffer, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _copy(stream: IO[bytes], path: Path) -> None:
    try:
        head = stream.read(4)
    except OSError as error:
        raise FileError(f"standard input cannot be read: {error.strerror}") from error
    for magic, description in _PACKED.items():
        if head.startswith(magic):
            raise FileError(f"standard input is {description}")
    with storage_errors(path), path.open("wb") as file:
        file.write(head)
        shutil.copyfileobj(stream, file, _CHUNK)
