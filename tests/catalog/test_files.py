"""Atomic writes, locks, and error messages of file operations."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from catalog.errors import BusyError, StorageError
from catalog.files import lock_folder, make_folder, storage_errors, sync_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run `code` in a separate process, which is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def read_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_new_file_is_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "current", "Björk\n日本\n")
    assert (tmp_path / "current").read_bytes() == "Björk\n日本\n".encode()
    assert names(tmp_path) == ["current"]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "current").write_text("old and longer")
    write_atomically(tmp_path / "current", "new")
    assert (tmp_path / "current").read_text() == "new"
    assert names(tmp_path) == ["current"]


def test_a_reader_never_sees_a_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "current"
    texts = [str(digit) * 20_000 for digit in range(10)]
    write_atomically(path, texts[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(60):
            write_atomically(path, texts[turn % 10])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_text())
    writer.join()
    assert seen <= set(texts)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path, call: str) -> None:
    path = tmp_path / "current"
    path.write_text("old")
    code = f"""
import os, signal, sys
from pathlib import Path
from catalog.files import write_atomically
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
os.{call} = Path.{call} = die
write_atomically(Path(sys.argv[1]), "new")
"""
    with python(code, path) as child:
        assert child.wait() == -signal.SIGKILL
    assert path.read_text() == "old"
    write_atomically(path, "newer")
    assert path.read_text() == "newer"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "current"
    path.write_text("old")
    # The temporary file is a link to /dev/full, to which every write fails.
    partial = tmp_path / f".current.{os.getpid()}.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full: free disk space and run again"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["current"]
    assert Path("/dev/full").exists()


def test_a_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "current"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["current"]


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        write_atomically(tmp_path / "current", "new")
    assert names(tmp_path) == ["current"]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "file" / "a" / "b"):
        with pytest.raises(StorageError, match="a file exists where a folder is needed"):
            make_folder(folder)
    with pytest.raises(StorageError, match="a file exists where a folder is needed"):
        write_atomically(tmp_path / "file" / "current", "new")
    with (
        pytest.raises(StorageError, match="a file exists where a folder is needed"),
        lock_folder(tmp_path / "file", "a test"),
    ):
        pytest.fail("the lock was acquired")


def test_a_folder_that_cannot_be_created_is_an_error() -> None:
    with pytest.raises(StorageError, match="cannot write /proc/nextsong"):
        make_folder(Path("/proc/nextsong"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="no permission to write there"):
        write_atomically(tmp_path / "current", "new")
    with pytest.raises(StorageError, match="no permission to write there"):
        make_folder(tmp_path / "below")


def test_folders_are_created_with_their_parents(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert make_folder(folder) == folder
    sync_folder(folder)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_system_errors_have_plain_messages(number: int, hint: str) -> None:
    with (
        pytest.raises(StorageError, match=f"^cannot write there: .*{re.escape(hint)}") as caught,
        storage_errors(Path("there")),
    ):
        raise OSError(number, os.strerror(number))
    assert isinstance(caught.value.__cause__, OSError)


def test_the_file_that_failed_is_named() -> None:
    with pytest.raises(StorageError, match="cannot write deep/inside"), storage_errors(Path("top")):
        raise OSError(errno.EIO, "broken", "deep/inside")


def test_a_system_error_without_a_number_has_a_message() -> None:
    with pytest.raises(StorageError, match="odd"), storage_errors(Path("there")):
        raise OSError("odd")


def test_a_broken_pipe_is_not_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), lock_folder(tmp_path, "a test"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


HOLD = """
import sys
from pathlib import Path
from catalog.files import lock_folder
with lock_folder(Path(sys.argv[1]), "counting sheep"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_held_by_another_process(tmp_path: Path) -> None:
    with python(HOLD, tmp_path) as child:
        assert read_line(child) == "held"
        for _ in range(2):
            with pytest.raises(BusyError) as caught, lock_folder(tmp_path, "a test"):
                pytest.fail("the lock was acquired twice")
            message = str(caught.value)
            assert message.startswith(f"{tmp_path} is in use: counting sheep ")
            assert f"(process {child.pid})" in message
            assert "\n" not in message


def test_a_lock_is_released_if_its_process_is_killed(tmp_path: Path) -> None:
    with python(HOLD, tmp_path) as child:
        assert read_line(child) == "held"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    with lock_folder(tmp_path, "a test"):
        assert f"a test (process {os.getpid()})" in (tmp_path / ".lock").read_text()


def test_a_lock_is_released_at_the_end(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "a long task with a long name"):
        pass
    with lock_folder(tmp_path, "another"):
        assert (tmp_path / ".lock").read_text() == f"another (process {os.getpid()})\n"
    with pytest.raises(ValueError, match="in the body"), lock_folder(tmp_path, "a third"):
        raise ValueError("in the body")
    with lock_folder(tmp_path, "a fourth"):
        pass


def test_a_lock_cannot_be_held_twice_in_one_process(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path, "the first"),
        pytest.raises(BusyError, match="the first"),
        lock_folder(tmp_path, "the second"),
    ):
        pytest.fail("the lock was acquired twice")


def test_locks_of_two_folders_are_independent(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "a", "one"), lock_folder(tmp_path / "b", "two"):
        assert names(tmp_path) == ["a", "b"]


def test_a_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    wait = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    with lock_folder(tmp_path, "a parent"):
        child = subprocess.Popen(
            wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False, text=True
        )
        assert read_line(child) == "up"
    with child:
        try:
            with lock_folder(tmp_path, "the next"):
                assert child.poll() is None
        finally:
            child.kill()
