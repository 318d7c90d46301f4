"""The re-ranker, which orders the candidates of several searches by boosted trees.

This module defines the candidate channels and the features for both `ingest`, which trains the
model on training playlists, and `service`, which applies the model. LightGBM implements the trees.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import CorruptReleaseError, MissingLibraryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.manifest import StoredReranker

log = logging.getLogger("nextsong.ranking")

Floats = NDArray[np.float64]
SHARE = "_share"


@dataclass(frozen=True, slots=True)
class Channel:
    """A search for `depth` candidates, by the dense vector if `dense`, else by co-occurrence.

    `power` has the same meaning as in `catalog.recency.Recency`. A model refers to channels by
    name. Therefore, if the power of a channel changes, the channel needs a new name, so that models
    trained with the old power are not used (see `Reranker`).
    """

    name: str
    dense: bool
    power: float
    depth: int


CHANNELS = (
    Channel("recent", dense=False, power=1.0, depth=100),
    Channel("whole", dense=False, power=0.25, depth=150),
    Channel("last", dense=False, power=math.inf, depth=100),
    Channel("dense", dense=True, power=0.5, depth=100),
    Channel("dense_last", dense=True, power=math.inf, depth=50),
)
"""The searches: by co-occurrence with two powers and with the last song alone, and by Word2Vec with
one power and with the last song alone."""

FEATURES = (
    *(f"{channel.name}_{what}" for channel in CHANNELS for what in ("score", "rank")),
    *(f"{channel.name}_for_its_popularity" for channel in CHANNELS if not channel.dense),
    "found_by",
    "popularity",
    "popularity_beside_seeds",
    "popularity_beside_last",
    "popularity_of_seeds",
    "seeds",
    "similar_to_recent",
    "artist_share",
    "artist_of_last",
    "artist_among_last_3",
)
"""Columns of the feature matrix (see `features`). Two more columns follow for each keyword field,
such as the album."""

RECENT = 10
"""Number of the last songs of a playlist whose mean vector is compared with candidates."""

MOST_FIELDS = 5
"""Maximum number of keyword payload fields that are features: the first in alphabetical order."""


@dataclass(frozen=True, slots=True)
class SongTraits:
    """Attributes of n songs.

    - `playlists`, shape (n,): number of training playlists that contain the song.
    - `groups`, shape (1 + fields, n): numbers that identify the artist (first row) and the value of
      each keyword field (other rows); -1 if the song has none.
    """

    playlists: NDArray[np.int64]
    groups: NDArray[np.int64]


def merge_candidates(
    lists: Sequence[tuple[NDArray[np.int64], Floats]],
) -> tuple[NDArray[np.int64], Floats]:
    """Return the distinct candidates of all channels, and their score in each channel.

    `lists` contains, for each channel, the numbers of its songs and their scores, best first.
    Returns the numbers of the n distinct songs in order of their first occurrence, shape (n,), and
    their scores, shape (channels, n). A score is NaN if the channel does not contain the song.
    """
    songs = np.concatenate([channel_songs for channel_songs, _ in lists])
    numbers, first, positions = np.unique(songs, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    scores = np.full((len(lists), len(numbers)), np.nan)
    start = 0
    for row, (channel_songs, values) in zip(scores, lists, strict=True):
        row[rank[positions[start : start + len(channel_songs)]]] = values
        start += len(channel_songs)
    return numbers[order], scores


def feature_names(fields: Sequence[str] = ()) -> list[str]:
    """Return the names of the columns of the feature matrix for these keyword fields."""
    return [*FEATURES, *(f"{name}{what}" for name in fields for what in (SHARE, "_of_last"))]


def features(scores: Floats, similarities: Floats, songs: SongTraits, seeds: SongTraits) -> Floats:
    """Return the feature matrix, shape (n, len(FEATURES) + 2 * fields); missing values are NaN.

    - `scores`, shape (channels, n): NaN if a channel did not return a candidate.
    - `similarities`, shape (n,): cosine similarity of each candidate to the mean vector of the last
      `RECENT` seeds.
    - `seeds`: at least one seed, in play order.

    Each channel has three features: the candidate's score divided by the best score; its rank, from
    0; and, if the channel is sparse, the logarithm of the first feature minus half the popularity.
    The popularity of a song is the logarithm of 1 + `playlists`.
    """
    best = np.fmax.reduce(scores, axis=1, initial=1e-9, keepdims=True) if scores.size else scores
    relative = scores / best
    order = np.argsort(np.argsort(-relative, axis=1, kind="stable"), axis=1).astype(np.float64)
    order[np.isnan(scores)] = np.nan
    popularity = np.log1p(songs.playlists)
    of_seeds = np.log1p(seeds.playlists)
    same = songs.groups[:, :, None] == seeds.groups[:, None, :]
    same &= songs.groups[:, :, None] >= 0
    of_field = [(field.mean(axis=1), field[:, -1]) for field in same]
    sparse = [row for row, channel in enumerate(CHANNELS) if not channel.dense]
    columns = [
        *(column for pair in zip(relative, order, strict=True) for column in pair),
        *(np.log(np.maximum(relative[row], 1e-9)) - popularity / 2 for row in sparse),
        (~np.isnan(scores)).sum(axis=0),
        popularity,
        popularity - of_seeds.mean(),
        popularity - of_seeds[-1],
        np.full(len(popularity), of_seeds.mean()),
        np.full(len(popularity), len(of_seeds)),
        similarities,
        *of_field[0],
        same[0, :, -3:].sum(axis=1),
        *(column for pair in of_field[1:] for column in pair),
    ]
    return np.column_stack(columns).astype(np.float64)


class Reranker:
    """Boosted trees that score candidates by their features. More likely songs score higher.

    - `fields`: the keyword payload fields that the model uses.
    - `has_current_features`: whether the model was trained with the features of this version.

    Raises `CorruptReleaseError` or `MissingLibraryError`.
    """

    def __init__(self, model: str) -> None:
        lightgbm = load_lightgbm()
        try:
            self._booster = lightgbm.Booster(model_str=model)
        except lightgbm.basic.LightGBMError as error:
            raise CorruptReleaseError(f"the ranker is no model of LightGBM: {error}") from error
        names = self._booster.feature_name()
        self.fields = [name.removesuffix(SHARE) for name in names[len(FEATURES) :: 2]]
        self.has_current_features = names == feature_names(self.fields)

    def score(self, table: Floats) -> Floats:
        """Return the scores of n candidates, shape (n,), from 0 to 1, comparable within a query."""
        # For a few hundred rows, starting threads takes more time than the threads save.
        scores: Floats = self._booster.predict(table, num_threads=1)
        return scores


def load_lightgbm() -> Any:
    """Import LightGBM, which takes seconds, and send its messages to the log.

    By default LightGBM prints messages on standard output. Raises `MissingLibraryError`.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise MissingLibraryError(
            f"rankers need LightGBM, which cannot be loaded ({error}): install `lightgbm` and the "
            f"OpenMP library (Debian's package libgomp1)"
        ) from error
    lightgbm.register_logger(log)
    return lightgbm


