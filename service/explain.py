"""Why a song was recommended: the seeds that brought it in, and their shares in that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.seeds import counts_of, mean_of, with_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from catalog.release import Hit
    from service.seeds import ResolvedSeed


@dataclass(frozen=True, slots=True)
class Reason:
    """A seed, by its place in the query, and its share in a recommendation: above 0, at most 1."""

    seed: int
    share: float


def reasons_of(
    hit: Hit,
    seeds: Sequence[ResolvedSeed],
    strengths: Mapping[int, float],
    decay: float,
    dense_decay: float,
    dense_weight: float,
) -> list[Reason]:
    """The seeds that speak for a song, those with the largest share first; shares add up to 1.

    By co-occurrence, a seed's share is its part of the score, weight times strength: exact. By
    Word2Vec it is its part of the cosine similarity: exact as well. Where both kinds of search
    speak for a song, their shares are mixed, Word2Vec counting `dense_weight` beside 1. Seeds that
    speak against the song have no share.
    """
    by_company = _company(seeds, strengths, decay)
    by_likeness = _likeness(hit, seeds, dense_decay)
    shares = by_company + (dense_weight if by_company.any() else 1.0) * by_likeness
    if not shares.any():
        return []
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    return [Reason(int(seed), float(shares[seed])) for seed in order if shares[seed] > 0]


def _company(
    seeds: Sequence[ResolvedSeed], strengths: Mapping[int, float], decay: float
) -> NDArray[np.float64]:
    parts = np.zeros(len(seeds))
    for count, place in counts_of(seeds, decay):
        points = seeds[place].points
        strength = sum(strengths.get(point.song.ordinal, 0.0) for point in points)
        parts[place] = count * strength / len(points)
    return _shares(parts)


def _likeness(hit: Hit, seeds: Sequence[ResolvedSeed], decay: float) -> NDArray[np.float64]:
    parts = np.zeros(len(seeds))
    if hit.vector is not None:
        for count, place in counts_of([with_vectors(seed) for seed in seeds], decay):
            parts[place] = count * float(mean_of(seeds[place]) @ hit.vector)
    return _shares(parts)


def _shares(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = np.maximum(parts, 0.0)
    total = positive.sum()
    return positive / total if total else positive
