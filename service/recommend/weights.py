"""Weights of the seeds by recency, and the dense and sparse query vectors made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.model import Vector
    from service.recommend.seeds import ResolvedSeed

MIN_SONG_WEIGHT = 1e-30
"""Songs with a smaller weight are left out, because it does not change a sum of float32."""

MIN_RELATIVE_NORM = 1e-6
"""If the norm of a sum of seeds is smaller, relative to their weights, the seeds cancel out."""


def weigh_seeds(seeds: Sequence[ResolvedSeed], decay: float) -> dict[int, float]:
    """Return the weight of each seed that has songs, by its index in `seeds`.

    The weight is `weight * decay**age`, relative to the most recent seed that has songs; the age of
    a seed is the number of positive seeds after it. A negative seed was not played: it keeps its
    weight at any position and does not age the others. The most recent seed comes first, negative
    seeds last. Empty if no positive seed has songs.
    """
    played = [index for index, seed in enumerate(seeds) if seed.weight > 0]
    ages = {index: age for age, index in enumerate(reversed(played)) if seeds[index].points}
    if not ages:
        return {}
    # Ages are relative to the youngest, so that not all weights are rounded to 0.
    youngest = min(ages.values())
    weights = {
        index: seeds[index].weight * decay ** (age - youngest) for index, age in ages.items()
    }
    negative = {i: seed.weight for i, seed in enumerate(seeds) if seed.weight < 0 and seed.points}
    return weights | negative


def weigh_songs(seeds: Sequence[ResolvedSeed], decay: float) -> dict[int, float]:
    """Return the sparse query vector (`Search.weights`): the weight of each song, by its ordinal.

    The songs of one seed share its weight equally; the weights of a song that is in several seeds
    are added. Empty if no positive seed has songs.
    """
    song_weights: dict[int, float] = {}
    for index, weight in weigh_seeds(seeds, decay).items():
        points = seeds[index].points
        share = weight / len(points)
        if abs(share) > MIN_SONG_WEIGHT:
            for point in points:
                ordinal = point.song.ordinal
                song_weights[ordinal] = song_weights.get(ordinal, 0.0) + share
    return {ordinal: weight for ordinal, weight in song_weights.items() if weight}


def build_query_vector(seeds: Sequence[ResolvedSeed], decay: float) -> Vector | None:
    """Return the dense query vector: the weighted mean of the seeds, scaled to unit length.

    If the seeds cancel out, the vector of the most recent one is returned. Shape (dimensions,);
    None if no positive seed has a song with a vector.
    """
    seeds = [keep_songs_with_vector(seed) for seed in seeds]
    weights = weigh_seeds(seeds, decay)
    if not weights:
        return None
    values = np.array(list(weights.values()))
    total = values @ np.array(
        [compute_mean_vector(seeds[index]) for index in weights], dtype=np.float64
    )
    norm = np.linalg.norm(total)
    if norm < MIN_RELATIVE_NORM * np.abs(values).sum():
        most_recent = next(iter(weights))
        return seeds[most_recent].points[0].vector
    unit: Vector = (total / norm).astype(np.float32)
    return unit


def keep_songs_with_vector(seed: ResolvedSeed) -> ResolvedSeed:
    """Return the seed without those of its songs that have no dense vector."""
    return replace(seed, points=tuple(p for p in seed.points if p.vector is not None))


def compute_mean_vector(seed: ResolvedSeed) -> Vector:
    """Return the mean vector of a seed whose songs all have one, shape (dimensions,)."""
    vectors = [point.vector for point in seed.points if point.vector is not None]
    if len(vectors) == 1:
        return vectors[0]
    mean: Vector = np.mean(vectors, axis=0)
    return mean
