"""The songs and training playlists of a work folder (the results of an ingest), as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_array

from catalog.song import full_name
from ingest.prepare.catalog_songs import find_songs
from ingest.stages import finished_stage
from service.recommend.seeds import Seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SongNumbers = NDArray[np.int32]
"""Song numbers: row numbers in the table of songs (`Songs.table`). -1 stands for an unknown song,
or for no song."""

NO_SONGS: SongNumbers = np.zeros(0, np.int32)
"""An empty array of song numbers."""

UNKNOWN_SONG = Seed(artist="\N{EMPTY SET} nobody", title="\N{EMPTY SET} nothing")
"""The seed that stands for song number -1. No release contains this song."""


@dataclass(frozen=True)
class SongLists:
    """n lists of songs, stored in one array: list i is `songs[offsets[i]:offsets[i + 1]]`."""

    offsets: NDArray[np.int64]  # shape (n + 1,)
    songs: SongNumbers

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int] | SongNumbers]) -> SongLists:
        """Create an instance from lists of song numbers."""
        arrays = [np.asarray(songs, dtype=np.int32) for songs in lists]
        ends = np.cumsum([len(songs) for songs in arrays], dtype=np.int64)
        joined = np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
        return cls(np.concatenate([[0], ends]), joined)

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray) -> SongLists:
        """Create an instance from an Arrow column of lists of song numbers."""
        lists = column.combine_chunks()
        lengths = np.asarray(pa.compute.list_value_length(lists), dtype=np.int64)
        songs = np.asarray(lists.flatten(), dtype=np.int32)
        return cls(np.concatenate([[0], np.cumsum(lengths)]), songs)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> SongNumbers:
        return self.songs[self.offsets[row] : self.offsets[row + 1]]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each list, shape (n,)."""
        return np.diff(self.offsets)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The index of the list that contains each entry of `songs`, in the shape of `songs`."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: Sequence[int] | NDArray[np.integer[Any]] | slice) -> SongLists:
        """Return the lists with these indexes."""
        return SongLists.from_lists([self[int(row)] for row in np.arange(len(self))[rows]])

    def to_matrix(self, songs: int) -> csr_array:
        """Return a matrix, shape (n, songs), with 1 for each song of a list and 0 elsewhere.

        `songs` is the number of songs in the dataset. Unknown songs (-1) are omitted.
        """
        known = self.songs >= 0
        ones = np.ones(int(known.sum()), dtype=np.float32)
        matrix = csr_array((ones, (self.rows[known], self.songs[known])), shape=(len(self), songs))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix


@dataclass(frozen=True)
class Songs:
    """All songs of a work folder.

    - `table`: a row for each song, with the columns song_id, artist and title.
    - `artist`: number of each song's artist, or -1 for a song without an artist, shape (songs,).
    - `playlists`: number of training playlists of each song, shape (songs,). It is 0 for a song
      that is only in held-out playlists.
    - `min_playlists`: minimum number of training playlists of a song in the catalog, unless the
      song is listed.
    - `listed`: numbers of the songs that are in the catalog because a catalog file given to the
      ingest lists them.
    """

    table: pa.Table
    artist: SongNumbers
    playlists: NDArray[np.int64]
    min_playlists: int = 1
    listed: NDArray[np.integer[Any]] = field(default_factory=lambda: NO_SONGS)

    def __len__(self) -> int:
        return len(self.artist)

    @cached_property
    def has_artists(self) -> bool:
        """Whether any song has an artist."""
        return bool((self.artist >= 0).any())

    @cached_property
    def in_catalog(self) -> NDArray[np.bool_]:
        """Whether each song is in the catalog, and so can be recommended, shape (songs,)."""
        in_catalog = self.playlists >= self.min_playlists
        in_catalog[self.listed] = True
        return in_catalog

    @cached_property
    def by_popularity(self) -> SongNumbers:
        """The songs of the catalog, the most popular first, and in row order if equally popular."""
        order = np.argsort(-self.playlists, kind="stable")
        return order[self.in_catalog[order]].astype(np.int32)

    @cached_property
    def popularity_rank(self) -> NDArray[np.int64]:
        """The popularity rank of each song, shape (songs,), from 1, or 0 if not in the catalog."""
        ranks = np.zeros(len(self), dtype=np.int64)
        ranks[self.by_popularity] = np.arange(1, len(self.by_popularity) + 1)
        return ranks

    @cached_property
    def numbers(self) -> dict[UUID, int]:
        """A mapping from song ids to song numbers."""
        return {
            UUID(song_id): number
            for number, song_id in enumerate(self.table["song_id"].to_pylist())
        }

    def seed(self, number: int) -> Seed:
        """Return the song with this number as a seed."""
        row = self.table.slice(int(number), 1)
        song_id, artist, title = (row[name][0].as_py() for name in ("song_id", "artist", "title"))
        return Seed(UUID(song_id), artist, title)

    def seeds(
        self, lists: SongLists, weights: NDArray[np.float32] | None = None
    ) -> list[list[Seed]]:
        """Convert lists of songs to lists of seeds.

        `weights` contains a weight for each entry of `lists.songs`, or is None if all weights are
        1.
        """
        numbers, positions = np.unique(lists.songs, return_inverse=True)
        rows = self.table.take(pa.array(numbers[numbers >= 0])).to_pydict()
        seeds = [UNKNOWN_SONG] * int((numbers < 0).any()) + [
            Seed(UUID(song_id), artist, title)
            for song_id, artist, title in zip(
                rows["song_id"], rows["artist"], rows["title"], strict=True
            )
        ]
        joined = [seeds[position] for position in positions]
        if weights is not None:
            joined = [
                seed if weight == 1 else replace(seed, weight=weight)
                for seed, weight in zip(joined, weights.tolist(), strict=True)
            ]
        return [
            joined[start:end]
            for start, end in zip(lists.offsets[:-1], lists.offsets[1:], strict=True)
        ]

    def name(self, number: int) -> str:
        """Return the artist and title of a song as one text, or the song id if it has neither."""
        seed = self.seed(number)
        return full_name(seed.artist, seed.title) or str(seed.song_id)


