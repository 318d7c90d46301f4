"""The positions of labels in rankings, from which ranking metrics are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from evaluation.protocol.dataset import SongLists, SongNumbers

Matches = NDArray[np.bool_]
"""Whether the song at each position of each ranking is a label, shape (n, depth)."""


def match_labels(rankings: SongNumbers, labels: SongLists) -> Matches:
    """Return whether the song at each position of each ranking is a label of the query.

    `rankings` has shape (n, depth). A song that occurs twice in a ranking counts only at its first
    position.
    """
    songs = int(max(rankings.max(initial=0), labels.songs.max(initial=0))) + 1
    # Encode each pair of query and song as one number, so that one call matches all queries.
    keys = np.arange(len(rankings))[:, None] * songs + rankings
    label_keys = labels.rows * songs + labels.songs
    is_label = np.isin(keys, label_keys) & (rankings >= 0)
    positions = np.flatnonzero(is_label)
    _, first = np.unique(keys.ravel()[positions], return_index=True)
    matches = np.zeros(is_label.size, dtype=bool)
    matches[positions[first]] = True
    return matches.reshape(is_label.shape)


def find_label_ranks(matches: Matches) -> NDArray[np.int64]:
    """Return the rank of the first label of each query, from 1, or 0 without any, shape (n,)."""
    if not matches.shape[1]:
        return np.zeros(len(matches), dtype=np.int64)
    return np.where(matches.any(axis=1), matches.argmax(axis=1) + 1, 0)
