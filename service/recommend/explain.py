"""Why a song was recommended: the seeds that brought it in, and their shares in that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.recommend.seeds import counts_of, mean_of, with_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from catalog.model import Hit
    from service.recommend.seeds import ResolvedSeed

MOST_REASONS = 10
"""So many seeds are named for a song: of more, nobody reads the last, and all must be sent."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A seed, by its place in the query, and its share in a recommendation: above 0, at most 1."""

    seed: int
    share: float


class Explanation:
    """What the seeds of one playlist say for songs; without `decay`, by Word2Vec alone.

    By co-occurrence, a seed's share is its part of the score, weight times strength: exact. By
    Word2Vec it is its part of the cosine similarity: exact as well. Where both kinds of search
    speak, parts are added as scores are (see `catalog.model.Search`): that of co-occurrence
    beside the most that any of the songs has, and `dense_weight` times that of the cosine. Seeds
    that speak against the song have no share.
    """

    def __init__(
        self,
        seeds: Sequence[ResolvedSeed],
        decay: float | None,
        dense_decay: float,
        dense_weight: float,
    ) -> None:
        self._seeds = len(seeds)
        self._dense_weight = dense_weight
        self._shares_of: dict[int, list[tuple[int, float]]] = {}
        for count, place in () if decay is None else counts_of(seeds, decay):
            points = seeds[place].points
            for point in points:
                shares = self._shares_of.setdefault(point.song.ordinal, [])
                shares.append((place, count / len(points)))
        counts = counts_of([with_vectors(seed) for seed in seeds], dense_decay)
        self._places = [place for _, place in counts]
        parts = np.array(
            [count * mean_of(seeds[place]) for count, place in counts], dtype=np.float64
        )
        length = float(np.linalg.norm(parts.sum(axis=0))) if counts else 0.0
        self._vectors = parts / length if length > 0 else parts

    @property
    def ordinals(self) -> frozenset[int]:
        """The songs of the playlist that may have predicted others."""
        return frozenset(self._shares_of)

    def reasons(
        self, hits: Sequence[Hit], strengths: Sequence[Mapping[int, float]]
    ) -> list[list[Reason]]:
        """For each song the `MOST_REASONS` seeds with the largest shares, the largest first.

        `strengths` says how strongly songs, by their ordinals, predict each of them. The shares of
        all seeds of a song add up to 1.
        """
        company = self._company(strengths)
        most = company.sum(axis=1).max(initial=0.0)
        shares = _shares(
            company / (most if most > 0 else 1.0) + self._dense_weight * self._likeness(hits)
        )
        order = np.argsort(-shares, axis=1, kind="stable")[:, :MOST_REASONS]
        largest = np.take_along_axis(shares, order, axis=1)
        return [
            [Reason(seed, share) for seed, share in zip(*row, strict=True) if share > 0]
            for row in zip(order.tolist(), largest.tolist(), strict=True)
        ]

    def _company(self, strengths: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
        parts = np.zeros((len(strengths), self._seeds))
        known = self._shares_of.keys()
        for row, own in zip(parts, strengths, strict=True):
            for ordinal in known & own.keys():
                for place, share in self._shares_of[ordinal]:
                    row[place] += share * own[ordinal]
        return parts

    def _likeness(self, hits: Sequence[Hit]) -> NDArray[np.float64]:
        parts = np.zeros((len(hits), self._seeds))
        rows = [row for row, hit in enumerate(hits) if hit.vector is not None]
        if rows and self._places:
            vectors = np.array([hits[row].vector for row in rows], dtype=np.float64)
            parts[np.ix_(rows, self._places)] = vectors @ self._vectors.T
        return parts


def _shares(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row's positive parts, scaled to add up to 1; a row of none stays 0."""
    positive = np.maximum(parts, 0.0)
    total = positive.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(
        positive, total, out=np.zeros_like(positive), where=total > 0
    )
    return shares
