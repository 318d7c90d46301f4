"""The search space of a study and the objective of its trials.

A study has three phases, so that only what a trial changes is computed: `count` tunes co-occurrence
alone, `train` tunes Word2Vec alone, and `query` tunes how the best of both are combined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from catalog.errors import PlaylistError
from ingest.learn import reranker, retrieval
from ingest.learn.cases import sample_cases_with_last
from ingest.learn.cooccurrence import compute_weights
from ingest.learn.rank_metrics import discounted_gains
from ingest.learn.retrieval import ReleaseArrays

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from ingest.learn.cases import Cases
    from ingest.learn.retrieval import Songs
    from ingest.parameters import Parameters

Vectors = tuple["NDArray[np.int32]", "NDArray[np.float32]"]
"""Songs that have a dense vector, shape (vectors,), and the vectors, (vectors, dimensions)."""

PHASES = ("count", "train", "query")

MAX_PLAYLISTS = 1_500  # validation playlists that trials are scored on
CASES_PER_PLAYLIST = 4  # more cases than playlists resolve smaller differences
DEPTH = 100  # songs of a ranking

EPOCH_SHARES = (0.25, 0.5, 1.0, 2.0)  # of the default epochs for this number of plays

_SPACE: Mapping[str, Mapping[str, Any]] = {
    "count": {
        "cooccurrence_window": (5, 20, 60, 200),
        "distance_power": (0.0, 1.5),
        "backward": (0.0, 1.0),
        "seed_exponent": (0.0, 1.0),
        "song_exponent": (0.0, 0.6),
        "cooccurrence_decay": (0.5, 1.0),
    },
    "train": {
        "skip_gram": (True, False),
        "dimensions": (32, 64, 128),
        "window": (5, 10, 20, 60, 200),
        "epochs": (),  # depends on the number of plays: see `EPOCH_SHARES`
        "min_count": (1, 2, 3, 5, 8),
        "negative": (3, 5, 10, 20),
        "ns_exponent": (-1.0, 1.0),
        "sample": (0.0, 1e-5, 1e-4, 1e-3),
        "query_decay": (0.5, 1.0),
    },
    "query": {
        "dense_weight": (0.01, 2.0),
        "query_decay": (0.5, 1.0),
        "cooccurrence_decay": (0.5, 1.0),
    },
}
_NEEDS_ORDER = {"distance_power", "backward", "query_decay", "cooccurrence_decay"}
_LOGARITHMIC = {"dense_weight"}


def search_space(phase: str, start: Parameters, plays: int) -> dict[str, Any]:
    """Return the values that a phase tries: by parameter, a range of two floats or the choices.

    The space always contains the value of `start`. Parameters that weigh the order of songs are
    left out if the playlists have no order.
    """
    space = {}
    for name, values in _SPACE[phase].items():
        if start.order == "none" and name in _NEEDS_ORDER:
            continue
        own = _value_of(start, name, plays)
        if is_range(values):
            space[name] = (min(values[0], own), max(values[1], own))
            continue
        choices = values
        if name == "epochs":
            default = replace(start, epochs=None).epochs_for(plays)
            choices = tuple(sorted({max(1, round(share * default)) for share in EPOCH_SHARES}))
        space[name] = choices if own in choices else (*choices, own)
    return space


def parameter_names(phase: str) -> tuple[str, ...]:
    """Return the names of the parameters that a phase may change."""
    return tuple(_SPACE[phase])


def is_range(values: Any) -> bool:
    """Return whether the values are the ends of a range, rather than choices."""
    return len(values) == 2 and isinstance(values[0], float)


def start_values(start: Parameters, space: Iterable[str], plays: int) -> dict[str, Any]:
    """Return the values of `start` for the parameters of a search space."""
    return {name: _value_of(start, name, plays) for name in space}


def suggest(trial: Any, space: Mapping[str, Any]) -> dict[str, Any]:
    """Let an optuna trial choose a value for each parameter of a search space."""
    return {
        name: trial.suggest_float(name, *values, log=name in _LOGARITHMIC)
        if is_range(values)
        else trial.suggest_categorical(name, values)
        for name, values in space.items()
    }


def _value_of(start: Parameters, name: str, plays: int) -> Any:
    by_plays = {"epochs": start.epochs_for, "window": start.window_for}
    return by_plays[name](plays) if name in by_plays else getattr(start, name)


@dataclass(frozen=True)
class TuningData:
    """The training playlists, and the validation cases that trials are scored on.

    `playlist_counts`, shape (songs,), is the number of training playlists of each song.
    """

    train: list[Songs]
    playlist_counts: NDArray[np.int64]
    cases: Cases

    @property
    def plays(self) -> int:
        """The number of plays in the training playlists."""
        return sum(map(len, self.train))


def read_tuning_data(
    songs: Path, train: Path, validation: Path, parameters: Parameters
) -> TuningData:
    """Read the training playlists and sample held-out cases from the validation playlists."""
    playlists = retrieval.read_playlists(train)
    total = pq.read_metadata(songs).num_rows
    held_out = retrieval.read_playlists(validation)
    random = np.random.default_rng(parameters.seed)
    sample = [held_out[row] for row in random.permutation(len(held_out))[:MAX_PLAYLISTS]]
    cases = sample_cases_with_last(sample, random, CASES_PER_PLAYLIST - 1)
    return TuningData(playlists, retrieval.count_playlists(playlists, total, parameters), cases)


def count_cooccurrence(data: TuningData, parameters: Parameters) -> csr_array:
    """Return the co-occurrence weights of the training playlists, shape (songs, songs)."""
    songs = np.concatenate(data.train)
    offsets = np.cumsum([0, *map(len, data.train)])
    parts = [part for _, _, part in compute_weights(offsets, songs, parameters)]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return retrieval.weight_matrix(columns, len(data.playlist_counts))


def train_vectors(data: TuningData, parameters: Parameters, folder: Path) -> Vectors:
    """Train Word2Vec; return the songs that have a vector, and the vectors.

    `folder` is for temporary files. Raises `PlaylistError` if no song is in `min_count` training
    playlists.
    """
    most = int(np.bincount(np.concatenate(data.train)).max(initial=0))
    if most < parameters.min_count:
        raise PlaylistError(
            f"no song is in {parameters.min_count} training playlists (the most is {most})"
        )
    return reranker.learn_vectors(data.train, parameters, folder)


def build_arrays(
    data: TuningData, weights: csr_array | None = None, vectors: Vectors | None = None
) -> ReleaseArrays:
    """Return the arrays of a release; without weights or vectors, these are empty."""
    total = len(data.playlist_counts)
    return ReleaseArrays(
        retrieval.weight_matrix([[], [], []], total) if weights is None else weights,
        *(vectors or (np.zeros(0, np.int32), np.zeros((0, 1), np.float32))),
        data.playlist_counts,
        np.zeros((1, total), np.int64),
    )


def rank_labels(
    arrays: ReleaseArrays, cases: Cases, parameters: Parameters, phase: str
) -> NDArray[np.int64]:
    """Return the rank of each label, shape (cases,), from 1 to `DEPTH`, or 0 for a miss.

    `phase` determines the search: by co-occurrence, by similarity, or hybrid.
    """
    if phase == "query":
        return reranker.hybrid_ranks(arrays, cases, parameters)
    if phase == "count":
        rank, decay = retrieval.rank_by_cooccurrence, parameters.cooccurrence_decay
    else:
        rank, decay = retrieval.rank_by_similarity, parameters.query_decay
    rankings = rank(arrays, cases.queries, decay, DEPTH)
    return retrieval.ranks_of_labels((songs for songs, _ in rankings), cases.labels)


def mean_gain(arrays: ReleaseArrays, cases: Cases, parameters: Parameters, phase: str) -> float:
    """Return the objective of trials: the mean discounted gain of the labels, from 0 to 1."""
    return float(discounted_gains(rank_labels(arrays, cases, parameters, phase)).mean())
