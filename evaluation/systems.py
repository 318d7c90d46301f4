"""What is scored: the release as it is served, and the baselines that share its split."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq

from ingest.parameters import Parameters
from ingest.sql import connect
from ingest.word2vec import train_vectors, write_corpus
from ingest.work import finished_stage
from service.recommend import Mode, recommend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.release import OpenRelease
    from evaluation.protocol import Query

BATCH = 256
NAMES = {
    Mode.DENSE: "Word2Vec",
    Mode.COOCCURRENCE: "co-occurrence",
    Mode.HYBRID: "hybrid (nextsong)",
}


class System(Protocol):
    """Anything that recommends."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def recommend(self, queries: Sequence[Query], limit: int) -> Iterator[Sequence[UUID]]:
        """For each query in turn, at most `limit` songs, best first."""


class Release:
    """A release, answering in one mode just as the service does."""

    def __init__(self, release: OpenRelease, mode: Mode) -> None:
        self.name = NAMES[mode]
        self._release = release
        self._mode = mode

    def recommend(self, queries: Sequence[Query], limit: int) -> Iterator[Sequence[UUID]]:
        """For each query in turn, at most `limit` songs, best first."""
        for start in range(0, len(queries), BATCH):
            yield from asyncio.run(self._answers(queries[start : start + BATCH], limit))

    async def _answers(self, queries: Sequence[Query], limit: int) -> list[Sequence[UUID]]:
        answers = [
            await recommend(self._release, query.seeds, limit, mode=self._mode) for query in queries
        ]
        return [[hit.song.song_id for hit in answer.songs] for answer in answers]


class Popularity:
    """The songs in the most training playlists, but those of the query."""

    name = "popularity"

    def __init__(self, release: OpenRelease, longest_query: int, limit: int) -> None:
        points = asyncio.run(release.popular(limit + longest_query))
        self._ranking = [point.song.song_id for point in points]

    def recommend(self, queries: Sequence[Query], limit: int) -> Iterator[Sequence[UUID]]:
        """For each query in turn, at most `limit` songs, best first."""
        for query in queries:
            own = {seed.song_id for seed in query.seeds}
            yield [song for song in self._ranking if song not in own][:limit]


class LastSong:
    """The tutorials' way: the cosine neighbours of the last song's Word2Vec vector.

    CBOW, 48 numbers, window 10, 30 epochs, min_count 3, gensim's defaults for the rest. Nothing but
    the last song itself is kept out of the answer; a last song without a vector is replaced by a
    random one.
    """

    name = "tutorial (last song)"

    parameters = Parameters(
        dimensions=48, window=10, epochs=30, min_count=3, skip_gram=False, sample=1e-3
    )

    def __init__(self, work: Path, seed: int) -> None:
        with tempfile.TemporaryDirectory(prefix="nextsong-") as name:
            folder = Path(name)
            with connect(folder) as sql:
                train_path = finished_stage(work, "split").folder / "train.parquet"
                write_corpus(sql, train_path, folder / "corpus.txt")
            numbers, self._vectors = train_vectors(folder / "corpus.txt", 30, self.parameters)
        songs_path = finished_stage(work, "prepare").folder / "songs.parquet"
        ids = pq.read_table(songs_path, columns=["song_id"])["song_id"].take(numbers).to_pylist()
        self._ids = [UUID(song_id) for song_id in ids]
        self._rows = {song_id: row for row, song_id in enumerate(self._ids)}
        self._random = np.random.default_rng(seed)

    def recommend(self, queries: Sequence[Query], limit: int) -> Iterator[Sequence[UUID]]:
        """For each query in turn, at most `limit` songs, best first."""
        for start in range(0, len(queries), BATCH):
            lasts = [query.seeds[-1].song_id for query in queries[start : start + BATCH]]
            rows = np.array(
                [
                    self._rows[last]
                    if last in self._rows
                    else self._random.integers(len(self._ids))
                    for last in lasts
                ]
            )
            scores = self._vectors[rows] @ self._vectors.T
            scores[np.arange(len(rows)), rows] = -np.inf
            for nearest in np.argsort(-scores, axis=1)[:, : min(limit, len(self._ids) - 1)]:
                yield [self._ids[row] for row in nearest]
