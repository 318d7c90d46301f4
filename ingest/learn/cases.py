"""Held-out cases made from playlists: the first songs are the query, the next song is the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ingest.learn.arrays import Songs


@dataclass(frozen=True)
class Cases:
    """Held-out cases. Songs are given by their numbers (see `ingest.learn.arrays.Songs`).

    - `queries`: the first songs of a playlist, for each case.
    - `labels`, shape (cases,): the song that follows each query in the playlist.
    - `playlists`, shape (cases,): the index of the playlist from which each case was made.
    """

    queries: list[Songs]
    labels: NDArray[np.int64]
    playlists: NDArray[np.int64]

    def take(self, rows: NDArray[Any]) -> Cases:
        """Return the cases with the indexes `rows`."""
        return Cases([self.queries[row] for row in rows], self.labels[rows], self.playlists[rows])


def last_song_cases(playlists: Sequence[Songs]) -> Cases:
    """Return one case for each playlist, with the last song as the label."""
    labels = np.array([songs[-1] for songs in playlists], np.int64)
    return Cases([songs[:-1] for songs in playlists], labels, np.arange(len(playlists)))


def sample_cases(playlists: Sequence[Songs], random: np.random.Generator, count: int) -> Cases:
    """Return at most `count` cases per playlist, whose labels are songs at random positions.

    The first song is never the label, because the query would be empty.
    """
    queries: list[Songs] = []
    labels: list[int] = []
    numbers: list[int] = []
    for number, songs in enumerate(playlists):
        positions = random.choice(len(songs) - 1, min(count, len(songs) - 1), replace=False) + 1
        queries += [songs[:position] for position in positions]
        labels += [int(songs[position]) for position in positions]
        numbers += [number] * len(positions)
    return Cases(queries, np.array(labels, np.int64), np.array(numbers, np.int64))


def sample_cases_with_last(
    playlists: Sequence[Songs], random: np.random.Generator, count: int
) -> Cases:
    """Return the cases of `last_song_cases`, and then at most `count` random cases per playlist.

    The last song is never the label of a random case.
    """
    long = [number for number, songs in enumerate(playlists) if len(songs) > 2]
    sampled = sample_cases([playlists[number][:-1] for number in long], random, count)
    last = last_song_cases(playlists)
    return Cases(
        [*last.queries, *sampled.queries],
        np.concatenate([last.labels, sampled.labels]),
        np.concatenate([last.playlists, np.array(long, np.int64)[sampled.playlists]]),
    )
