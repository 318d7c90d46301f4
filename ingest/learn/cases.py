"""Held-out cases made from playlists: first songs as query, next song as label."""

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
    """Held-out cases: the songs of each query, and the label, which is the song that came next.

    `labels` and `playlists` have shape (queries,). `playlists` contains the index of the playlist
    from which each case was made. Songs are given by their numbers.
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
    """Draw at most `count` random cases from each playlist. The first song is never the label."""
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
    """Return the case of each playlist whose label is the last song, and then other random cases.

    There are at most `count` random cases per playlist.
    """
    long = [number for number, songs in enumerate(playlists) if len(songs) > 2]
    sampled = sample_cases([playlists[number][:-1] for number in long], random, count)
    last = last_song_cases(playlists)
    return Cases(
        [*last.queries, *sampled.queries],
        np.concatenate([last.labels, sampled.labels]),
        np.concatenate([last.playlists, np.array(long, np.int64)[sampled.playlists]]),
    )
