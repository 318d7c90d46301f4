"""Measurement of whether playlists are in play order.

Playlists that are sorted by title or artist are not in play order. For example, the playlists of
the #nowplaying data set are sorted by title. Other playlists are in play order if neighbouring
songs are also neighbours in other playlists, or have the same artist, more often than after
shuffling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

PLAYED, NONE = "played", "none"
SAMPLED_PLAYS = 2_000_000
"""Approximate maximum number of plays that are measured. Larger data is sampled by playlist."""

SORTED_NAMES = {
    "title": "title",
    "title_key": "title, ignoring case",
    "artist": "artist",
    "artist_key": "artist, ignoring case",
}
"""Columns of `songs.parquet` by which playlists may be sorted, each with a name for display."""

_MIN_SONGS = 5  # shorter playlists are ignored, because they are often sorted by chance
_MIN_PLAYLISTS = 5  # with fewer playlists, nothing is measured
_SORTED_STEPS = 0.95  # minimum share of neighbouring songs in the same order in a sorted playlist
_SORTED_PLAYLISTS = 0.5  # minimum share of sorted playlists for data to count as sorted
_SHUFFLES = 3  # number of shuffles over which counts are averaged
_MIN_LIFT = 1.1  # minimum count for a play order, relative to the count after shuffling
_NO_ARTIST = -1  # artist number of songs without an artist
_MIN_EXPECTED = 1_000  # minimum count after shuffling to conclude that there is no play order


@dataclass(frozen=True)
class Order:
    """Whether the songs of the playlists are in the order in which they were played.

    - `found`: "played" if they are in this order, "none" if the order has no meaning.
    - `text`: the reason for `found`, as text for display.
    - `playlists`: number of playlists measured.
    - `sorted`: for each column in `SORTED_NAMES`, the share of playlists that are sorted by it.
    - `by_chance`: the share of playlists that would be sorted by chance if their order were random.
    - `recurring`: how often pairs of neighbouring songs recur, divided by the same number after
      shuffling. None if no pair recurs after shuffling.
    - `same_artist`: the same ratio for the number of neighbouring songs that have the same artist.
    """

    found: str
    text: str
    playlists: int
    sorted: dict[str, float] = field(default_factory=dict)
    by_chance: float | None = None
    recurring: float | None = None
    same_artist: float | None = None


@dataclass(frozen=True)
class _Lift:
    """A count of related neighbouring songs, compared with the count after shuffling.

    - `times`: the count divided by `expected`, or None if `expected` is 0.
    - `is_clear`: whether the count is clearly larger than `expected`.
    - `expected`: the mean of the count over `_SHUFFLES` shuffles.
    """

    times: float | None
    is_clear: bool
    expected: float


def measure_order(playlists: Path, songs: Path) -> Order:
    """Measure the order of the playlists in `playlists.parquet`.

    `songs` is the path of `songs.parquet`, which contains the titles and artists. Playlists of
    fewer than 5 songs are ignored. If there are more than `SAMPLED_PLAYS` plays, only every n-th
    playlist is measured.
    """
    offsets, plays = _sample(playlists)
    lengths = np.diff(offsets)
    if len(lengths) < _MIN_PLAYLISTS:
        text = "too few playlists of 5 songs or more to measure their order: taken as played"
        return Order(PLAYED, text, len(lengths))
    names = pq.read_table(songs, columns=list(SORTED_NAMES)).take(pa.array(plays))
    sorted_shares = {name: _sorted_share(_ranks(names[name]), offsets) for name in SORTED_NAMES}
    recurring = _measure_lift(offsets, plays, _count_recurrences)
    has_artist = pc.not_equal(names["artist_key"], "").to_numpy()
    artists = np.where(has_artist, _ranks(names["artist_key"]), _NO_ARTIST)
    artist = _measure_lift(offsets, artists, _count_same_artist)
    found, text = _judge(sorted_shares, recurring, artist)
    return Order(
        found=found,
        text=text,
        playlists=len(lengths),
        sorted=sorted_shares,
        by_chance=float(np.mean(2.0 / _factorials(lengths))),
        recurring=recurring.times,
        same_artist=artist.times,
    )


def _judge(sorted_shares: Mapping[str, float], recurring: _Lift, artist: _Lift) -> tuple[str, str]:
    """Return the detected order, "played" or "none", and the reason as text."""
    name, share = max(sorted_shares.items(), key=lambda item: item[1])
    if share >= _SORTED_PLAYLISTS:
        return NONE, f"{share:.0%} of playlists are sorted by {SORTED_NAMES[name]}"
    if recurring.is_clear or artist.is_clear:
        return PLAYED, f"neighbours {_describe_lifts(recurring, artist)}"
    if max(recurring.expected, artist.expected) >= _MIN_EXPECTED:
        return NONE, f"as if shuffled: neighbours {_describe_lifts(recurring, artist)}"
    return PLAYED, "too little data to measure the order: taken as played"


def _describe_lifts(recurring: _Lift, artist: _Lift) -> str:
    parts = []
    if recurring.times is not None:
        parts.append(f"recur {recurring.times:.1f} times as often as after shuffling")
    if artist.times is not None:
        parts.append(f"share their artist {artist.times:.1f} times as often")
    return " and ".join(parts)


def _sample(playlists: Path) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the offsets and songs of the playlists that have at least `_MIN_SONGS` songs.

    If these playlists have more than about `SAMPLED_PLAYS` plays in total, only every n-th playlist
    is returned.
    """
    with pq.ParquetFile(playlists) as file:
        groups = [
            _drop_short(batch.column(0)) for batch in file.iter_batches(1 << 14, columns=["songs"])
        ]
    total = sum(len(plays) for _, plays in groups)
    every = max(1, -(-total // SAMPLED_PLAYS))
    lengths = [np.diff(offsets)[::every] for offsets, _ in groups]
    plays = [_take_every(offsets, values, every) for offsets, values in groups]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([*lengths, []]))]).astype(np.int64)
    return offsets, np.concatenate([np.zeros(0, np.int32), *plays])


