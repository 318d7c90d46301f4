"""How alike the songs of one answer are: by their vectors, and by their artists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.dataset import Numbers


def intra_list_diversity(rankings: Numbers, k: int, vectors: NDArray[np.float32]) -> Figures:
    """1 - the mean cosine similarity of all pairs among the first `k` songs; 0 where all are alike.

    `vectors` has a unit vector for each song, zeros where there is none: such songs are left out.
    NaN where fewer than two are left. Ziegler et al., "Improving recommendation lists through topic
    diversification", 2005.
    """
    first = rankings[:, :k]
    there = (first >= 0) & np.asarray(vectors.any(axis=1))[first]
    count = there.sum(axis=1).astype(np.float64)
    total = np.zeros((len(first), vectors.shape[1]))
    for place in range(first.shape[1]):  # |sum of v|^2 = n + the sum over ordered pairs
        total += np.where(there[:, place, None], vectors[first[:, place]], 0.0)
    pairs = (total**2).sum(axis=1) - count
    return np.where(count > 1, 1.0 - pairs / np.maximum(count * (count - 1), 1), np.nan)


def artist_repetition(rankings: Numbers, k: int, artist: Numbers) -> Figures:
    """The share of the first `k` songs whose artist came before in the answer; NaN where none.

    0 where all artists differ.
    """
    first = rankings[:, :k]
    there = first >= 0
    artists = np.where(there, artist[np.maximum(first, 0)], -1)
    ordered = np.sort(artists, axis=1)
    new = np.ones(ordered.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    distinct = (new & (ordered >= 0)).sum(axis=1)
    count = there.sum(axis=1)
    return np.where(count > 0, 1.0 - distinct / np.maximum(count, 1), np.nan)
