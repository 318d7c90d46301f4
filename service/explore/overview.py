"""An overview of a release: a map of its songs, and the values of its extra fields.

The overview is computed once for each release, in a child process, because all songs must be read
and Qdrant would block the page meanwhile. The result is kept in a file in HOME/explore.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import zipfile
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import NextsongError
from catalog.files import make_folder, storage_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.model import Value
    from catalog.schema import Kind
    from catalog.server.options import QdrantOptions

FOLDER = "explore"
"""Name of the folder of the overviews in HOME, the folder of the store."""

FORMAT = 1
"""Format of the file of an overview. An overview in another format is computed again."""

MAX_SONGS = 50_000
"""Maximum number of songs on the map: the most popular ones that have a dense vector."""

MAX_VALUES = 200
"""Maximum number of values that are listed for a keyword field, the most frequent first."""

READING_SHARE = 0.2  # share of the work that is done when all songs have been read


@dataclass(frozen=True)
class FieldValues:
    """The most frequent values of a keyword field, or the bounds of a numeric field."""

    values: list[str] = field(default_factory=list)
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Overview:
    """A map of the songs of a release, the most popular first, and the values of its fields.

    - `positions`: float32, shape (n, 2), from -1 to 1.
    - `playlists`: number of playlists that contain each song, shape (n,).
    - `song_ids`, `names`: id and name of each song.
    - `fields`: the values of each extra field.
    """

    positions: NDArray[np.float32]
    playlists: NDArray[np.int32]
    song_ids: list[str]
    names: list[str]
    fields: dict[str, FieldValues]

    def find_rows(self) -> dict[str, int]:
        """Return the index of each song in the lists and arrays, by song id."""
        return {song_id: row for row, song_id in enumerate(self.song_ids)}


@dataclass(frozen=True)
class StoreLocation:
    """A release and its store, described so that a child process can open them."""

    home: Path
    qdrant: QdrantOptions | None
    release: str


class OverviewTask:
    """The overview of a release, and the progress of its computation in a child process.

    - `share`: the finished share of the work, from 0 to 1.
    - `overview`: the result; None until it is finished.
    - `problem`: the error that stopped the computation; "" if there was none.

    `cache` is the folder in which the folder of the overviews is created.
    """

    def __init__(self, location: StoreLocation, cache: Path) -> None:
        self.share = 0.0
        self.overview: Overview | None = None
        self.problem = ""
        self._location = location
        self._path = cache / FOLDER / f"{location.release}.npz"
        self._process: Any = None

    def start(self) -> None:
        """Read the overview from its file, or begin to compute it if there is no usable file."""
        self.overview = load(self._path)
        if self.overview is not None:
            self.share = 1.0
            return
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_compute_in_child, args=(self._location, self._path, sender), daemon=True
        )
        self._process.start()
        sender.close()
        threading.Thread(target=self._follow, args=(receiver,), daemon=True).start()

    def stop(self) -> None:
        """End the child process, if it is running."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _follow(self, receiver: Connection) -> None:
        message: Any = None
        with suppress(EOFError, OSError):
            while True:
                message = receiver.recv()
                if isinstance(message, float):
                    self.share = message
                elif isinstance(message, Overview):
                    self.overview = message
                    self.share = 1.0
                else:
                    self.problem = str(message)
        if self.overview is None and not self.problem:
            self.problem = "the computation of the map ended early"


def _compute_in_child(location: StoreLocation, path: Path, sender: Connection) -> None:
    os.nice(10)
    try:
        overview = compute(location, sender)
        sender.send(overview)
        with suppress(NextsongError):  # the next start computes the overview again
            save(overview, path)
    except NextsongError as error:
        sender.send(str(error))
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the web server has been stopped
    finally:
        sender.close()


def compute(location: StoreLocation, sender: Connection | None = None) -> Overview:
    """Read all songs of a release, and return its overview. Raises `NextsongError`.

    After each step, the finished share of the work, from 0 to 1, is sent to `sender`.
    """
    from catalog.open_store import open_store
    from service.explore.projection import project

    def advance(share: float) -> None:
        if sender is not None:
            sender.send(share)

    rows: list[dict[str, Any]] = []
    with closing(open_store(location.home, location.qdrant)) as store:
        release = store.open(location.release)
        manifest = release.manifest
        counters = {name: _FieldCounter(kind) for name, kind in manifest.payload.items()}
        with closing(release):
            songs = 0
            for batch in store.batches(release):
                songs += len(batch)
                for row in batch:
                    for name, counter in counters.items():
                        counter.add(row.get(name))
                    if row["vector"] is not None:
                        rows.append(_select_map_columns(row))
                advance(READING_SHARE * min(1.0, songs / max(1, manifest.counts.songs)))
    rows.sort(key=lambda row: row["ordinal"])
    del rows[MAX_SONGS:]
    vectors = np.array([row["vector"] for row in rows], dtype=np.float32)
    positions = np.zeros((0, 2), dtype=np.float32)
    if len(rows) > 1:
        positions = project(
            vectors,
            advance=lambda share: advance(READING_SHARE + (1 - READING_SHARE) * share),
        )
    return Overview(
        positions,
        np.array([row["playlists"] for row in rows], dtype=np.int32),
        [row["song_id"] for row in rows],
        [row["name"] for row in rows],
        {name: counter.count() for name, counter in counters.items()},
    )


def _select_map_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a song that the map needs."""
    from catalog.song import full_name

    return {
        "song_id": row["song_id"],
        "name": full_name(row["artist"], row["title"]),
        "ordinal": row["ordinal"],
        "playlists": row["playlists"],
        # An array takes much less memory than a list of floats.
        "vector": np.array(row["vector"], dtype=np.float32),
    }


class _FieldCounter:
    """Counts the values of a keyword field, or finds the bounds of a numeric field."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._counts: Counter[str] = Counter()
        self._minimum: float | None = None
        self._maximum: float | None = None

    def add(self, value: Value | None) -> None:
        if value is None:
            return
        if self._kind == "keyword":
            self._counts[str(value)] += 1
        elif isinstance(value, int | float):
            self._minimum = value if self._minimum is None else min(self._minimum, value)
            self._maximum = value if self._maximum is None else max(self._maximum, value)

    def count(self) -> FieldValues:
        values = [value for value, _ in self._counts.most_common(MAX_VALUES)]
        return FieldValues(values, self._minimum, self._maximum)


def save(overview: Overview, path: Path) -> None:
    """Write an overview to a file. Raises `StorageError`."""
    make_folder(path.parent)
    names = {
        "format": FORMAT,
        "song_ids": overview.song_ids,
        "names": overview.names,
        "fields": {name: vars(values) for name, values in overview.fields.items()},
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with storage_errors(path), temporary.open("wb") as file:
        np.savez_compressed(
            file,
            positions=overview.positions,
            playlists=overview.playlists,
            names=np.frombuffer(json.dumps(names).encode(), dtype=np.uint8),
        )
    temporary.replace(path)


def load(path: Path) -> Overview | None:
    """Return the overview in a file, or None if the file is missing or cannot be used."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            names = json.loads(file["names"].tobytes())
            if names["format"] != FORMAT:
                return None
            return Overview(
                file["positions"],
                file["playlists"],
                names["song_ids"],
                names["names"],
                {name: FieldValues(**values) for name, values in names["fields"].items()},
            )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
