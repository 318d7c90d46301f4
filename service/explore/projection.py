"""Project dense vectors to a plane so that similar songs are near each other.

The layout starts from the first two principal components of the vectors. Neighbours then attract
each other and random songs repel each other, as in McInnes et al., "UMAP: Uniform Manifold
Approximation and Projection", 2018, with one gradient step for all songs at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Positions = NDArray[np.float32]

NEIGHBOURS = 12  # nearest songs that attract each song
CELLS_SEARCHED = 3
"""Minimum number of cells that are searched for neighbours (see `find_neighbours`)."""

EPOCHS = 200  # gradient steps
REPELLED = 5  # random songs that repel a song in each step, for each of its neighbours
CURVE_A, CURVE_B = 1.577, 0.895
"""Parameters of UMAP's curve for `min_dist` 0.1: similarity = 1 / (1 + a d^2b) at distance d."""

MAX_STEP = 4.0  # maximum length, before the learning rate, of a move along one axis
START_EXTENT = 10  # the layout starts with positions from -10 to 10, as in UMAP
NEIGHBOURS_SHARE = 0.2  # share of the work that is done when the neighbours are known


def project(
    vectors: NDArray[np.float32], seed: int = 0, advance: Callable[[float], None] | None = None
) -> Positions:
    """Return a position from -1 to 1 on both axes for each vector, shape (n, 2).

    Equal seeds give equal positions. `advance` is called with the finished share of the work, from
    0 to 1.
    """
    advance = advance or (lambda _share: None)
    start = project_linearly(vectors)
    if len(vectors) <= NEIGHBOURS:
        return _scale(start)
    rng = np.random.default_rng(seed)
    neighbours = find_neighbours(vectors, rng)
    advance(NEIGHBOURS_SHARE)
    positions = _scale(start) * START_EXTENT
    # Noise separates songs with equal vectors, which would never move apart.
    positions += rng.normal(scale=1e-3, size=positions.shape).astype(np.float32)
    edges = np.repeat(np.arange(len(vectors)), neighbours.shape[1]), neighbours.ravel()
    for epoch in range(EPOCHS):
        _take_step(positions, edges, 1 - epoch / EPOCHS, rng)
        advance(NEIGHBOURS_SHARE + (1 - NEIGHBOURS_SHARE) * (epoch + 1) / EPOCHS)
    return _scale(positions)


def project_linearly(vectors: NDArray[np.float32]) -> Positions:
    """Return the first two principal components of the vectors, shape (n, 2)."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    components: Positions = (centred @ axes[:, :-3:-1]).astype(np.float32)
    if components.shape[1] < 2:
        components = np.pad(components, ((0, 0), (0, 2 - components.shape[1])))
    return components


def find_neighbours(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the indexes of the nearest other vectors of each vector, shape (n, NEIGHBOURS).

    The vectors must have unit length. The search is approximate: the vectors are divided into cells
    by k-means, and the neighbours of a vector are searched only in the cells nearest to its own.
    """
    count = len(vectors)
    cells = max(1, round(np.sqrt(count) / 2))
    centres = vectors[rng.choice(count, cells, replace=False)]
    for _ in range(3):
        cell = _find_nearest_centre(vectors, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, vectors)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centres)
    cell = _find_nearest_centre(vectors, centres)
    members = [np.flatnonzero(cell == number) for number in range(cells)]
    nearest_cells = np.argsort(-(centres @ centres.T), axis=1)
    neighbours = np.empty((count, NEIGHBOURS), dtype=np.int64)
    for number, rows in enumerate(members):
        if not len(rows):
            continue
        candidates = np.empty(0, dtype=np.int64)
        for searched, nearby in enumerate(nearest_cells[number], 1):
            candidates = np.concatenate([candidates, members[nearby]])
            if searched >= CELLS_SEARCHED and len(candidates) > NEIGHBOURS:
                break
        similarity = vectors[rows] @ vectors[candidates].T
        similarity[rows[:, None] == candidates[None, :]] = -np.inf
        best = np.argpartition(-similarity, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        neighbours[rows] = candidates[best]
    return neighbours


def _find_nearest_centre(
    vectors: NDArray[np.float32], centres: NDArray[np.float32]
) -> NDArray[np.int64]:
    parts = [
        (vectors[start : start + 10_000] @ centres.T).argmax(axis=1)
        for start in range(0, len(vectors), 10_000)
    ]
    return np.concatenate(parts)


def _take_step(
    positions: Positions,
    edges: tuple[NDArray[np.int64], NDArray[np.int64]],
    rate: float,
    rng: np.random.Generator,
) -> None:
    """Apply one gradient step to all positions, in place.

    `edges` holds the indexes of each song and of its neighbours, as two arrays of shape
    (n * NEIGHBOURS,). `rate` is the learning rate.
    """
    count = len(positions)
    heads, tails = edges
    between = positions[heads] - positions[tails]
    squared = (between**2).sum(axis=1)
    pull = _compute_pull(squared)[:, None] * between
    pull = np.clip(pull, -MAX_STEP, MAX_STEP)
    step = _sum_by_song(pull, heads, count) - _sum_by_song(pull, tails, count)
    for _ in range(REPELLED):
        between = positions - positions[rng.integers(count, size=count)]
        squared = (between**2).sum(axis=1)
        push = _compute_push(squared)[:, None] * between
        # UMAP repels `REPELLED` random songs for each edge, and each song has `NEIGHBOURS` edges.
        step += NEIGHBOURS * np.clip(push, -MAX_STEP, MAX_STEP)
    # Dividing by the number of neighbours keeps the layout stable, because all edges act at once.
    positions += (rate * step / NEIGHBOURS).astype(np.float32)


def _compute_pull(squared: NDArray[np.float32]) -> NDArray[np.floating]:
    """Return the attraction at squared distances, as a factor of the difference of positions."""
    distance = np.maximum(squared, 1e-6)
    pull: NDArray[np.floating] = (
        -2 * CURVE_A * CURVE_B * distance ** (CURVE_B - 1) / (1 + CURVE_A * distance**CURVE_B)
    )
    return pull


def _compute_push(squared: NDArray[np.float32]) -> NDArray[np.floating]:
    """Return the repulsion at squared distances, as a factor of the difference of positions."""
    push: NDArray[np.floating] = (
        2 * CURVE_B / ((0.001 + squared) * (1 + CURVE_A * np.maximum(squared, 1e-6) ** CURVE_B))
    )
    return push


def _sum_by_song(
    moves: NDArray[np.floating], songs: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Return the sum of the moves of each of `count` songs, shape (count, 2)."""
    return np.stack(
        [np.bincount(songs, weights=moves[:, axis], minlength=count) for axis in (0, 1)], axis=1
    )


def _scale(positions: Positions) -> Positions:
    """Return the positions scaled to the range -1 to 1, by the same factor on both axes."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    half = np.maximum((high - low).max() / 2, 1e-9)
    scaled: Positions = ((positions - (low + high) / 2) / half).astype(np.float32)
    return scaled
