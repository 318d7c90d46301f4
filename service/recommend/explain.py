"""Explain a recommendation: the share of each seed in each song."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from catalog.pauses import pause_between
from service.recommend.query import Mode, Reason
from service.recommend.weights import compute_mean_vector, keep_songs_with_vector, weigh_seeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from catalog.model import Hit
    from catalog.store import OpenRelease
    from service.recommend.plan import Plan

MAX_REASONS = 10
"""Maximum number of reasons of a song, which limits the size of the response."""

SONGS_PER_STEP = 200
"""Number of songs that are explained, or whose weights are fetched, before other calls run."""


async def explain(
    release: OpenRelease, plans: Sequence[Plan], rankings: Sequence[Sequence[Hit]]
) -> list[list[list[Reason]]]:
    """Return the reasons of each song of each plan. They are empty if its query wants none."""
    explainers = [
        Explainer(plan) if plan.query.explain and plan.mode is not None else None for plan in plans
    ]
    weights = await _fetch_cooccurrence_weights(release, explainers, rankings)
    reasons = []
    async for explainer, songs in pause_between(zip(explainers, rankings, strict=True)):
        plan_reasons: list[list[Reason]] = []
        async for start in pause_between(range(0, len(songs), SONGS_PER_STEP)):
            step = songs[start : start + SONGS_PER_STEP]
            if explainer is None:
                plan_reasons += [[] for _ in step]
            else:
                step_weights = [weights.get(hit.song.song_id, {}) for hit in step]
                plan_reasons += explainer.explain(step, step_weights)
        reasons.append(plan_reasons)
    return reasons


class Explainer:
    """Computes the shares of the seeds of one query in recommended songs.

    The part of a seed in a co-occurrence score is its weight times the co-occurrence weight, and
    its part in a cosine is its weight times its own cosine. These parts add up to the score. In a
    hybrid search, parts are combined like scores (see `catalog.model.Search`): co-occurrence parts
    divided by the highest co-occurrence score of the songs, plus `dense_weight` times the cosine
    parts. A seed with a negative part gets no share.
    """

    def __init__(self, plan: Plan) -> None:
        seeds = plan.search_seeds
        self._seeds = len(seeds)
        self._dense_weight = plan.search.dense_weight if plan.search.weights else 1.0
        # By the ordinal of a song: the indices of the seeds that contain the song, with weights.
        self._song_weights: dict[int, list[tuple[int, float]]] = {}
        if plan.mode is not Mode.DENSE:
            for index, weight in weigh_seeds(seeds, plan.decays.cooccurrence).items():
                points = seeds[index].points
                for point in points:
                    shares = self._song_weights.setdefault(point.song.ordinal, [])
                    shares.append((index, weight / len(points)))
        dense_seeds = [keep_songs_with_vector(seed) for seed in seeds]
        weights = weigh_seeds(dense_seeds, plan.decays.dense)
        self._dense_indices = list(weights)
        parts = np.array(
            [weight * compute_mean_vector(dense_seeds[index]) for index, weight in weights.items()],
            dtype=np.float64,
        )
        length = float(np.linalg.norm(parts.sum(axis=0))) if weights else 0.0
        self._dense_parts = parts / length if length > 0 else parts

    @property
    def ordinals(self) -> frozenset[int]:
        """The ordinals of the seeds' songs, whose co-occurrence weights `explain` needs."""
        return frozenset(self._song_weights)

    def explain(
        self, hits: Sequence[Hit], cooccurrence: Sequence[Mapping[int, float]]
    ) -> list[list[Reason]]:
        """Return the `MAX_REASONS` largest shares in each song, the largest first.

        `cooccurrence` holds the co-occurrence weights of each song, by the ordinal of a seed's
        song. The shares of all seeds in a song add up to 1.
        """
        parts = self._compute_cooccurrence_parts(cooccurrence)
        best = parts.sum(axis=1).max(initial=0.0)
        if best > 0:
            parts /= best
        shares = _normalise_rows(parts + self._dense_weight * self._compute_cosine_parts(hits))
        order = np.argsort(-shares, axis=1, kind="stable")[:, :MAX_REASONS]
        largest = np.take_along_axis(shares, order, axis=1)
        return [
            [Reason(seed, share) for seed, share in zip(*row, strict=True) if share > 0]
            for row in zip(order.tolist(), largest.tolist(), strict=True)
        ]

    def _compute_cooccurrence_parts(
        self, cooccurrence: Sequence[Mapping[int, float]]
    ) -> NDArray[np.float64]:
        """Return the part of each seed in each co-occurrence score, shape (songs, seeds)."""
        parts = np.zeros((len(cooccurrence), self._seeds))
        ordinals = self._song_weights.keys()
        for row, weights in zip(parts, cooccurrence, strict=True):
            for ordinal in ordinals & weights.keys():
                for index, seed_weight in self._song_weights[ordinal]:
                    row[index] += seed_weight * weights[ordinal]
        return parts

    def _compute_cosine_parts(self, hits: Sequence[Hit]) -> NDArray[np.float64]:
        """Return the part of each seed in each cosine, shape (songs, seeds)."""
        parts = np.zeros((len(hits), self._seeds))
        rows = [row for row, hit in enumerate(hits) if hit.vector is not None]
        if rows and self._dense_indices:
            vectors = np.array([hits[row].vector for row in rows], dtype=np.float64)
            parts[np.ix_(rows, self._dense_indices)] = vectors @ self._dense_parts.T
        return parts


async def _fetch_cooccurrence_weights(
    release: OpenRelease,
    explainers: Sequence[Explainer | None],
    rankings: Sequence[Sequence[Hit]],
) -> dict[UUID, dict[int, float]]:
    """Return the co-occurrence weights of all songs to explain, by the ordinal of a seed's song."""
    ordinals: set[int] = set()
    song_ids: set[UUID] = set()
    for explainer, songs in zip(explainers, rankings, strict=True):
        if explainer is not None and explainer.ordinals:
            ordinals |= explainer.ordinals
            song_ids |= {hit.song.song_id for hit in songs}
    pending = list(song_ids)
    weights = {}
    async for start in pause_between(range(0, len(pending), SONGS_PER_STEP)):
        fetched = await release.cooccurrence_weights(pending[start : start + SONGS_PER_STEP])
        for song_id, song_weights in fetched.items():
            # A popular song has tens of thousands of weights, nearly all for other songs.
            kept = ordinals & song_weights.keys()
            weights[song_id] = {ordinal: song_weights[ordinal] for ordinal in kept}
    return weights


def _normalise_rows(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale the positive parts of each row to add up to 1. A row without any becomes zeros."""
    positive = np.maximum(parts, 0.0)
    total = positive.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(
        positive, total, out=np.zeros_like(positive), where=total > 0
    )
    return shares
