"""The re-ranker: boosted trees that order the best songs of a co-occurrence search.

This module defines the candidates and the features for both `ingest`, which trains the model on
training playlists, and `service`, which applies the model. LightGBM implements the trees.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import CorruptReleaseError, MissingLibraryError
from catalog.recency import Recency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.manifest import StoredReranker

log = logging.getLogger("nextsong.ranking")

Floats = NDArray[np.float64]

CANDIDATES = 150
"""Number of candidates: the best songs of a co-occurrence search with the release's parameters.

If a query asks for more songs, it has as many candidates as it asks for."""

RECENCIES = (Recency(0.0), Recency(2.0))
"""Recencies of two more co-occurrence scores of the candidates, without content.

A model refers to features by name. Therefore, if a recency changes, its feature needs a new name,
so that models trained with the old recency are not used (see `Reranker`)."""

FEATURES = (
    "score",
    "flat_score",
    "steep_score",
    "popularity_beside_seeds",
    "popularity_beside_last",
    "seeds",
    "artist_share",
    "artist_share_by_recency",
    "artist_of_last",
    "candidates_of_artist",
    "artist_repeated",
)
"""Columns of the feature matrix (see `build_features`). Two more columns follow for each keyword
field, such as the album."""

SHARE, OF_LAST = "_share", "_of_last"

MOST_FIELDS = 5
"""Maximum number of keyword payload fields that are features: the first in alphabetical order."""

MIN_SCORE = 1e-9
"""Smallest divisor of scores, which can all be 0."""

RECENT_PAIRS = 10
"""Number of the last pairs of consecutive seeds for the feature "artist_repeated"."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The content keys of n candidates and m seeds, of one content field (see `catalog.content`).

    - `candidates`, shape (n, keys): whether each candidate has each key.
    - `seeds`, shape (m, keys): the same for the seeds, in play order, with songs that the catalog
      lacks.
    """

    candidates: NDArray[np.bool_]
    seeds: NDArray[np.bool_]

    def shared(self) -> NDArray[np.bool_]:
        """Return whether each candidate has a key in common with each seed, shape (n, m)."""
        shared = np.zeros((len(self.candidates), len(self.seeds)), bool)
        common = np.flatnonzero(self.candidates.any(axis=0) & self.seeds.any(axis=0))
        rows, keys = np.nonzero(self.candidates[:, common])
        if len(rows):
            starts = np.flatnonzero(np.diff(rows, prepend=-1))
            has_key = self.seeds.T[common[keys]]
            shared[rows[starts]] = np.logical_or.reduceat(has_key, starts, axis=0)
        return shared


@dataclass(frozen=True, slots=True)
class Candidates:
    """The n candidates of a query, at least one.

    - `scores`, shape (3, n): the scores of the search, best first, and the co-occurrence scores
      with the `RECENCIES`.
    - `plays`, shape (n,): number of training playlists that contain each candidate.
    - `seed_plays`: number of training playlists that contain each seed, in play order, without
      seeds that no training playlist contains. It is not empty.
    - `keys`: the keys of the artists, and then of each keyword field.
    """

    scores: Floats
    plays: NDArray[np.int64]
    seed_plays: NDArray[np.int64]
    keys: Sequence[Keys]


def feature_names(fields: Sequence[str] = ()) -> list[str]:
    """Return the names of the columns of the feature matrix for these keyword fields."""
    return [*FEATURES, *(name + what for name in fields for what in (SHARE, OF_LAST))]


def build_features(candidates: Candidates) -> Floats:
    """Return the feature matrix of n candidates, shape (n, len(FEATURES) + 2 * fields).

    Each score is divided by the highest score of its kind. The popularity of a song is the
    logarithm of 1 + `plays`; it is compared with the mean of the seeds and with the last seed.
    Shares are shares of the seeds that have an artist in common with the candidate. In the share by
    recency, a seed that A other seeds follow weighs 1 / (A + 1). "artist_repeated" is the share of
    pairs with an artist in common among the last `RECENT_PAIRS` pairs of consecutive seeds.
    """
    scores, (artists, *fields) = candidates.scores, candidates.keys
    popularity, of_seeds = np.log1p(candidates.plays), np.log1p(candidates.seed_plays)
    shared = artists.shared()
    by_recency = 1 / np.arange(len(artists.seeds), 0, -1.0)
    of_artist = artists.candidates * artists.candidates.sum(axis=0)
    last = artists.seeds[-RECENT_PAIRS - 1 :]
    repeated = np.asarray((last[1:] & last[:-1]).any(axis=1))
    columns = [
        *(scores / np.maximum(scores.max(axis=1, keepdims=True), MIN_SCORE)),
        popularity - of_seeds.mean(),
        popularity - of_seeds[-1],
        len(artists.seeds),
        shared.mean(axis=1),
        shared @ (by_recency / by_recency.sum()),
        shared[:, -1],
        of_artist.max(axis=1, initial=0),
        repeated.mean() if len(repeated) else 0.0,
    ]
    for keys in fields:
        shared = keys.shared()
        columns += [shared.mean(axis=1), shared[:, -1]]
    table = np.empty((scores.shape[1], len(columns)))
    for number, column in enumerate(columns):
        table[:, number] = column
    return table


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
            "search is used instead; run 'nextsong ingest run' to train a new one"
        )
        return None
    return reranker