def pack(model: str) -> tuple[str, str]:
    """Return the SHA-256 of a model's text, and the compressed text encoded as ASCII."""
    content = model.encode()
    packed = base64.b85encode(zlib.compress(content, 9)).decode()
    return hashlib.sha256(content).hexdigest(), packed


def unpack(stored: StoredReranker) -> str:
    """Return the text of a stored model. Raises `CorruptReleaseError`."""
    try:
        content = zlib.decompress(base64.b85decode(stored.model))
    except (ValueError, zlib.error) as error:
        raise CorruptReleaseError(f"the ranker in the manifest cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != stored.sha256:
        raise CorruptReleaseError("the ranker in the manifest is not as it was published")
    return content.decode()


@lru_cache(maxsize=4)
def load_reranker(stored: StoredReranker | None) -> Reranker | None:
    """Return the re-ranker of a release, or None if it has none or the model cannot be used.

    The model cannot be used if LightGBM is not installed, or if it was trained with features that
    differ from the features of this version. In both cases, a warning is logged. The first call for
    a release takes seconds; later calls return the same object. Raises `CorruptReleaseError`.
    """
    if stored is None:
        return None
    try:
        reranker = Reranker(unpack(stored))
    except MissingLibraryError as error:
        log.warning(
            "the re-ranker of the release cannot be loaded, so hybrid search is used instead: %s",
            error,
        )
        return None
    if not reranker.has_current_features:
        log.warning(
            "the re-ranker of the release was trained by another version of nextsong, so hybrid "
            "search is used instead; run 'nextsong ingest run --ranker' to train a new one"
        )
        return None
    return reranker
