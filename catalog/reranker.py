"""The re-ranker: a LightGBM model that orders the best songs of a co-occurrence search again.

`ingest` trains the model, and `service` applies it. Both use the candidates and the features that
this module defines.
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
"""Number of candidates of a query: the best songs of a co-occurrence search.

If a query asks for more songs than this number, it has as many candidates as it asks for."""

RECENCIES = (Recency(0.0), Recency(2.0))
"""Weightings of the seeds for the features "flat_score" and "steep_score".

These features are co-occurrence scores without content entries (see `catalog.content`). If a
recency changes, its feature needs a new name, because models that were trained with the old recency
are recognised by their feature names (see `Reranker`)."""

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
"""Names of the columns of the feature matrix, without keyword fields (see `build_features`)."""

SHARE, OF_LAST = "_share", "_of_last"
"""Suffixes of the names of the two features of each keyword field, such as "album_share"."""

MOST_FIELDS = 5
"""Maximum number of keyword payload fields from which features are computed.

If a release has more fields, the first in alphabetical order are used."""

MIN_SCORE = 1e-9
"""Minimum divisor of scores. It prevents a division by 0 if all scores are 0."""

RECENT_PAIRS = 10
"""Maximum number of pairs of consecutive seeds, the most recent ones, for "artist_repeated"."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of n candidates and m seeds in one content field (see `catalog.content`).

    The keys of a song are its artists, for example, or its album.

    - `candidates`, shape (n, keys): whether each candidate has each key.
    - `seeds`, shape (m, keys): whether each seed has each key. Seeds are in play order, and include
      songs that are not in the catalog.
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

    - `scores`, shape (3, n): in the first row, the scores of the search that found the candidates,
      best first; in the other rows, the co-occurrence scores for each of the `RECENCIES`.
    - `plays`, shape (n,): number of training playlists that contain each candidate.
    - `seed_plays`, shape (known seeds,): number of training playlists that contain each seed, in
      play order. Seeds in no training playlist are left out. At least one seed must remain.
    - `keys`: the keys in the artist field, and then in each keyword field.
    """

    scores: Floats
    plays: NDArray[np.int64]
    seed_plays: NDArray[np.int64]
    keys: Sequence[Keys]


def feature_names(fields: Sequence[str] = ()) -> list[str]:
    """Return the names of all columns of the feature matrix, given the keyword fields."""
    return [*FEATURES, *(name + suffix for name in fields for suffix in (SHARE, OF_LAST))]


def build_features(candidates: Candidates) -> Floats:
    """Return the feature matrix of n candidates, shape (n, len(FEATURES) + 2 * fields).

    The columns, in the order of `FEATURES`:

    - the three scores, each divided by the highest score of its row in `candidates.scores`
    - the popularity of the candidate, log(1 + plays), minus the mean popularity of the seeds, and
      minus the popularity of the last seed
    - the number of seeds
    - the share of the seeds that have an artist in common with the candidate; the same share with
      the weight 1 / (age + 1) for each seed, where the age is the number of later seeds; and
      whether the last seed has an artist in common with the candidate
    - the number of candidates by the candidate's artist; by the most frequent of several artists
    - the share of pairs with an artist in common among the last `RECENT_PAIRS` pairs of consecutive
      seeds

    Two columns follow for each keyword field: the share of the seeds that have a key in common with
    the candidate, and whether the last seed has.
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
    """A LightGBM model that scores candidates by their features.

    - `fields`: the keyword payload fields that the model uses.
    - `has_current_features`: whether the model was trained with the features that this version of
      nextsong computes.

    The argument `model` is the text of the model. Raises `CorruptReleaseError` if LightGBM cannot
    parse the text, and `MissingLibraryError` if LightGBM cannot be loaded.
    """

    def __init__(self, model: str) -> None:
        lightgbm = load_lightgbm()
        try:
            self._booster = lightgbm.Booster(model_str=model)
        except lightgbm.basic.LightGBMError as error:
            raise CorruptReleaseError(f"the re-ranker is not a LightGBM model: {error}") from error
        names = self._booster.feature_name()
        self.fields = [name.removesuffix(SHARE) for name in names[len(FEATURES) :: 2]]
        self.has_current_features = names == feature_names(self.fields)

    def score(self, table: Floats) -> Floats:
        """Return the scores of n candidates, shape (n,), from 0 to 1, higher for more likely songs.

        `table` is the feature matrix of the candidates, shape (n, features). Scores of different
        queries are not comparable.
        """
        # For a few hundred rows, starting threads takes more time than the threads save.
        scores: Floats = self._booster.predict(table, num_threads=1)
        return scores


def load_lightgbm() -> Any:
    """Import LightGBM, which takes seconds, and return the module.

    LightGBM's messages go to the log instead of standard output. Raises `MissingLibraryError`.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise MissingLibraryError(
            f"re-ranking needs LightGBM, which cannot be loaded ({error}): install `lightgbm` and "
            f"the OpenMP library (Debian's package libgomp1)"
        ) from error
    lightgbm.register_logger(log)
    return lightgbm


def pack(model: str) -> tuple[str, str]:
    """Return the SHA-256 of a model's text, in hexadecimal, and the compressed text, in base 85.

    The manifest of a release contains both (see `catalog.manifest.StoredReranker`).
    """
    content = model.encode()
    packed = base64.b85encode(zlib.compress(content, 9)).decode()
    return hashlib.sha256(content).hexdigest(), packed


def unpack(stored: StoredReranker) -> str:
    """Return the text of a stored model (see `pack`). Raises `CorruptReleaseError` if damaged."""
    try:
        content = zlib.decompress(base64.b85decode(stored.model))
    except (ValueError, zlib.error) as error:
        raise CorruptReleaseError(
            f"the re-ranker in the manifest cannot be read: {error}"
        ) from error
    if hashlib.sha256(content).hexdigest() != stored.sha256:
        raise CorruptReleaseError("the re-ranker in the manifest is not as it was published")
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
