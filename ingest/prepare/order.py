"""Does the order within playlists say anything? Measured, not believed.

Two questions. Are playlists sorted by a name, as the #nowplaying playlists are by title? Then the
order is that of the alphabet. And do neighbours belong together: does a pair of neighbouring songs
recur in other playlists, or keep to one artist, more often than after each playlist is shuffled?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PLAYED, NONE = "played", "none"
SAMPLED_PLAYS = 2_000_000
SORTED_NAMES = {
    "title": "title",
    "title_key": "title, whatever its case",
    "artist": "artist",
    "artist_key": "artist, whatever its case",
}
_LEAST_SONGS = 5  # shorter playlists are often sorted by chance
_LEAST_PLAYLISTS = 5
_SORTED = 0.95  # of a playlist's steps go one way
_MOSTLY = 0.5  # of the playlists are sorted: the order of the data is that of the alphabet
_SHUFFLES = 3
_TOGETHER = 1.1  # times as often as by chance: neighbours belong together
_ENOUGH = 1_000  # neighbours expected by chance: without more than these, shuffled is unproven


def measure(playlists: Path, songs: Path) -> dict[str, Any]:
    """Measure the order of `playlists.parquet`, with the names of `songs.parquet`.

    Returns `found` ("played" or "none"), `text` (a sentence for people) and the figures: `sorted`
    (per name, the share of playlists that it sorts), `by_chance` of the same, `recurring` and
    `same_artist` (how many times as often as by chance neighbours recur, or share their artist;
    None where nothing could be expected). Playlists of fewer than 5 songs are left out; a sample
    of whole playlists, spread evenly over the file, stands for large data.
    """
    offsets, plays = _sample(playlists)
    lengths = np.diff(offsets)
    if len(lengths) < _LEAST_PLAYLISTS:
        return {
            "found": PLAYED,
            "text": "too few playlists of 5 songs or more to judge their order: taken as played",
            "playlists": len(lengths),
        }
    names = pq.read_table(songs, columns=list(SORTED_NAMES)).take(pa.array(plays))
    sorted_shares = {name: _sorted_share(_ranks(names[name]), offsets) for name in SORTED_NAMES}
    by, share = max(sorted_shares.items(), key=lambda item: item[1])
    recurring = _times_chance(offsets, plays, _recurrences)
    artist = _times_chance(offsets, _ranks(names["artist_key"]), _equals)
    figures = {
        "playlists": len(lengths),
        "sorted": sorted_shares,
        "by_chance": float(np.mean(2.0 / _factorials(lengths))),
        "recurring": recurring[0],
        "same_artist": artist[0],
    }
    if share >= _MOSTLY:
        found, text = NONE, f"{share:.0%} of playlists are sorted by {SORTED_NAMES[by]}"
    elif recurring[1] or artist[1]:
        found, text = PLAYED, f"neighbours {_compared(recurring[0], artist[0])}"
    elif max(recurring[2], artist[2]) >= _ENOUGH:
        found, text = NONE, f"as if shuffled: neighbours {_compared(recurring[0], artist[0])}"
    else:
        found, text = PLAYED, "too little data to judge the order: taken as played"
    return {"found": found, "text": text, **figures}


def _compared(recurring: float | None, artist: float | None) -> str:
    said = []
    if recurring is not None:
        said.append(f"recur {recurring:.1f} times as often as after shuffling")
    if artist is not None:
        said.append(f"share their artist {artist:.1f} times as often")
    return " and ".join(said)


def _sample(playlists: Path) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Offsets and songs of playlists that are long enough, about SAMPLED_PLAYS plays at most."""
    with pq.ParquetFile(playlists) as file:
        groups = [
            _long_ones(batch.column(0)) for batch in file.iter_batches(1 << 14, columns=["songs"])
        ]
    total = sum(len(plays) for _, plays in groups)
    every = max(1, -(-total // SAMPLED_PLAYS))
    lengths = [np.diff(offsets)[::every] for offsets, _ in groups]
    plays = [_taken(offsets, values, every) for offsets, values in groups]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([*lengths, []]))]).astype(np.int64)
    return offsets, np.concatenate([np.zeros(0, np.int32), *plays])


def _long_ones(lists: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    kept = lists.filter(pc.greater_equal(pc.list_value_length(lists), _LEAST_SONGS))
    lengths = pc.list_value_length(kept).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), kept.flatten().to_numpy()


def _taken(offsets: NDArray[np.int64], plays: NDArray[np.int32], every: int) -> NDArray[np.int32]:
    lengths = np.diff(offsets)
    chosen = np.arange(len(lengths)) % every == 0
    taken: NDArray[np.int32] = plays[np.repeat(chosen, lengths)]
    return taken


def _ranks(names: pa.ChunkedArray) -> NDArray[np.int64]:
    """Equal numbers for equal names, rising in code point order."""
    ranks: NDArray[np.int64] = pc.rank(names.combine_chunks(), tiebreaker="dense").to_numpy()
    return ranks.astype(np.int64)


def _steps(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places that have a neighbour after them in the same playlist."""
    inside = np.ones(offsets[-1], bool)
    inside[offsets[1:] - 1] = False
    return np.flatnonzero(inside)


def _sorted_share(ranks: NDArray[np.int64], offsets: NDArray[np.int64]) -> float:
    """The share of playlists whose steps to another name nearly all go up, or nearly all down."""
    at = _steps(offsets)
    playlist = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[at]
    up = np.bincount(playlist, ranks[at + 1] > ranks[at], len(offsets) - 1)
    down = np.bincount(playlist, ranks[at + 1] < ranks[at], len(offsets) - 1)
    moved = up + down
    is_sorted = (moved >= _LEAST_SONGS - 1) & (np.maximum(up, down) >= _SORTED * moved)
    return float(is_sorted.mean())


def _times_chance(
    offsets: NDArray[np.int64], values: NDArray[Any], counted: Any
) -> tuple[float | None, bool, float]:
    """How many times as often as after shuffling; whether that is clearly more; and how often."""
    at = _steps(offsets)
    found = counted(values[at], values[at + 1])
    playlist = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    chance = np.random.default_rng(0)
    shuffled = []
    for _ in range(_SHUFFLES):
        mixed = values[np.lexsort((chance.random(len(values)), playlist))]
        shuffled.append(counted(mixed[at], mixed[at + 1]))
    expected = float(np.mean(shuffled))
    if not expected:
        return None, found > 10, expected
    clearly = found > _TOGETHER * expected and found - expected > 5 * np.sqrt(expected)
    return float(found / expected), bool(clearly), expected


def _recurrences(first: NDArray[Any], second: NDArray[Any]) -> float:
    """How many pairs of steps join the same two songs."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    _, times = np.unique(low.astype(np.int64) << 32 | high, return_counts=True)
    return float(np.sum(times * (times - 1.0) / 2))


def _equals(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.count_nonzero(first == second))


def _factorials(lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.cumprod(np.concatenate([[1.0], np.arange(1.0, 171)]))
    return table[np.minimum(lengths, 170)]
