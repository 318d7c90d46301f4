"""Held-out cases made from playlists: the first songs are the query, the next song is the label."""

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
    """Held-out cases: the songs of each query, and its label, the song that came next.

    `labels` has shape (queries,). Songs are song numbers.
    """

    queries: list[Songs]
    labels: NDArray[np.int64]


def last_song_cases(playlists: Sequence[Songs]) -> Cases:
    """Return one case of each playlist. The label is its last song."""
    labels = np.array([songs[-1] for songs in playlists], np.int64)
    return Cases([songs[:-1] for songs in playlists], labels)


def sample_cases(playlists: Sequence[Songs], random: np.random.Generator, count: int) -> Cases:
    """Draw at most `count` cases of each playlist. The first song is never a label."""
    queries, labels = [], []
    for songs in playlists:
        positions = random.choice(len(songs) - 1, min(count, len(songs) - 1), replace=False) + 1
        queries += [songs[:position] for position in positions]
        labels += [int(songs[position]) for position in positions]
    return Cases(queries, np.array(labels, np.int64))


def sample_cases_with_last(
    playlists: Sequence[Songs], random: np.random.Generator, count: int
) -> Cases:
    """Return the last-song case of each playlist, and then at most `count` other cases of each."""
    sampled = sample_cases([songs[:-1] for songs in playlists if len(songs) > 2], random, count)
    last = last_song_cases(playlists)
    return Cases([*last.queries, *sampled.queries], np.concatenate([last.labels, sampled.labels]))
