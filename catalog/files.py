"""Atomic writes, locks and plain error messages for files."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from catalog.errors import BusyError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HINTS = {
    errno.ENOSPC: "the disk is full: free disk space and run again",
    errno.EDQUOT: "the disk quota is used up: free disk space and run again",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a file exists where a folder is needed",
    errno.EEXIST: "a file exists where a folder is needed",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Convert an `OSError` in the `with` block to a `StorageError` that names the affected file.

    If the `OSError` names no file, the message names `path`.
    """
    try:
        yield
    except BrokenPipeError:  # concerns standard output, not `path`
        raise
    except OSError as error:
        raise StorageError(f"cannot write {error.filename or path}: {reason_of(error)}") from error


def reason_of(error: OSError) -> str:
    """Return a short reason for an error, to be put at the end of a message."""
    return _HINTS.get(error.errno or 0, error.strerror or str(error))


def make_folder(folder: Path) -> Path:
    """Create `folder` and its parents if they are missing. Raises `StorageError`."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def require_writable(path: Path) -> None:
    """Raise `StorageError` unless a file can be created at `path`. Creates the parent folder."""
    folder = make_folder(path.parent)
    with storage_errors(path), tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that replaces `path` if the `with` block ends without an error.

    If `path` is a device or a pipe, it is written to directly. Raises `StorageError`.
    """
    with storage_errors(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_atomically(path: Path, text: str) -> None:
    """Replace the file `path` with a file that contains `text`, flushed to disk."""
    with replace_file(path) as file:
        file.write(text.encode())


def sync_folder(folder: Path) -> None:
    """Flush the entries of `folder` to disk, for example after a file was renamed into it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock_folder(folder: Path, task: str) -> Iterator[None]:
    """Hold the lock of `folder` in the `with` block.

    Raises `BusyError` if another process holds the lock. `task` describes the work in the error
    message of the other process. If a process is killed, the operating system releases its lock.
    """
    path = make_folder(folder) / ".lock"
    with storage_errors(path), path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise BusyError(f"{folder} is in use: {holder}; wait for it to end") from error
        file.truncate(0)
        file.write(f"{task} (process {os.getpid()})\n")
        file.flush()
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
