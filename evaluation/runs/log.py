"""The log of runs: what was ingested, tuned and evaluated, and what came of it.

HOME/runs.jsonl holds a JSON object a line: id, kind, time, release and payload. Runs are only ever
appended, each in one write, so nobody who reads the file keeps a run from being recorded.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from catalog.errors import BusyError, InputError, NextsongError, StorageError
from catalog.files import make_folder, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from catalog.progress import Reporter

FILE = "runs.jsonl"

OLD_FILE = "runs.duckdb"
"""The log of earlier versions: a DuckDB database, which is imported once."""


@dataclass(frozen=True)
class Run:
    """One run: its id, its kind (ingest, tune, evaluate ...), when, of which release, and more."""

    id: str
    kind: str
    time: datetime
    release: str | None
    payload: dict[str, Any]


def new_id() -> str:
    """The id of a run that ends now."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def record(home: Path, kind: str, payload: Mapping[str, Any], run: str | None = None) -> str:
    """Add a run to the log of `home`, and return its id: `run`, or a new one.

    `payload` must be JSON values; its field `release`, if there is one, can be filtered on. Raises
    `StorageError`, and then nothing is added.
    """
    found = Run(run or new_id(), kind, datetime.now(UTC), payload.get("release"), {**payload})
    _append(make_folder(home) / FILE, [found])
    return found.id


def note(
    home: Path, kind: str, payload: Mapping[str, Any], reporter: Reporter, run: str | None = None
) -> str | None:
    """`record`, for work that is done: a failure is reported, and nothing of the work is lost.

    Returns the id, or None.
    """
    try:
        return record(home, kind, payload, run)
    except NextsongError as error:
        reporter.say(f"  this run is not in the log of runs: {error}")
        return None


def load(
    home: Path, *, kind: str | None = None, release: str | None = None, limit: int | None = None
) -> list[Run]:
    """Return the runs of this kind and of this release, the newest `limit`, the oldest first.

    A release may be given by its beginning. Imports the log of an earlier version. Raises
    `StorageError` if a log cannot be read, or `BusyError` if another program holds the old one.
    """
    if (home / OLD_FILE).exists():
        _import(home)
    found = [
        run
        for run in _read(home / FILE)
        if kind in (None, run.kind) and (release is None or (run.release or "").startswith(release))
    ]
    # Imported runs may stand behind younger ones, and times of one process never go back.
    found.sort(key=lambda run: run.time)
    return found[-limit:] if limit else found


def find(home: Path, name: str, kind: str | None = None) -> Run:
    """Return the one run whose id begins so. Raises `InputError` if there is none, or several."""
    found = [run for run in load(home, kind=kind) if run.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"no run {name} in {home / FILE}: `nextsong runs list` shows them")
    raise InputError(f"{len(found)} runs begin with {name}: give more of the id")


def _append(path: Path, found: Iterable[Run]) -> None:
    """Append runs in one write. If that fails, the file is as it was."""
    lines = "".join(f"{_line(run)}\n" for run in found).encode()
    with storage_errors(path), path.open("ab+", buffering=0) as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # others append, too: for milliseconds
        end = log.seek(0, os.SEEK_END)
        try:
            # A last line without an end was cut off, as by a loss of power: ours begins anew.
            if end and os.pread(log.fileno(), 1, end - 1) != b"\n":
                lines = b"\n" + lines
            if log.write(lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(log)
        except OSError:
            log.truncate(end)
            raise


def _line(run: Run) -> str:
    return json.dumps(asdict(run) | {"time": run.time.isoformat()}, allow_nan=False)


def _read(path: Path) -> list[Run]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read the log of runs {path}: {error.strerror}") from error
    found = []
    *lines, _unfinished = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            found.append(Run(**fields | {"time": datetime.fromisoformat(fields["time"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise StorageError(
                f"line {number} of the log of runs {path} is not a run, as if it was cut off: "
                f"remove that line"
            ) from error
    return found


def _import(home: Path) -> None:
    """Append what the log of an earlier version holds, and put that file aside."""
    old, lock = home / OLD_FILE, home / ".runs.lock"
    with storage_errors(lock), lock.open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not old.exists():
            return  # another process was faster
        known = {run.id for run in _read(home / FILE)}
        _append(home / FILE, [run for run in _read_old(old) if run.id not in known])
        old.replace(old.with_name(f"{OLD_FILE}.imported"))
        lock.unlink()


def _read_old(path: Path) -> list[Run]:
    query = "SELECT id, kind, epoch_us(started), release, payload FROM runs ORDER BY started, id"
    try:
        with duckdb.connect(str(path)) as log:
            rows = log.execute(query).fetchall()
    except duckdb.CatalogException:
        return []  # no table: nothing was recorded
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        if "lock" in first.casefold():
            raise BusyError(
                f"{path}, whose runs are to be imported, is open in another program: close it there"
            ) from error
        raise StorageError(
            f"cannot import the log of runs {path}: {first}; move it elsewhere to begin a new log"
        ) from error
    return [
        Run(name, kind, datetime.fromtimestamp(micros / 1e6, UTC), release, json.loads(text))
        for name, kind, micros, release, text in rows
    ]
