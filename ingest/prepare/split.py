"""The split of playlists into train, validation and test, by a seeded hash of the playlist id.

A playlist's split depends only on the playlist id and the seed, and not on other playlists, the
order of rows or the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import PlaylistError
from ingest.prepare.order import NONE
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    from numpy.typing import NDArray

    from catalog.console.progress import Reporter

BOUNDS = {"train": (0.0, 0.7), "validation": (0.7, 0.9), "test": (0.9, 1.0)}
"""The range of hash values of each split. The second number is not included."""

# The lower 8 bytes of the MD5 hash, scaled to the range from 0 to 1. MD5 gives the same result in
# every version of DuckDB and on every machine.
_HASH = "md5_number_lower($seed || ':' || playlist_id) / 18446744073709551616.0"

# Hash of seed and playlist, used as the salt of the playlist's random order (see `_shuffle`).
_SALT = "md5_number_lower($seed || ':order:' || playlist_id)"

_SHUFFLED_PLAYS = 1 << 21  # number of plays to shuffle at a time; limits memory use

COVERAGES = (1, 2, 3, 5, 10)
"""Thresholds n: the report shows the share of labels that are in at least n training playlists."""

# If the playlists have no order, any of the n songs of a playlist can be the label, so each song
# counts as 1/n of a label.
_COVERAGE = """
WITH plays AS (SELECT song, count(*) AS playlists
               FROM (SELECT unnest(songs) AS song FROM read_parquet({train})) GROUP BY song),
labels AS (SELECT unnest({held_out}) AS song, 1.0 / len({held_out}) AS part
           FROM read_parquet({held}))
SELECT {shares} FROM labels LEFT JOIN plays USING (song)
"""


@dataclass(frozen=True)
class SplitSummary:
    """Result of the `split` stage.

    - `text`: a one-line summary for display.
    - `train`, `validation`, `test`: number of playlists in each split.
    - `order`: the order of songs within playlists, "played" or "none".
    - `label_coverage`: for `validation` and `test`, the share of labels that are in at least n
      training playlists. The keys are values of n as text. The share is None if the split has no
      playlists.
    """

    text: str
    train: int
    validation: int
    test: int
    order: str
    label_coverage: dict[str, dict[str, float | None]]


def split(playlists: Path, folder: Path, seed: int, order: str, reporter: Reporter) -> SplitSummary:
    """Split playlists into `train.parquet`, `validation.parquet` and `test.parquet` in `folder`.

    Each file has the same columns as `playlists`, and is sorted by playlist id. If `order` is
    "none", the songs of each playlist are shuffled, because later stages would learn from a
    meaningless order, such as alphabetical order. Shuffling uses the song ids in `songs.parquet`,
    which must be in the same folder as `playlists`. Raises `PlaylistError` if there is no training
    playlist.
    """
    source, shuffled = f"SELECT * FROM read_parquet({literal(playlists)})", None
    with reporter.task("split") as task, connect(folder) as sql:
        if order == NONE:
            shuffled = folder / ".shuffled.parquet"
            pq.write_table(_shuffle(sql, playlists, seed), shuffled)
            source = f"SELECT * FROM read_parquet({literal(shuffled)})"
        counts = {}
        for done, (name, (low, high)) in enumerate(BOUNDS.items(), start=1):
            hashed = _HASH.replace("$seed", literal(seed))
            where = f"{hashed} >= {low}" + (f" AND {hashed} < {high}" if high < 1 else "")
            query = f"SELECT * FROM ({source}) WHERE {where} ORDER BY playlist_id"
            path = folder / f"{name}.parquet"
            sql.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")
            counted = f"SELECT count(*) FROM read_parquet({literal(path)})"
            counts[name] = sql.sql(counted).fetchall()[0][0]
            task.advance(done, len(BOUNDS))
        if shuffled:
            shuffled.unlink()
        if not counts["train"]:
            raise PlaylistError(
                f"no training playlist among {sum(counts.values())} playlists with --seed {seed}: "
                f"give more playlists, or another seed"
            )
        coverage = {
            name: _measure_coverage(sql, folder, name, order) for name in ("validation", "test")
        }
        text = ", ".join(f"{name} {count:,}" for name, count in counts.items()) + " playlists"
        if order == NONE:
            text += ", their songs in random order"
        task.result(text)
    return SplitSummary(text=text, **counts, order=order, label_coverage=coverage)


def _shuffle(sql: duckdb.DuckDBPyConnection, playlists: Path, seed: int) -> pa.Table:
    """Return the table of playlists, with the songs of each playlist in random order.

    The order depends only on the seed, the playlist id and the song ids, so it stays the same if
    other playlists are added. Each song gets a random number, computed by SplitMix64 from the
    hashes of song and playlist, and the songs are sorted by this number (Steele, Lea and Flood,
    "Fast splittable pseudorandom number generators", 2014).
    """
    songs = literal(playlists.with_name("songs.parquet"))
    hashes = _fetch_hashes(
        sql, f"SELECT md5_number_lower(song_id) FROM read_parquet({songs}) ORDER BY song"
    )
    salt = _SALT.replace("$seed", literal(seed))
    # DuckDB returns the rows of a Parquet file in file order.
    salts = _fetch_hashes(sql, f"SELECT {salt} FROM read_parquet({literal(playlists)})")
    table = pq.read_table(playlists)
    lists = table["songs"].combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    plays = lists.values.to_numpy()
    mixed = np.empty_like(plays)
    starts = np.unique(
        np.append(
            np.searchsorted(offsets, np.arange(offsets[0], offsets[-1], _SHUFFLED_PLAYS)),
            len(lists),
        )
    )
    for first, last in pairwise(np.append(0, starts[starts > 0]).tolist()):
        low, high = offsets[first], offsets[last]
        playlist = np.repeat(np.arange(first, last), np.diff(offsets[first : last + 1]))
        draws = _mix(hashes[plays[low:high]] ^ salts[playlist])
        mixed[low:high] = plays[low:high][np.lexsort((draws, playlist))]
    shuffled = pa.ListArray.from_arrays(lists.offsets, pa.array(mixed))
    return table.set_column(table.schema.get_field_index("songs"), "songs", shuffled)


def _fetch_hashes(sql: duckdb.DuckDBPyConnection, query: str) -> NDArray[np.uint64]:
    (column,) = sql.sql(query).fetchnumpy().values()
    numbers: NDArray[np.uint64] = np.asarray(column, np.uint64)
    return numbers


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the output of the random number generator SplitMix64 for each state in `values`."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


def _measure_coverage(
    sql: duckdb.DuckDBPyConnection, folder: Path, name: str, order: str
) -> dict[str, float | None]:
    """Return, by n, the share of the split's labels that are in at least n training playlists."""
    shares = ", ".join(
        f"sum(part) FILTER (playlists >= {least}) / sum(part)" for least in COVERAGES
    )
    query = _COVERAGE.format(
        train=literal(folder / "train.parquet"),
        held=literal(folder / f"{name}.parquet"),
        held_out="songs" if order == NONE else "songs[-1:]",
        shares=shares,
    )
    values = sql.sql(query).fetchall()[0]
    labels = sql.sql(
        f"SELECT count(*) FROM read_parquet({literal(folder / f'{name}.parquet')})"
    ).fetchall()[0][0]
    return {
        str(least): (share or 0.0) if labels else None
        for least, share in zip(COVERAGES, values, strict=True)
    }
