"""Places where playlists are cut: the songs before are a query, the next one is to be found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ingest.learn.retrieval import Songs


@dataclass(frozen=True)
class Cases:
    """Queries and the song that came next in each."""

    queries: list[Songs]
    labels: NDArray[np.int64]


def cut(playlists: Sequence[Songs], random: np.random.Generator, cuts: int) -> Cases:
    """At most `cuts` places of each playlist, chosen at random, the first song never being one."""
    queries, labels = [], []
    for songs in playlists:
        places = random.choice(len(songs) - 1, min(cuts, len(songs) - 1), replace=False) + 1
        queries += [songs[:place] for place in places]
        labels += [int(songs[place]) for place in places]
    return Cases(queries, np.array(labels, np.int64))


def cut_with_lasts(playlists: Sequence[Songs], random: np.random.Generator, cuts: int) -> Cases:
    """The last place of each playlist, in their order, and then at most `cuts` others of each."""
    others = cut([songs[:-1] for songs in playlists if len(songs) > 2], random, cuts)
    lasts = np.array([songs[-1] for songs in playlists], np.int64)
    queries = [*(songs[:-1] for songs in playlists), *others.queries]
    return Cases(queries, np.concatenate([lasts, others.labels]))
