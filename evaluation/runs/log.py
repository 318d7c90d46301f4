"""The log of runs: one line for each ingest, tuning, evaluation and comparison.

HOME/runs.jsonl holds one JSON object per line: id, kind, time, release and payload. Runs are only
appended, each in a single write, so a reader needs no lock.
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

    from catalog.console.progress import Reporter

FILE = "runs.jsonl"

OLD_FILE = "runs.duckdb"
"""The log of runs of earlier versions: a DuckDB database, which is imported once."""


@dataclass(frozen=True)
class Run:
    """One run. `kind` is ingest, tune, evaluate or compare; `payload` has the results of the run.

    `time` is the end of the run. `release` is the id of the release that the run published or
    scored, if any.
    """

    id: str
    kind: str
    time: datetime
    release: str | None
    payload: dict[str, Any]


def make_id() -> str:
    """Return an id for a run that ends now, such as `20250131T120000-1a2b`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def record(home: Path, kind: str, payload: Mapping[str, Any], run_id: str | None = None) -> str:
    """Append a run to the log in `home`, and return its id, which is `run_id` or a new id.

    `payload` must consist of JSON values. Its field `release`, if present, becomes the run's
    release. Raises `StorageError` if the log cannot be written; the log is then unchanged.
    """
    run = Run(run_id or make_id(), kind, datetime.now(UTC), payload.get("release"), {**payload})
    _append(make_folder(home) / FILE, [run])
    return run.id


def note(
    home: Path, kind: str, payload: Mapping[str, Any], reporter: Reporter, run_id: str | None = None
) -> str | None:
    """Record a run as `record` does, but report a failure instead of raising an error.

    The work of the run is already done, so its result must not be lost. Returns the id of the run,
    or None if the log cannot be written.
    """
    try:
        return record(home, kind, payload, run_id)
    except NextsongError as error:
        reporter.say(f"  this run is not in the log of runs: {error}")
        return None


def load(
    home: Path, *, kind: str | None = None, release: str | None = None, limit: int | None = None
) -> list[Run]:
    """Return the newest `limit` runs of a kind and a release, the oldest first. None means all.

    `release` is a release id or its first characters. If there is a log of an earlier version, its
    runs are imported. Raises `StorageError` if a log cannot be read, or `BusyError` if another
    program uses the old log.
    """
    if (home / OLD_FILE).exists():
        _import_old_log(home)
    runs = [
        run
        for run in _read(home / FILE)
        if kind in (None, run.kind) and (release is None or (run.release or "").startswith(release))
    ]
    # Runs that were imported from the old log follow newer runs in the file.
    runs.sort(key=lambda run: run.time)
    return runs[-limit:] if limit else runs


def find(home: Path, prefix: str, kind: str | None = None) -> Run:
    """Return the only run whose id begins with `prefix`.

    If `kind` is given, only runs of this kind are considered. Raises `InputError` if no run or
    several runs match.
    """
    runs = [run for run in load(home) if run.id.startswith(prefix)]
    matches = [run for run in runs if kind in (None, run.kind)]
    if len(matches) == 1:
        return matches[0]
    if not runs:
        raise InputError(f"no run {prefix} in {home / FILE}: list them with `nextsong runs list`")
    if not matches:
        raise InputError(
            f"run {runs[0].id} is of kind '{runs[0].kind}', not '{kind}': choose from the runs "
            f"that `nextsong runs list --kind {kind}` shows"
        )
    raise InputError(f"{len(matches)} runs begin with {prefix}: give more characters of the id")


def _append(path: Path, runs: Iterable[Run]) -> None:
    """Append runs in a single write, or leave the file unchanged."""
    lines = "".join(f"{_to_line(run)}\n" for run in runs).encode()
    with storage_errors(path), path.open("ab+", buffering=0) as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # held for milliseconds
        end = log.seek(0, os.SEEK_END)
        try:
            # The last line lacks a newline if a power failure interrupted an earlier write.
            if end and os.pread(log.fileno(), 1, end - 1) != b"\n":
                lines = b"\n" + lines
            if log.write(lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(log)
        except OSError:
            log.truncate(end)
            raise


def _to_line(run: Run) -> str:
    return json.dumps(asdict(run) | {"time": run.time.isoformat()}, allow_nan=False)


def _read(path: Path) -> list[Run]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read the log of runs {path}: {error.strerror}") from error
    runs = []
    *lines, _unfinished = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            runs.append(Run(**fields | {"time": datetime.fromisoformat(fields["time"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise StorageError(
                f"line {number} of the log of runs {path} is not a run, it may be truncated: "
                f"remove that line"
            ) from error
    return runs


def _import_old_log(home: Path) -> None:
    """Append the runs from the log of an earlier version, and rename the old file."""
    old, lock = home / OLD_FILE, home / ".runs.lock"
    with storage_errors(lock), lock.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not old.exists():
            return  # another process has imported the old log
        known = {run.id for run in _read(home / FILE)}
        _append(home / FILE, [run for run in _read_old_log(old) if run.id not in known])
        old.replace(old.with_name(f"{OLD_FILE}.imported"))
        lock.unlink()


def _read_old_log(path: Path) -> list[Run]:
    query = "SELECT id, kind, epoch_us(started), release, payload FROM runs ORDER BY started, id"
    try:
        with duckdb.connect(str(path)) as log:
            rows = log.execute(query).fetchall()
    except duckdb.CatalogException:
        return []  # the old log has no table, so it has no runs
    except duckdb.Error as error:
        first_line = str(error).splitlines()[0]
        if "lock" in first_line.casefold():
            raise BusyError(
                f"cannot import the log of runs {path}: it is open in another program; close it "
                f"there"
            ) from error
        raise StorageError(
            f"cannot import the log of runs {path}: {first_line}; move the file elsewhere to begin "
            f"a new log"
        ) from error
    return [
        Run(run_id, kind, datetime.fromtimestamp(micros / 1e6, UTC), release, json.loads(payload))
        for run_id, kind, micros, release, payload in rows
    ]
