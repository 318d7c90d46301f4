"""The second-stage ranker: candidates of several searches -> one ranking, by boosted trees.

What is searched for and what the trees look at are said once here, for `ingest`, which trains them
on training playlists, and for `service`, which asks them. LightGBM does the trees; it is an extra.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import CorruptReleaseError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from catalog.manifest import StoredRanker

log = logging.getLogger("nextsong.ranking")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Channel:
    """A search for candidates: the first `depth` songs, a seed counting `decay` of the next one."""

    name: str
    dense: bool
    decay: float
    depth: int


CHANNELS = (
    Channel("near", dense=False, decay=0.7, depth=100),
    Channel("far", dense=False, decay=0.95, depth=150),
    Channel("last", dense=False, decay=0.0, depth=100),
    Channel("dense", dense=True, decay=0.9, depth=100),
    Channel("dense_last", dense=True, decay=0.0, depth=50),
)
"""The searches: the whole playlist by co-occurrence, at two decays, and by Word2Vec; and the last
song alone by each."""

FEATURES = (
    *(f"{channel.name}_{what}" for channel in CHANNELS for what in ("score", "rank")),
    *(f"{channel.name}_for_its_popularity" for channel in CHANNELS if not channel.dense),
    "found_by",
    "popularity",
    "popularity_beside_seeds",
    "popularity_beside_last",
    "popularity_of_seeds",
    "seeds",
    "artist_share",
    "artist_among_last_3",
    "artist_of_last",
)
"""What the trees look at; see `features`."""


def merged(
    lists: Sequence[tuple[Sequence[Hashable], Sequence[float]]],
) -> tuple[list[Any], Floats]:
    """The candidates of all channels, and what each channel scored them, NaN where it lacks one.

    A channel's list is its songs and their scores, the best first. Returns the n songs and an array
    of shape (channels, n).
    """
    places: dict[Hashable, int] = {}
    for songs, _ in lists:
        for song in songs:
            places.setdefault(song, len(places))
    scores = np.full((len(lists), len(places)), np.nan)
    for row, (songs, values) in zip(scores, lists, strict=True):
        row[[places[song] for song in songs]] = values
    return list(places), scores


def features(
    scores: Floats,
    playlists: NDArray[np.int64],
    artists: NDArray[np.int64],
    seed_playlists: NDArray[np.int64],
    seed_artists: NDArray[np.int64],
) -> Floats:
    """What the trees look at, shape (n, len(FEATURES)), NaN where a channel lacks a candidate.

    For each channel the candidate's score beside the best one, and its rank from 0; the score less
    half the popularity, in logarithms. Popularity is the logarithm of `playlists`, of shape (n,)
    for candidates; artists are given as numbers; seeds, of shape (m,), in play order, and at least
    one.
    """
    best = np.fmax.reduce(scores, axis=1, initial=1e-9, keepdims=True) if scores.size else scores
    relative = scores / best
    order = np.argsort(np.argsort(-relative, axis=1, kind="stable"), axis=1).astype(np.float64)
    order[np.isnan(scores)] = np.nan
    popularity = np.log1p(playlists)
    of_seeds = np.log1p(seed_playlists)
    same = artists[:, None] == seed_artists[None, :]
    sparse = [place for place, channel in enumerate(CHANNELS) if not channel.dense]
    columns = [
        *(column for pair in zip(relative, order, strict=True) for column in pair),
        *(np.log(np.maximum(relative[place], 1e-9)) - popularity / 2 for place in sparse),
        (~np.isnan(scores)).sum(axis=0),
        popularity,
        popularity - of_seeds.mean(),
        popularity - of_seeds[-1],
        np.full(len(playlists), of_seeds.mean()),
        np.full(len(playlists), len(seed_playlists)),
        same.mean(axis=1),
        same[:, -3:].sum(axis=1),
        same[:, -1],
    ]
    return np.column_stack(columns).astype(np.float64)


class Ranker:
    """Boosted trees that score candidates by their features: the higher, the likelier the next."""

    def __init__(self, model: str) -> None:
        from lightgbm import Booster

        self._booster = Booster(model_str=model)

    def score(self, table: Floats) -> Floats:
        """A chance for each candidate, shape (n,), from 0 to 1; comparable within a query."""
        # Threads would cost more than they bring on a few hundred rows.
        chances: Floats = self._booster.predict(table, num_threads=1)
        return chances


def installed() -> bool:
    """Whether the extra that rankers need is there."""
    return find_spec("lightgbm") is not None


def pack(model: str) -> tuple[str, str]:
    """A model's text for a manifest: its SHA-256, and itself compressed, as ASCII."""
    content = model.encode()
    packed = base64.b85encode(zlib.compress(content, 9)).decode()
    return hashlib.sha256(content).hexdigest(), packed


def unpack(stored: StoredRanker) -> str:
    """The model's text. Raises `CorruptReleaseError`."""
    try:
        content = zlib.decompress(base64.b85decode(stored.model))
    except (ValueError, zlib.error) as error:
        raise CorruptReleaseError(f"the ranker in the manifest cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != stored.sha256:
        raise CorruptReleaseError("the ranker in the manifest is not as it was published")
    return content.decode()


@lru_cache(maxsize=4)
def ranker_of(stored: StoredRanker | None) -> Ranker | None:
    """The ranker of a release, loaded once; None where there is none, or LightGBM is missing.

    The latter is logged. Raises `CorruptReleaseError`.
    """
    if stored is None:
        return None
    if not installed():
        log.warning(
            "the release has a ranker, and LightGBM is not installed: hybrid search answers in its "
            "place; install the extra 'ranker' to use it"
        )
        return None
    return Ranker(unpack(stored))
