"""What `nextsong tune` tries: which parameters in which phase, and how well a choice does.

Each phase tunes what one kind of search needs, so that nothing is made again that has not changed:
`count` tries co-occurrence alone, `train` Word2Vec alone, `query` how the two best are joined.
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
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from ingest.learn.cases import Cases
    from ingest.learn.retrieval import Songs
    from ingest.parameters import Parameters

PHASES = ("count", "train", "query")

MOST_PLAYLISTS = 1_500
CUTS = 4
"""A validation playlist is asked about its last song, and about so many others less one: many more
queries than playlists tell small differences apart."""

DEPTH = 100

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
        "epochs": (),
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

EPOCHS = (0.25, 0.5, 1.0, 2.0)
"""Epochs that are tried, as shares of those that so many plays are trained with by default."""

_OF_ORDER = {"distance_power", "backward", "query_decay", "cooccurrence_decay"}
_LOGARITHMIC = {"dense_weight"}


def space(phase: str, start: Parameters, plays: int) -> dict[str, Any]:
    """The parameters that a phase tries: a range of two floats, or the values to choose from.

    What `start` has is always among the values. Without an order, what weighs it is left out.
    """
    found = {}
    for name, values in _SPACE[phase].items():
        if start.order == "none" and name in _OF_ORDER:
            continue
        own = _own(start, name, plays)
        if is_range(values):
            found[name] = (min(values[0], own), max(values[1], own))
            continue
        tried = values
        if name == "epochs":
            usual = replace(start, epochs=None).epochs_for(plays)
            tried = tuple(sorted({max(1, round(share * usual)) for share in EPOCHS}))
        found[name] = tried if own in tried else (*tried, own)
    return found


def names(phase: str) -> tuple[str, ...]:
    """The parameters that a phase may change."""
    return tuple(_SPACE[phase])


def is_range(values: Any) -> bool:
    """Whether these are the ends of a range, not values to choose from."""
    return len(values) == 2 and isinstance(values[0], float)


def _own(start: Parameters, name: str, plays: int) -> Any:
    by_size = {"epochs": start.epochs_for, "window": start.window_for}
    return by_size[name](plays) if name in by_size else getattr(start, name)


@dataclass(frozen=True)
class Held:
    """What trials are judged on."""

    train: list[Songs]
    playlists: NDArray[np.int64]
    cases: Cases

    @property
    def plays(self) -> int:
        """How many songs there are to learn from, each as often as it is played."""
        return sum(map(len, self.train))


def load(songs: Path, train: Path, held_out: Path, parameters: Parameters) -> Held:
    """Read the playlists to train on and those to be judged on."""
    playlists = retrieval.read_playlists(train)
    total = pq.read_metadata(songs).num_rows
    others = retrieval.read_playlists(held_out)
    random = np.random.default_rng(parameters.seed)
    some = [others[place] for place in random.permutation(len(others))[:MOST_PLAYLISTS]]
    cases = sample_cases_with_last(some, random, CUTS - 1)
    known = retrieval.count_playlists(playlists, total, parameters)
    return Held(playlists, known, cases)


def suggest(trial: Any, values_of: Mapping[str, Any]) -> dict[str, Any]:
    """A choice from a `space`, made by an optuna trial."""
    return {
        name: trial.suggest_float(name, *values, log=name in _LOGARITHMIC)
        if is_range(values)
        else trial.suggest_categorical(name, values)
        for name, values in values_of.items()
    }


def start_of(start: Parameters, values_of: Mapping[str, Any], plays: int) -> dict[str, Any]:
    """The choice that `start` itself is: what every phase tries first."""
    return {name: _own(start, name, plays) for name in values_of}


def counted(held: Held, parameters: Parameters) -> csr_array:
    """The strengths that these parameters make of the training playlists."""
    songs = np.concatenate(held.train)
    offsets = np.cumsum([0, *map(len, held.train)])
    parts = [part for _, _, part in compute_weights(offsets, songs, parameters)]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return retrieval.weight_matrix(columns, len(held.playlists))


def trained(
    held: Held, parameters: Parameters, folder: Path
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The songs and vectors that these parameters make of the training playlists.

    Raises `PlaylistError` where no song is in enough of them.
    """
    most = int(np.bincount(np.concatenate(held.train)).max(initial=0))
    if most < parameters.min_count:
        raise PlaylistError(
            f"no song is in {parameters.min_count} training playlists (the most is {most})"
        )
    return reranker.learn_vectors(held.train, parameters, folder)


def arrays_of(
    held: Held,
    strengths: csr_array | None = None,
    vectors: tuple[NDArray[np.int32], NDArray[np.float32]] | None = None,
) -> ReleaseArrays:
    """A release's arrays, of which one kind may be missing."""
    total = len(held.playlists)
    return ReleaseArrays(
        retrieval.weight_matrix([[], [], []], total) if strengths is None else strengths,
        *(vectors or (np.zeros(0, np.int32), np.zeros((0, 1), np.float32))),
        held.playlists,
        np.zeros((1, total), np.int64),
    )


def ranks(
    arrays: ReleaseArrays, cases: Cases, parameters: Parameters, phase: str
) -> NDArray[np.int64]:
    """The place of each label in what the phase's kind of search answers, 1 to 100, or 0."""
    if phase == "query":
        return reranker.hybrid_ranks(arrays, cases, parameters)
    if phase == "count":
        rank, decay = retrieval.rank_by_cooccurrence, parameters.cooccurrence_decay
    else:
        rank, decay = retrieval.rank_by_similarity, parameters.query_decay
    rankings = rank(arrays, cases.queries, decay, DEPTH)
    return retrieval.ranks_of_labels((songs for songs, _ in rankings), cases.labels)


def value_of(arrays: ReleaseArrays, held: Held, parameters: Parameters, phase: str) -> float:
    """What trials are judged by: the mean discounted gain over all queries, 0 to 1."""
    return float(discounted_gains(ranks(arrays, held.cases, parameters, phase)).mean())


def with_chosen(parameters: Parameters, chosen: Mapping[str, Any]) -> Parameters:
    """The parameters, changed as chosen."""
    return replace(parameters, **chosen)
