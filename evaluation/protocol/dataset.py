"""The songs and training playlists of a work folder, as arrays: what scoring needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ingest.stages import finished_stage
from service.recommend.seeds import Seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Numbers = NDArray[np.int32]
"""Songs by their numbers in the work folder; -1 is no song, or one that nobody knows."""

UNKNOWN = Seed(artist="\N{EMPTY SET} nobody", title="\N{EMPTY SET} nothing")
"""What a query calls a song that nobody knows."""


@dataclass(frozen=True)
class Ragged:
    """n lists of songs, one after the other: list i is `songs[offsets[i]:offsets[i + 1]]`."""

    offsets: NDArray[np.int64]  # (n + 1,)
    songs: Numbers

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, place: int) -> Numbers:
        return self.songs[self.offsets[place] : self.offsets[place + 1]]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """How long each list is, shape (n,)."""
        return np.diff(self.offsets)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """For each entry of `songs`, the list that it is in."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, places: Sequence[int] | NDArray[np.integer[Any]] | slice) -> Ragged:
        """The lists at these places."""
        chosen = np.arange(len(self))[places]
        return ragged([self[int(place)] for place in chosen])

    def matrix(self, songs: int) -> csr_array:
        """A row a list, a column a song: 1 where the song is in the list, shape (n, songs)."""
        known = self.songs >= 0
        ones = np.ones(int(known.sum()), dtype=np.float32)
        matrix = csr_array((ones, (self.rows[known], self.songs[known])), shape=(len(self), songs))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix


def ragged(lists: Sequence[Sequence[int] | Numbers]) -> Ragged:
    """The lists as one value."""
    lengths = [len(one) for one in lists]
    arrays = [np.asarray(one, dtype=np.int32) for one in lists]
    songs = np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
    return Ragged(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), songs)


def ragged_of(column: pa.ChunkedArray) -> Ragged:
    """An Arrow column of lists of song numbers."""
    lists = column.combine_chunks()
    lengths = np.asarray(pa.compute.list_value_length(lists), dtype=np.int64)
    songs = np.asarray(lists.flatten(), dtype=np.int32)
    return Ragged(np.concatenate([[0], np.cumsum(lengths)]), songs)


@dataclass(frozen=True)
class Songs:
    """All songs of a work folder, by number, and what the training playlists say of them.

    `table` has song_id, artist and title; `artist` the number of each song's artist; `playlists` in
    how many training playlists each is, 0 where it is in held-out ones alone. The catalog leaves
    out those of fewer than `least`.
    """

    table: pa.Table
    artist: Numbers
    playlists: NDArray[np.int64]
    least: int = 1

    def __len__(self) -> int:
        return len(self.artist)

    @cached_property
    def in_catalog(self) -> NDArray[np.bool_]:
        """Which songs a release can recommend."""
        return self.playlists >= self.least

    @cached_property
    def by_popularity(self) -> Numbers:
        """The songs of the catalog, those in the most training playlists first."""
        order = np.argsort(-self.playlists, kind="stable")  # numbers follow ids, and settle ties
        return order[: int(self.in_catalog.sum())].astype(np.int32)

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """The place of each song by popularity, 1 the first; 0 for a song not in the catalog."""
        places = np.zeros(len(self), dtype=np.int64)
        places[self.by_popularity] = np.arange(1, len(self.by_popularity) + 1)
        return places

    @cached_property
    def numbers(self) -> dict[UUID, int]:
        """The number of each song, by its id."""
        return {UUID(one): at for at, one in enumerate(self.table["song_id"].to_pylist())}

    def seed(self, number: int) -> Seed:
        """The song as a query names it: by id, artist and title."""
        row = self.table.slice(int(number), 1)
        song_id, artist, title = (row[name][0].as_py() for name in ("song_id", "artist", "title"))
        return Seed(UUID(song_id), artist, title)

    def seeds(self, lists: Ragged) -> list[list[Seed]]:
        """The songs of the lists as queries name them."""
        needed, at = np.unique(lists.songs, return_inverse=True)
        rows = self.table.take(pa.array(needed[needed >= 0])).to_pydict()
        made = [UNKNOWN] * int((needed < 0).any()) + [
            Seed(UUID(song_id), artist, title)
            for song_id, artist, title in zip(
                rows["song_id"], rows["artist"], rows["title"], strict=True
            )
        ]
        flat = [made[place] for place in at]
        return [
            flat[start:end]
            for start, end in zip(lists.offsets[:-1], lists.offsets[1:], strict=True)
        ]

    def name(self, number: int) -> str:
        """Artist and title."""
        seed = self.seed(number)
        return f"{seed.artist} - {seed.title}"


@dataclass(frozen=True)
class Data:
    """What a release learned from: its songs, and its training playlists in play order.

    `seed` is that of the split, `ordered` whether the order of the playlists is play order. Songs
    of fewer than `min_count` training playlists have no dense vector in the release.
    """

    work: Path
    songs: Songs
    train: Ragged
    seed: int
    ordered: bool
    min_count: int = 1

    @cached_property
    def matrix(self) -> csr_array:
        """The training playlists, a row each, a column a song, shape (playlists, songs)."""
        return self.train.matrix(len(self.songs))

    @cached_property
    def artists_recur(self) -> float:
        """The share of the training plays whose artist has another song in the playlist, 0 to 1."""
        artist = self.songs.artist[self.train.songs].astype(np.int64)
        places = self.train.rows * (int(artist.max(initial=0)) + 1) + artist
        _, counts = np.unique(places, return_counts=True)
        return float(counts[counts > 1].sum()) / max(1, len(places))

    @cached_property
    def vectors(self) -> NDArray[np.float32] | None:
        """Unit Word2Vec vectors, shape (songs, dimensions), zeros where a song has none.

        They are the work folder's, the same for all systems that are scored with it; None where it
        has none.
        """
        path = self.work / "train" / "vectors.parquet"
        if not path.is_file():
            return None
        table = pq.read_table(path, columns=["song", "vector"])
        if not table.num_rows:
            return None
        lists = table["vector"].combine_chunks()
        values = np.asarray(lists.flatten(), dtype=np.float32).reshape(len(lists), -1)
        vectors = np.zeros((len(self.songs), values.shape[1]), dtype=np.float32)
        vectors[table["song"].to_numpy()] = values
        return vectors


def load(work: Path, parameters: Mapping[str, Any]) -> Data:
    """Read the songs and the training playlists of a work folder. Raises `MismatchError`.

    `parameters` are those of the release that was made in it.
    """
    path = finished_stage(work, "prepare").folder / "songs.parquet"
    table = pq.read_table(path, columns=["song_id", "artist", "title", "artist_key"])
    artist = table["artist_key"].combine_chunks().dictionary_encode().indices
    train_path = finished_stage(work, "split").folder / "train.parquet"
    train = ragged_of(pq.read_table(train_path, columns=["songs"])["songs"])
    songs = Songs(
        table=table.select(["song_id", "artist", "title"]),
        artist=np.asarray(artist, dtype=np.int32),
        playlists=np.bincount(train.songs, minlength=table.num_rows),
        least=int(parameters.get("catalog_min") or 1),
    )
    return Data(
        work,
        songs,
        train,
        int(parameters["seed"]),
        is_ordered(parameters),
        int(parameters.get("min_count") or 1),
    )


def is_ordered(parameters: Mapping[str, Any]) -> bool:
    """Whether a release with these parameters takes the order of playlists for play order."""
    return parameters.get("order") != "none"
