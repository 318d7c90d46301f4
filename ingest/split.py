"""Playlists -> train, validation and test, by a seeded hash of the playlist id.

A playlist's split depends on its id and the seed alone: not on row order, machine or the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog.errors import PlaylistError
from ingest.order import NONE
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from catalog.reporting import Reporter

BOUNDS = {"train": (0.0, 0.7), "validation": (0.7, 0.9), "test": (0.9, 1.0)}
"""Each split's share of the hashes, as a range from 0 to 1."""

# The lower 8 bytes of MD5 as a number from 0 to 1: the same in every version and on every machine.
_HASH = "md5_number_lower($seed || ':' || playlist_id) / 18446744073709551616.0"


# A random order that depends on the seed, the playlist and its songs alone.
_SHUFFLED = """
SELECT * REPLACE (list_transform(list_sort(list_transform(songs, lambda song: struct_pack(
    draw := md5_number_lower({seed} || ':' || playlist_id || ':' || song), song := song
))), lambda drawn: drawn.song) AS songs)
FROM read_parquet({playlists})
"""

COVERAGES = (1, 2, 3, 5, 10)

# Where the order says nothing, any song of a playlist may be held out: each is a label in part.
_COVERAGE = """
WITH plays AS (SELECT song, count(*) AS playlists
               FROM (SELECT unnest(songs) AS song FROM read_parquet({train})) GROUP BY song),
labels AS (SELECT unnest({held_out}) AS song, 1.0 / len({held_out}) AS part
           FROM read_parquet({held}))
SELECT {shares} FROM labels LEFT JOIN plays USING (song)
"""


def split(
    playlists: Path, folder: Path, seed: int, order: str, reporter: Reporter
) -> dict[str, Any]:
    """Write `train.parquet`, `validation.parquet` and `test.parquet` to `folder`.

    Each has the columns of `playlists`, in the order of playlist ids. Where `order` is "none", the
    songs of each playlist are put in a random order, so that nothing later takes the alphabet for a
    hint. Returns the counts, and which share of validation and test labels occurs in how many
    training playlists. Raises `PlaylistError` when no playlist falls to training.
    """
    source = f"SELECT * FROM read_parquet({literal(playlists)})"
    if order == NONE:
        source = _SHUFFLED.format(seed=literal(seed), playlists=literal(playlists))
    with reporter.task("split") as task, connect(folder) as sql:
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
        if not counts["train"]:
            raise PlaylistError(
                f"none of {sum(counts.values())} playlists falls to training with --seed {seed}: "
                f"give more playlists, or another seed"
            )
        coverage = {name: _coverage(sql, folder, name, order) for name in ("validation", "test")}
        text = ", ".join(f"{name} {count:,}" for name, count in counts.items()) + " playlists"
        if order == NONE:
            text += ", their songs in random order"
        task.result(text)
    return {"text": text, **counts, "order": order, "label_coverage": coverage}


def _coverage(
    sql: duckdb.DuckDBPyConnection, folder: Path, name: str, order: str
) -> dict[str, float | None]:
    """The share of labels that are in n training playlists or more, by n."""
    shares = ", ".join(
        f"sum(part) FILTER (playlists >= {least}) / sum(part)" for least in COVERAGES
    )
    query = _COVERAGE.format(
        train=literal(folder / "train.parquet"),
        held=literal(folder / f"{name}.parquet"),
        held_out="songs" if order == NONE else "songs[-1:]",
        shares=shares,
    )
    found = sql.sql(query).fetchall()[0]
    labels = sql.sql(
        f"SELECT count(*) FROM read_parquet({literal(folder / f'{name}.parquet')})"
    ).fetchall()[0][0]
    return {
        str(least): (share or 0.0) if labels else None
        for least, share in zip(COVERAGES, found, strict=True)
    }
