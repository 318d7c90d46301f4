"""Which of the songs recommended are labels: all that the ranking metrics look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from evaluation.protocol.dataset import Numbers, Ragged

Relevant = NDArray[np.bool_]
"""Shape (n, depth): whether the song at each place of each ranking is a label."""


def relevant(rankings: Numbers, labels: Ragged) -> Relevant:
    """Which places hold a label of their query. `rankings` has shape (n, depth).

    A song that comes twice in a ranking counts once, at its first place.
    """
    songs = int(max(rankings.max(initial=0), labels.songs.max(initial=0))) + 1
    wanted = labels.rows * songs + labels.songs
    rows = np.arange(len(rankings))[:, None]
    found = np.isin(rows * songs + rankings, wanted) & (rankings >= 0)
    at = np.flatnonzero(found)
    keys = (rows * songs + rankings).ravel()[at]
    _, first = np.unique(keys, return_index=True)
    once = np.zeros(found.size, dtype=bool)
    once[at[first]] = True
    return once.reshape(found.shape)


def ranks(matches: Relevant) -> NDArray[np.int64]:
    """The place of the first label of each query, from 1; 0 where none was recommended."""
    if not matches.shape[1]:
        return np.zeros(len(matches), dtype=np.int64)
    return np.where(matches.any(axis=1), matches.argmax(axis=1) + 1, 0)
