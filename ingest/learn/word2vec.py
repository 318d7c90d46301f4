"""Dense song vectors, learned from the training playlists with gensim's Word2Vec.

Songs take the place of words, and playlists the place of sentences. gensim reads the song numbers
from a text file, because with a Python list its worker threads would wait for the one thread that
reads the list. Source: Mikolov et al., "Efficient Estimation of Word Representations in Vector
Space", 2013.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from gensim.models import Word2Vec
from gensim.models.callbacks import CallbackAny2Vec
from gensim.models.word2vec import MAX_WORDS_IN_BATCH

from catalog.files import storage_errors
from ingest.parameters import WIDEST_WINDOW
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import duckdb
    from numpy.typing import NDArray

    from catalog.console.progress import Reporter
    from ingest.parameters import Parameters

SKIP_GRAM_RATE, CBOW_RATE = 0.1, 0.05
"""Initial learning rates of the two Word2Vec algorithms.

With gensim's default, 0.025, vectors of the same quality need about four times as many epochs. With
twice these rates, the vectors are worse (see docs/scale.md)."""

# gensim silently truncates lines of more than MAX_WORDS_IN_BATCH words. A longer playlist is
# written as several lines that overlap by one window, so that any two songs within a window are on
# a common line.
_CORPUS = """
SELECT array_to_string(list_slice(songs, start + 1, start + {longest}), ' ') AS line
FROM read_parquet({train}),
     range(0, greatest(least(len(songs), 1), len(songs) - {overlap}), {longest} - {overlap})
         AS chunk(start)
ORDER BY playlist_id, start
"""

_COUNTS = """
SELECT song, count(*)::INTEGER AS playlists
FROM (SELECT unnest(songs) AS song FROM read_parquet({train}))
GROUP BY song
"""


@dataclass(frozen=True)
class TrainSummary:
    """Result of the `train` stage.

    - `text`: a one-line summary for display.
    - `songs`: number of songs with a vector.
    - `plays`: sum of the lengths of the training playlists.
    - `most`: number of training playlists that contain the most common song.
    - `epochs`: the number of epochs of training.
    - `window`: the window size, in songs.
    """

    text: str
    songs: int
    plays: int
    most: int
    epochs: int
    window: int


def train_word2vec(
    train_path: Path, folder: Path, parameters: Parameters, reporter: Reporter
) -> TrainSummary:
    """Train song vectors, and write them to `vectors.parquet` in `folder`, one row per song.

    The columns are `song` (song number, int32) and `vector` (fixed-size list of float32, unit
    length). The table is empty if no song is in `min_count` training playlists or more.
    """
    with reporter.task("train") as task, connect(folder) as sql:
        corpus = folder / "corpus.txt"
        counted = sql.sql(_COUNTS.format(train=literal(train_path))).to_arrow_table()
        counts = np.zeros(counted.num_rows and max(counted["song"].to_numpy()) + 1, np.int32)
        counts[counted["song"].to_numpy()] = counted["playlists"].to_numpy()
        plays, most = int(counts.sum()), int(counts.max(initial=0))
        epochs, window = parameters.epochs_for(plays), parameters.window_for(plays)
        write_corpus(sql, train_path, corpus, window)
        with storage_errors(corpus):
            songs, vectors = train_vectors(
                corpus, epochs, replace(parameters, window=window), task.advance
            )
            corpus.unlink()
            table = pa.table(
                {
                    "song": pa.array(songs, pa.int32()),
                    "vector": pa.FixedSizeListArray.from_arrays(
                        vectors.ravel(), parameters.dimensions
                    ),
                }
            )
            pq.write_table(table, folder / "vectors.parquet")
        text = (
            f"{len(songs):,} song vectors of {parameters.dimensions} numbers, {epochs} "
            f"{'epoch' if epochs == 1 else 'epochs'} over {plays:,} plays"
            if len(songs)
            else f"no song vectors: {describe_rarity(most, parameters.min_count)}"
        )
        task.result(text)
    return TrainSummary(text, len(songs), plays, most, epochs, window)


def describe_rarity(most: int, min_count: int) -> str:
    """Return a text for display that explains why no song has a vector.

    `min_count` is the minimum number of training playlists of a song with a vector. `most` is the
    number of training playlists that contain the most common song.
    """
    return f"no song is in {min_count} training playlists or more (the most is {most})"


def write_corpus(
    sql: duckdb.DuckDBPyConnection, train_path: Path, corpus: Path, window: int
) -> None:
    """Write the training playlists as text, one line of song numbers per playlist.

    A playlist that is too long for gensim becomes several lines, which overlap by `window` songs.
    """
    overlap = min(window, MAX_WORDS_IN_BATCH // 2)
    query = _CORPUS.format(train=literal(train_path), longest=MAX_WORDS_IN_BATCH, overlap=overlap)
    sql.execute(
        f"COPY ({query}) TO {literal(corpus)} (FORMAT csv, HEADER false, QUOTE '', ESCAPE '')"
    )


def train_vectors(
    corpus: Path,
    epochs: int,
    parameters: Parameters,
    on_epoch: Callable[[float, float], None] | None = None,
    learning_rate: float | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Train Word2Vec on a text file with one playlist per line: song numbers separated by spaces.

    Returns the song numbers, shape (n,), ascending, and their vectors of unit length, shape (n,
    dimensions). n is 0 if no song is in `min_count` playlists or more. After each epoch,
    `on_epoch(done, total)` is called with the number of finished epochs and the total number of
    epochs. The learning rate falls from `learning_rate`, by default `SKIP_GRAM_RATE` or
    `CBOW_RATE`, to 0.0001.
    """
    model = Word2Vec(
        vector_size=parameters.dimensions,
        window=parameters.window or WIDEST_WINDOW,
        min_count=parameters.min_count,
        negative=parameters.negative,
        ns_exponent=parameters.ns_exponent,
        sample=parameters.sample,
        sg=int(parameters.skip_gram),
        alpha=learning_rate or (SKIP_GRAM_RATE if parameters.skip_gram else CBOW_RATE),
        epochs=epochs,
        seed=parameters.seed,
        workers=parameters.training_threads(),
    )
    model.build_vocab(corpus_file=str(corpus))
    if not len(model.wv):  # gensim raises an error if the vocabulary is empty
        return np.zeros(0, np.int32), np.zeros((0, parameters.dimensions), np.float32)
    model.train(
        corpus_file=str(corpus),
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=epochs,
        callbacks=[_Epochs(epochs, on_epoch)],
    )
    songs = np.array([int(word) for word in model.wv.index_to_key], dtype=np.int32)
    order = np.argsort(songs)
    vectors = model.wv.get_normed_vectors()[order].astype(np.float32)
    return songs[order], vectors


class _Epochs(CallbackAny2Vec):  # type: ignore[misc]
    """A callback for gensim that passes the number of finished epochs to `on_epoch`."""

    def __init__(self, epochs: int, on_epoch: Callable[[float, float], None] | None) -> None:
        self._done = 0
        self._epochs = epochs
        self._on_epoch = on_epoch

    def on_epoch_end(self, _model: Word2Vec) -> None:
        self._done += 1
        if self._on_epoch:
            self._on_epoch(self._done, self._epochs)