def _drop_short(lists: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    kept = lists.filter(pc.greater_equal(pc.list_value_length(lists), _MIN_SONGS))
    lengths = pc.list_value_length(kept).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), kept.flatten().to_numpy()


def _take_every(
    offsets: NDArray[np.int64], plays: NDArray[np.int32], every: int
) -> NDArray[np.int32]:
    lengths = np.diff(offsets)
    chosen = np.arange(len(lengths)) % every == 0
    kept: NDArray[np.int32] = plays[np.repeat(chosen, lengths)]
    return kept


def _ranks(names: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the rank of each name, sorted by code points. Equal names have equal ranks."""
    ranks: NDArray[np.int64] = pc.rank(names.combine_chunks(), tiebreaker="dense").to_numpy()
    return ranks.astype(np.int64)


def _steps(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indexes of all plays except the last play of each playlist."""
    has_next = np.ones(offsets[-1], bool)
    has_next[offsets[1:] - 1] = False
    return np.flatnonzero(has_next)


def _sorted_share(ranks: NDArray[np.int64], offsets: NDArray[np.int64]) -> float:
    """Return the share of playlists that are sorted by name, ascending or descending.

    A playlist counts as sorted if nearly all pairs of consecutive songs with different names are in
    the same order, ascending or descending. `ranks` contains the rank of each play's name, and
    `offsets` the bounds of the playlists.
    """
    at = _steps(offsets)
    playlist = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[at]
    up = np.bincount(playlist, ranks[at + 1] > ranks[at], len(offsets) - 1)
    down = np.bincount(playlist, ranks[at + 1] < ranks[at], len(offsets) - 1)
    moved = up + down
    is_sorted = (moved >= _MIN_SONGS - 1) & (np.maximum(up, down) >= _SORTED_STEPS * moved)
    return float(is_sorted.mean())


def _measure_lift(
    offsets: NDArray[np.int64],
    values: NDArray[Any],
    count: Callable[[NDArray[Any], NDArray[Any]], float],
) -> _Lift:
    """Compare a count over pairs of consecutive plays with its mean in shuffled playlists.

    Each playlist is shuffled separately, several times.

    `count` is called with two arrays of equal length. The first contains the value of every play
    except the last of each playlist, and the second contains the value of the play that follows it.
    """
    at = _steps(offsets)
    counted = count(values[at], values[at + 1])
    playlist = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    random = np.random.default_rng(0)
    counts = []
    for _ in range(_SHUFFLES):
        shuffled = values[np.lexsort((random.random(len(values)), playlist))]
        counts.append(count(shuffled[at], shuffled[at + 1]))
    expected = float(np.mean(counts))
    if not expected:
        return _Lift(None, counted > 10, expected)
    is_clear = counted > _MIN_LIFT * expected and counted - expected > 5 * np.sqrt(expected)
    return _Lift(float(counted / expected), bool(is_clear), expected)


def _count_recurrences(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return how often pairs of neighbours recur, in either order.

    A pair that occurs n times adds n * (n - 1) / 2 to the result.
    """
    low, high = np.minimum(first, second), np.maximum(first, second)
    _, times = np.unique(low.astype(np.int64) << 32 | high, return_counts=True)
    return float(np.sum(times * (times - 1.0) / 2))


def _count_same_artist(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.count_nonzero((first == second) & (first != _NO_ARTIST)))


def _factorials(lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.cumprod(np.concatenate([[1.0], np.arange(1.0, 171)]))
    return table[np.minimum(lengths, 170)]
