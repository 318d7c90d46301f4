"""Measurement of whether the songs of playlists are in the order in which they were played.

They are not if the playlists are sorted by title or artist, as those of #nowplaying are by title.
Otherwise they are if neighbouring songs are neighbours in other playlists as well, or share their
artist, more often than after all playlists are shuffled.
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
"""Columns of `songs.parquet` that playlists may be sorted by, with names for people."""

_MIN_SONGS = 5  # shorter playlists are left out, because they are often sorted by chance
_MIN_PLAYLISTS = 5  # with fewer playlists, nothing is measured
_SORTED_STEPS = 0.95  # share of ascending (or descending) steps from which a playlist is sorted
_SORTED_PLAYLISTS = 0.5  # share of sorted playlists from which all data counts as sorted
_SHUFFLES = 3  # shuffles whose counts are averaged
_MIN_LIFT = 1.1  # ratio to the count after shuffling from which playlists have an order
_NO_ARTIST = -1  # the number of the artist of a song without one
_MIN_EXPECTED = (
    1_000  # count after shuffling from which an equal count means that there is no order
)


@dataclass(frozen=True)
class Order:
    """The measured order of the playlists.

    - `found`: "played" or "none".
    - `text`: the reason for `found`, for people.
    - `playlists`: number of playlists measured.
    - `sorted`: the share of playlists that are sorted, by each name of `SORTED_NAMES`.
    - `by_chance`: the share of playlists in random order that would be sorted.
    - `recurring`: number of recurrences of neighbouring songs, divided by their number after
      shuffling. None if there are none after shuffling.
    - `same_artist`: the same ratio for neighbouring songs of one artist.
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
    """A count of pairs of neighbouring songs, compared with the count in shuffled playlists.

    - `times`: the count divided by `expected`, or None if `expected` is 0.
    - `is_clear`: whether the count is clearly larger than `expected`.
    - `expected`: mean of the count over `_SHUFFLES` shuffles.
    """

    times: float | None
    is_clear: bool
    expected: float


def measure_order(playlists: Path, songs: Path) -> Order:
    """Measure the order of the playlists in `playlists.parquet`.

    `songs` is the path of `songs.parquet`, which has the names. Playlists of fewer than 5 songs are
    left out. If there are more than `SAMPLED_PLAYS` plays, every n-th playlist is measured.
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
    """Return "played" or "none", and the reason."""
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
    """Return offsets and songs of playlists of `_MIN_SONGS` songs or more.

    If they have more than about `SAMPLED_PLAYS` plays, only every n-th playlist is returned.
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
    """Return the rank of each name in code point order. Equal names have equal ranks."""
    ranks: NDArray[np.int64] = pc.rank(names.combine_chunks(), tiebreaker="dense").to_numpy()
    return ranks.astype(np.int64)


def _steps(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indexes of all plays except the last of each playlist."""
    has_next = np.ones(offsets[-1], bool)
    has_next[offsets[1:] - 1] = False
    return np.flatnonzero(has_next)


def _sorted_share(ranks: NDArray[np.int64], offsets: NDArray[np.int64]) -> float:
    """Return the share of playlists that are sorted by name, ascending or descending.

    In a sorted playlist, nearly all consecutive songs with different names are in the same order.
    `ranks` has the rank of the name of each play, and `offsets` the bounds of the playlists.
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
    """Compare a count of neighbours with the mean of the same count after shuffling each playlist.

    `count` is called with two arrays of equal length: the value of each play that has a next play
    in its playlist, and the value of the next play.
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
    """Return the number of recurrences of neighbours, in either direction.

    Two songs that are neighbours n times count n * (n - 1) / 2.
    """
    low, high = np.minimum(first, second), np.maximum(first, second)
    _, times = np.unique(low.astype(np.int64) << 32 | high, return_counts=True)
    return float(np.sum(times * (times - 1.0) / 2))


def _count_same_artist(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.count_nonzero((first == second) & (first != _NO_ARTIST)))


def _factorials(lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.cumprod(np.concatenate([[1.0], np.arange(1.0, 171)]))
    return table[np.minimum(lengths, 170)]
