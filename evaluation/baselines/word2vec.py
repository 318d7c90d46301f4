"""The tutorials' way, to the letter; and the same vectors asked with the mean of the query."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation.baselines.top import DENSE_SCORES, top_of_dense
from ingest.learn.word2vec import train_vectors, write_corpus
from ingest.parameters import Parameters
from ingest.sql import connect
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers

EPOCHS = 30
WINDOW = 10

PARAMETERS = Parameters(
    dimensions=48,
    window=WINDOW,
    epochs=EPOCHS,
    min_count=3,
    skip_gram=False,
    sample=1e-3,
    workers=1,  # several threads update the same vectors without locks, and no two runs are alike
)
"""CBOW, 48 numbers, window 10, 30 epochs, min_count 3, and gensim's defaults for the rest."""


@dataclass(frozen=True)
class Model:
    """The tutorials' model: v songs with a unit vector each, and the row of each song, or -1."""

    songs: Numbers  # (v,), ascending
    vectors: NDArray[np.float32]  # (v, 48)
    row: NDArray[np.int64]  # (songs of the work folder,)


def has_vocabulary(data: Data) -> bool:
    """Whether any song is in as many training playlists as the model wants: gensim fails else."""
    return bool((data.songs.playlists >= PARAMETERS.min_count).any())


def tutorial_model(data: Data) -> Model:
    """Train the tutorials' model on the training playlists: the same one each time."""
    with tempfile.TemporaryDirectory(prefix="nextsong-") as name:
        folder = Path(name)
        with connect(folder) as sql:
            train_path = finished_stage(data.work, "split").folder / "train.parquet"
            write_corpus(sql, train_path, folder / "corpus.txt", WINDOW)
        songs, vectors = train_vectors(
            folder / "corpus.txt", EPOCHS, replace(PARAMETERS, seed=data.seed)
        )
    row = np.full(len(data.songs), -1, dtype=np.int64)
    row[songs] = np.arange(len(songs))
    return Model(songs, vectors, row)


class LastSong:
    """The cosine neighbours of the last song.

    Nothing but the last song itself is kept out of the answer; a last song without a vector is
    replaced by a random one.
    """

    key, name = "tutorial", "tutorial (last song)"

    def __init__(self, data: Data, model: Model) -> None:
        self._model = model
        self._seed = data.seed

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, the neighbours of its last song, in batches."""
        model = self._model
        random = np.random.default_rng(self._seed)
        lasts = queries.seeds.songs[queries.seeds.offsets[1:] - 1]
        rows = np.where(lasts >= 0, model.row[lasts], -1)
        unknown = rows < 0
        rows[unknown] = random.integers(len(model.songs), size=int(unknown.sum()))
        size = max(1, DENSE_SCORES // len(model.songs))
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            scores = model.vectors[batch] @ model.vectors.T
            scores[np.arange(len(batch)), batch] = -np.inf
            yield _numbers(top_of_dense(scores, limit), model)


class MeanOfAll:
    """The songs nearest to the mean vector of the query, its own left out."""

    key, name = "word2vec-mean", "Word2Vec mean"

    def __init__(self, model: Model) -> None:
        self._model = model

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, the songs nearest to its mean, in batches.

        A query without a known song gets none.
        """
        model = self._model
        size = max(1, DENSE_SCORES // len(model.songs))
        for start in range(0, len(queries), size):
            seeds = queries.seeds.take(slice(start, start + size))
            rows = np.where(seeds.songs >= 0, model.row[seeds.songs], -1)
            known = rows >= 0
            means = np.zeros((len(seeds), model.vectors.shape[1]), dtype=np.float32)
            np.add.at(means, seeds.rows[known], model.vectors[rows[known]])
            scores = means @ model.vectors.T
            scores[seeds.rows[known], rows[known]] = -np.inf
            scores[~means.any(axis=1)] = -np.inf
            yield _numbers(top_of_dense(scores, limit), model)


def _numbers(rankings: Numbers, model: Model) -> Numbers:
    found: Numbers = np.where(rankings >= 0, model.songs[rankings], -1).astype(np.int32)
    return found