@dataclass(frozen=True)
class Dataset:
    """The songs and the training playlists of a work folder.

    - `work`: the work folder.
    - `train`: the training playlists.
    - `seed`: seed of the split into training, validation and test playlists.
    - `min_count`: number of training playlists that a song needs to have a dense vector.
    """

    work: Path
    songs: Songs
    train: SongLists
    seed: int
    min_count: int = 1

    @cached_property
    def matrix(self) -> csr_array:
        """The training playlists as a matrix of zeros and ones, shape (playlists, songs)."""
        return self.train.to_matrix(len(self.songs))

    @cached_property
    def artist_recurrence(self) -> float:
        """The share of songs of training playlists whose artist occurs again in the playlist."""
        artist = self.songs.artist[self.train.songs].astype(np.int64)
        playlist_and_artist = self.train.rows * (int(artist.max(initial=0)) + 1) + artist
        _, counts = np.unique(playlist_and_artist[artist >= 0], return_counts=True)
        return float(counts[counts > 1].sum()) / max(1, len(artist))

    @cached_property
    def vectors(self) -> NDArray[np.float32] | None:
        """Word2Vec vectors of unit length, shape (songs, dimensions), or None if there are none.

        The vectors are read from the work folder. The diversity of all systems is measured with
        these vectors. Songs without a vector have a row of zeros.
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

    @cached_property
    def has_vector(self) -> NDArray[np.bool_]:
        """Whether each song has a vector, shape (songs,)."""
        if self.vectors is None:
            return np.zeros(len(self.songs), dtype=bool)
        return np.asarray(self.vectors.any(axis=1))


def load_dataset(work: Path, parameters: Mapping[str, Any]) -> Dataset:
    """Read the dataset in a work folder.

    `parameters` are the parameters of the release that was made in the folder. Raises
    `MismatchError` if an ingest stage in the folder is unfinished.
    """
    columns = ["song_id", "artist", "title", "artist_key"]
    with_new_songs = parameters.get("new_songs") is not None
    path = find_songs(work)
    is_listed = with_new_songs and "listed" in pq.read_schema(path).names
    table = pq.read_table(path, columns=columns + ["listed"] * is_listed)
    keys = table["artist_key"].combine_chunks()
    artist = pc.if_else(pc.equal(keys, ""), None, keys).dictionary_encode().indices.fill_null(-1)
    train_path = finished_stage(work, "split").folder / "train.parquet"
    train = SongLists.from_arrow(pq.read_table(train_path, columns=["songs"])["songs"])
    songs = Songs(
        table=table.select(["song_id", "artist", "title"]),
        artist=np.asarray(artist, dtype=np.int32),
        playlists=np.bincount(train.songs, minlength=table.num_rows),
        min_playlists=int(parameters.get("catalog_min") or 1),
        listed=np.flatnonzero(table["listed"].to_numpy()) if is_listed else NO_SONGS,
    )
    return Dataset(
        work, songs, train, int(parameters["seed"]), int(parameters.get("min_count") or 1)
    )


def is_ordered(parameters: Mapping[str, Any]) -> bool:
    """Return whether playlists are in play order, according to the parameters of a release."""
    return parameters.get("order") != "none"
