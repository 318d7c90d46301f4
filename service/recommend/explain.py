"""Explain a recommendation: the share of each seed in the score of each song."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from catalog.pauses import pause_between
from service.recommend.query import Mode, Reason
from service.recommend.weights import list_entries, weigh_seed_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from catalog.model import Hit
    from catalog.store import OpenRelease
    from service.recommend.plan import Plan
    from service.recommend.weights import Entry

MAX_REASONS = 10
"""Maximum number of reasons of a song, which limits the size of the response."""

SONGS_PER_STEP = 200
"""Number of songs that are explained, or whose vectors are fetched, before other calls can run."""


async def explain(
    release: OpenRelease, plans: Sequence[Plan], rankings: Sequence[Sequence[Hit]]
) -> list[list[list[Reason]]]:
    """Return the reasons for each song in the ranking of each plan.

    The result has a list for each plan, which has a list of reasons for each song. If a query does
    not ask for explanations, its songs have no reasons.
    """
    explainers = [
        Explainer(plan) if plan.query.explain and plan.mode is not None else None for plan in plans
    ]
    weights = await _fetch_sparse_vectors(release, explainers, rankings)
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
    """Computes the share of each seed of a query in each recommended song.

    A score is the sum of one part per seed:

    - In a co-occurrence score, the part of a seed is its weight times the entry for the seed in the
      song's sparse vector. For each content key (see `catalog.content`) that the seed and the song
      have in common, the corresponding product is added.
    - In a cosine similarity, the part of a seed is its weight times its own cosine similarity to
      the song, scaled so that the parts add up to the score.
    - In a hybrid search, these two parts are added like the scores (see `catalog.model.Search`). If
      the song is missing from the dense or the co-occurrence ranking, that ranking adds nothing.

    The share of a seed is its part divided by the sum of all positive parts. A seed with a negative
    part has no share.
    """

    def __init__(self, plan: Plan) -> None:
        seeds, weighting = plan.seeds, plan.weighting
        self._seeds = len(seeds)
        self._is_hybrid = plan.mode is Mode.HYBRID
        self._entries: defaultdict[int, list[Entry]] = defaultdict(list)
        if plan.search.weights:
            for entry in list_entries(seeds, weighting.sparse, weighting.shares):
                self._entries[entry.index].append(entry)
        fields = {entry.field for entries in self._entries.values() for entry in entries}
        self._fields = ["", *sorted(fields - {""})]
        self._dense_indices: list[int] = []
        if plan.search.vector is not None:
            weights, parts = weigh_seed_vectors(seeds, weighting.dense)
            self._dense_indices = list(weights)
            length = float(np.linalg.norm(parts.sum(axis=0)))
            dense_weight = plan.search.dense_weight if plan.search.weights else 1.0
            self._dense_parts = parts * (dense_weight / length if length > 0 else dense_weight)

    @property
    def indexes(self) -> frozenset[int]:
        """The indexes of the sparse vector entries that `explain` needs."""
        return frozenset(self._entries)

    def explain(
        self, hits: Sequence[Hit], sparse_vectors: Sequence[Mapping[int, float]]
    ) -> list[list[Reason]]:
        """Return, for each song, the `MAX_REASONS` seeds with the largest shares, largest first.

        `sparse_vectors` holds the sparse vector of each song. For each song, the shares of all
        seeds add up to 1.
        """
        by_field = self._compute_sparse_parts(sparse_vectors)
        cosines = self._compute_cosine_parts(hits)
        if self._is_hybrid:
            _remove_missing(np.array([hit.score for hit in hits]), by_field, cosines)
        parts = np.maximum(by_field.sum(axis=0) + cosines, 0.0)
        shares = _divide(parts, parts.sum(axis=1, keepdims=True))
        content = shares * np.clip(_divide(by_field[1:], parts), 0.0, 1.0)
        order = np.argsort(-shares, axis=1, kind="stable")[:, :MAX_REASONS]
        return [
            [
                Reason(seed, float(shares[row, seed]), self._name_fields(content[:, row, seed]))
                for seed in seeds
                if shares[row, seed] > 0
            ]
            for row, seeds in enumerate(order.tolist())
        ]

    def _name_fields(self, shares: NDArray[np.float64]) -> dict[str, float]:
        pairs = zip(self._fields[1:], shares.tolist(), strict=True)
        return {field: share for field, share in pairs if share > 0}

    def _compute_sparse_parts(
        self, sparse_vectors: Sequence[Mapping[int, float]]
    ) -> NDArray[np.float64]:
        """Return the part of each seed in each co-occurrence score, by field.

        The shape is (fields, songs, seeds). The first field, "", stands for the seed itself.
        """
        parts = np.zeros((len(self._fields), len(sparse_vectors), self._seeds))
        for row, vector in enumerate(sparse_vectors):
            for index in self._entries.keys() & vector.keys():
                for entry in self._entries[index]:
                    field = self._fields.index(entry.field)
                    parts[field, row, entry.seed] += entry.weight * vector[index]
        return parts

    def _compute_cosine_parts(self, hits: Sequence[Hit]) -> NDArray[np.float64]:
        """Return the part of each seed in the cosine of each song, shape (songs, seeds)."""
        parts = np.zeros((len(hits), self._seeds))
        rows = [row for row, hit in enumerate(hits) if hit.vector is not None]
        if rows and self._dense_indices:
            vectors = np.array([hits[row].vector for row in rows], dtype=np.float64)
            parts[np.ix_(rows, self._dense_indices)] = vectors @ self._dense_parts.T
        return parts


def _remove_missing(
    scores: NDArray[np.float64], by_field: NDArray[np.float64], cosines: NDArray[np.float64]
) -> None:
    """Set the parts from a ranking to 0, in place, for each song that the ranking did not contain.

    The score of a song shows which of the two rankings contained it: the co-occurrence ranking,
    with the parts `by_field`, shape (fields, songs, seeds), or the dense one, with the parts
    `cosines`, shape (songs, seeds).
    """
    sparse, dense = by_field.sum(axis=(0, 2)), cosines.sum(axis=1)
    totals = np.array([sparse + dense, sparse, dense])
    nearest = np.abs(totals - scores).argmin(axis=0)
    cosines[nearest == 1] = 0.0
    by_field[:, nearest == 2] = 0.0


async def _fetch_sparse_vectors(
    release: OpenRelease,
    explainers: Sequence[Explainer | None],
    rankings: Sequence[Sequence[Hit]],
) -> dict[UUID, dict[int, float]]:
    """Return the sparse vectors of all songs to explain, limited to the entries that are needed."""
    indexes: set[int] = set()
    song_ids: set[UUID] = set()
    for explainer, songs in zip(explainers, rankings, strict=True):
        if explainer is not None and explainer.indexes:
            indexes |= explainer.indexes
            song_ids |= {hit.song.song_id for hit in songs}
    pending = list(song_ids)
    vectors = {}
    async for start in pause_between(range(0, len(pending), SONGS_PER_STEP)):
        fetched = await release.cooccurrence_weights(pending[start : start + SONGS_PER_STEP])
        for song_id, entries in fetched.items():
            # A popular song has tens of thousands of entries, most of which are not needed.
            kept = indexes & entries.keys()
            vectors[song_id] = {index: entries[index] for index in kept}
    return vectors


def _divide(numbers: NDArray[np.float64], divisors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quotients, with 0 for each divisor that is not above 0."""
    quotients: NDArray[np.float64] = np.divide(
        numbers,
        divisors,
        out=np.zeros(np.broadcast_shapes(numbers.shape, divisors.shape)),
        where=divisors > 0,
    )
    return quotients
