"""Weights of seeds by recency, and dense and sparse query vectors that use these weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from catalog.content import ARTIST, content_index, list_content_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from catalog.model import Vector
    from catalog.recency import Recency
    from service.recommend.seeds import ResolvedSeed

MIN_WEIGHT = 1e-30
"""Smaller weights are left out of a sparse query, because they do not change a float32 score."""

MIN_RELATIVE_NORM = 1e-6
"""Minimum norm of the sum of the weighted seed vectors, relative to the sum of absolute weights.

If the norm is smaller, the seeds cancel each other out.
"""


def weigh_seeds(
    seeds: Sequence[ResolvedSeed], recency: Recency, is_used: Sequence[bool]
) -> dict[int, float]:
    """Return the weight of each seed for which `is_used` is true, by its index in `seeds`.

    A seed with a positive weight was played: its weight is multiplied by the recency weight of its
    age, which is the number of played seeds after it. A seed with a negative weight was not played:
    it keeps its weight, and does not add to the age of other seeds.

    The most recent seed comes first, and seeds with negative weights come last. The result is empty
    if no played seed is used.
    """
    played = [index for index, seed in enumerate(seeds) if seed.weight > 0]
    ages = {index: age for age, index in enumerate(reversed(played)) if is_used[index]}
    if not ages:
        return {}
    by_recency = recency.weights(np.array(list(ages.values())))
    weights = {
        index: seeds[index].weight * weight
        for index, weight in zip(ages, by_recency.tolist(), strict=True)
    }
    negative = {i: seed.weight for i, seed in enumerate(seeds) if seed.weight < 0 and is_used[i]}
    return weights | negative


@dataclass(frozen=True, slots=True)
class Entry:
    """The contribution of one seed to a sparse query vector.

    - `seed`: index of the seed in the query.
    - `field`: content field, or "" for the song itself.
    - `index`: ordinal of the song, or index of the content key (see `catalog.content`).
    """

    seed: int
    field: str
    index: int
    weight: float


def list_entries(
    seeds: Sequence[ResolvedSeed], recency: Recency, shares: Mapping[str, float]
) -> Iterator[Entry]:
    """Yield the entries of a sparse query vector, for known songs and for content keys.

    At a content key, the weight of the seed is multiplied by the share of the content field in
    `shares`. If the catalog does not have the song of a seed, its only content key is the artist
    that the query names. Nothing is yielded if no seed with a positive weight has an entry.
    """
    fields = [field for field, share in shares.items() if share]
    keys = [[(field, key) for field in fields for key in list_keys(seed, field)] for seed in seeds]
    is_used = [bool(seed.point or seed_keys) for seed, seed_keys in zip(seeds, keys, strict=True)]
    for seed, weight in weigh_seeds(seeds, recency, is_used).items():
        point = seeds[seed].point
        if point is not None:
            yield Entry(seed, "", point.song.ordinal, weight)
        for field, key in keys[seed]:
            yield Entry(seed, field, content_index(field, key), shares[field] * weight)


def build_sparse_query(entries: Iterable[Entry]) -> dict[int, float]:
    """Return the sparse query vector (`Search.weights`), which sums the weights at each index."""
    query: dict[int, float] = {}
    for entry in entries:
        query[entry.index] = query.get(entry.index, 0.0) + entry.weight
    return {index: weight for index, weight in query.items() if abs(weight) > MIN_WEIGHT}


def weigh_seed_vectors(
    seeds: Sequence[ResolvedSeed], recency: Recency
) -> tuple[dict[int, float], Vector]:
    """Return the weight of each seed that has a dense vector, and the weighted vectors as rows.

    The keys of the weights are the indexes of the seeds in `seeds`; the vectors have shape (n,
    dimensions).
    """
    vectors = [None if seed.point is None else seed.point.vector for seed in seeds]
    weights = weigh_seeds(seeds, recency, [vector is not None for vector in vectors])
    parts = [weight * np.asarray(vectors[index], float) for index, weight in weights.items()]
    return weights, np.array(parts)


def build_dense_query(seeds: Sequence[ResolvedSeed], recency: Recency) -> Vector | None:
    """Return the dense query vector: the weighted mean of the seeds, scaled to unit length.

    The shape is (dimensions,). If the weighted seeds cancel each other out, the result is the
    vector of the most recent seed. If no seed with a positive weight has a vector, the result is
    None.
    """
    weights, parts = weigh_seed_vectors(seeds, recency)
    if not weights:
        return None
    total = parts.sum(axis=0)
    norm = np.linalg.norm(total)
    if norm < MIN_RELATIVE_NORM * np.abs(list(weights.values())).sum():
        most_recent = seeds[next(iter(weights))].point
        return most_recent.vector if most_recent else None
    unit: Vector = (total / norm).astype(np.float32)
    return unit


def list_keys(seed: ResolvedSeed, field: str) -> tuple[str, ...]:
    """Return the keys of a seed in a content field (see `catalog.content`).

    If the catalog does not have the song, the only key is the artist that the query names.
    """
    if seed.point is not None:
        return list_content_keys(seed.point.song, field)
    return (seed.artist_key,) if field == ARTIST and seed.artist_key else ()
