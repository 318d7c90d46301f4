"""The log of runs: what was ingested, tuned and evaluated, and what came of it.

One DuckDB file in the home, `runs.duckdb`, which other programs may read too. DuckDB lets one
process in at a time, so each call opens the file, does its one thing and closes it, and a lock
beside it makes others wait.
"""

from __future__ import annotations

import fcntl
import json
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from catalog.errors import BusyError, InputError, NextsongError, StorageError
from catalog.storage import make_folder, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from catalog.reporting import Reporter

FILE = "runs.duckdb"

PATIENCE_S = 30.0
"""How long to wait for another process that reads or writes the log."""

_TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, started TIMESTAMPTZ NOT NULL,
    release VARCHAR, payload JSON NOT NULL
)
"""


@dataclass(frozen=True)
class Run:
    """One run: its id, its kind (ingest, tune, evaluate ...), when, of which release, and more."""

    id: str
    kind: str
    time: datetime
    release: str | None
    payload: dict[str, Any]


def record(home: Path, kind: str, payload: Mapping[str, Any]) -> str:
    """Add a run to the log of `home`, and return its id.

    `payload` must be JSON values; its field `release`, where there is one, can be filtered on.
    Raises `StorageError`, or `BusyError` when others hold the log for too long.
    """
    now = datetime.now(UTC)
    run = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    text = json.dumps(payload, allow_nan=False)
    with _opened(home) as log:
        log.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?)",
            [run, kind, now, payload.get("release"), text],
        )
    return run


def note(home: Path, kind: str, payload: Mapping[str, Any], reporter: Reporter) -> str | None:
    """`record`, for work that is done already: where that fails, it is said, and nothing is lost.

    Returns the id, or None.
    """
    try:
        return record(home, kind, payload)
    except NextsongError as error:
        reporter.say(f"  this run is not in the log of runs: {error}")
        return None


def load(
    home: Path, *, kind: str | None = None, release: str | None = None, limit: int | None = None
) -> list[Run]:
    """The runs of this kind and of this release, the newest `limit`, the oldest first.

    A release may be given by its beginning. Raises as `record` does.
    """
    if not (home / FILE).exists():
        return []
    query = (
        "SELECT id, kind, epoch_us(started), release, payload FROM runs "
        "WHERE ($kind IS NULL OR kind = $kind) "
        "AND ($release IS NULL OR starts_with(release, $release)) "
        "ORDER BY started DESC, id LIMIT $limit"
    )
    values = {"kind": kind, "release": release, "limit": limit or 1_000_000}
    with _opened(home) as log:
        rows = log.execute(query, values).fetchall()
    return [
        Run(name, of, datetime.fromtimestamp(micros / 1e6, UTC), one, json.loads(text))
        for name, of, micros, one, text in reversed(rows)
    ]


def find(home: Path, name: str, kind: str | None = None) -> Run:
    """The one run whose id begins so. Raises `InputError` where it is none, or several."""
    found = [run for run in load(home, kind=kind) if run.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"no run {name} in {home / FILE}: `nextsong runs list` shows them")
    raise InputError(f"{len(found)} runs begin with {name}: give more of the id")


@contextmanager
def _opened(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    path = make_folder(home) / FILE
    with _turn(home):
        connection = _connected(path)
        try:
            connection.execute(_TABLE)
            yield connection
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise StorageError(f"cannot use the log of runs {path}: {first}") from error
        finally:
            connection.close()


def _connected(path: Path) -> duckdb.DuckDBPyConnection:
    # Our own processes wait for their turn; another program that has the file open does not know.
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return duckdb.connect(str(path))
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            if "lock" not in first.casefold():
                raise StorageError(f"cannot open the log of runs {path}: {first}") from error
            if time.monotonic() > deadline:
                raise BusyError(f"{path} is open in another program: close it there") from error
            time.sleep(0.1)


@contextmanager
def _turn(home: Path) -> Iterator[None]:
    path = home / ".runs.lock"
    deadline = time.monotonic() + PATIENCE_S
    with storage_errors(path), path.open("a", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise BusyError(f"{home / FILE} is in use by another process") from error
                time.sleep(0.02)
        yield
