"""Word2Vec baselines as in common tutorials: songs similar to the last seed, or to all seeds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation.baselines.top import MAX_DENSE_SCORES, batch_seeds, rank_dense
from ingest.learn.word2vec import train_vectors, write_corpus
from ingest.parameters import Parameters
from ingest.sql import connect
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers

EPOCHS = 30
LEARNING_RATE = 0.025
WINDOW = 10

PARAMETERS = Parameters(
    dimensions=48,
    window=WINDOW,
    epochs=EPOCHS,
    min_count=3,
    skip_gram=False,
    sample=1e-3,
    workers=1,  # with several threads, results vary
)
"""Parameters as in common tutorials: CBOW, and gensim's defaults for all other parameters."""


@dataclass(frozen=True)
class Model:
    """A Word2Vec model with vectors for v of the songs of a dataset."""

    songs: SongNumbers  # shape (v,), ascending
    vectors: NDArray[np.float32]  # shape (v, 48), unit length
    row: NDArray[np.int64]  # shape (songs,), row of each song of the dataset in `vectors`, or -1

    def to_song_numbers(self, rankings: SongNumbers) -> SongNumbers:
        """Convert rankings of row numbers to rankings of song numbers. -1 stays -1."""
        numbers: SongNumbers = np.where(rankings >= 0, self.songs[rankings], -1).astype(np.int32)
        return numbers


def has_vocabulary(dataset: Dataset) -> bool:
    """Return whether any song is in `min_count` or more training playlists, as gensim requires."""
    return bool((dataset.songs.playlists >= PARAMETERS.min_count).any())


def train_tutorial_model(dataset: Dataset) -> Model:
    """Train a model with `PARAMETERS` on the training playlists, always with the same result."""
    with tempfile.TemporaryDirectory(prefix="nextsong-") as name:
        folder = Path(name)
        with connect(folder) as sql:
            train_path = finished_stage(dataset.work, "split").folder / "train.parquet"
            write_corpus(sql, train_path, folder / "corpus.txt", WINDOW)
        songs, vectors = train_vectors(
            folder / "corpus.txt",
            EPOCHS,
            replace(PARAMETERS, seed=dataset.seed),
            learning_rate=LEARNING_RATE,
        )
    row = np.full(len(dataset.songs), -1, dtype=np.int64)
    row[songs] = np.arange(len(songs))
    return Model(songs, vectors, row)


class LastSong:
    """Recommends the songs with the highest cosine similarity to the last song of the query.

    As in tutorials, only the last song is excluded: other songs of the query can be recommended.
    If the last song has no vector, a random song is used instead.
    """

    key, name = "tutorial", "tutorial (last song)"

    def __init__(self, dataset: Dataset, model: Model) -> None:
        self._model = model
        self._seed = dataset.seed

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs most similar to the last seed of each case.

        The batches have shape (n, limit).
        """
        model = self._model
        random = np.random.default_rng(self._seed)
        last_songs = cases.seeds.songs[cases.seeds.offsets[1:] - 1]
        rows = np.where(last_songs >= 0, model.row[last_songs], -1)
        is_unknown = rows < 0
        rows[is_unknown] = random.integers(len(model.songs), size=int(is_unknown.sum()))
        size = max(1, MAX_DENSE_SCORES // len(model.songs))
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            scores = model.vectors[batch] @ model.vectors.T
            scores[np.arange(len(batch)), batch] = -np.inf
            yield model.to_song_numbers(rank_dense(scores, limit))


class MeanOfAll:
    """Recommends the songs with the highest dot product with the mean vector of the seeds."""

    key, name = "word2vec-mean", "Word2Vec mean"

    def __init__(self, model: Model) -> None:
        self._model = model

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs most similar to the mean of the seeds of each case.

        The batches have shape (n, limit). If no seed of a case has a vector, no songs are
        recommended for the case.
        """
        model = self._model
        for seeds in batch_seeds(cases, len(model.songs)):
            rows = np.where(seeds.songs >= 0, model.row[seeds.songs], -1)
            known = rows >= 0
            means = np.zeros((len(seeds), model.vectors.shape[1]), dtype=np.float32)
            np.add.at(means, seeds.rows[known], model.vectors[rows[known]])
            scores = means @ model.vectors.T
            scores[seeds.rows[known], rows[known]] = -np.inf
            scores[~means.any(axis=1)] = -np.inf
            yield model.to_song_numbers(rank_dense(scores, limit))
