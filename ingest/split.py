"""Playlists -> train, validation and test, by a seeded hash of the playlist id.

A playlist's split depends on its id and the seed alone: not on row order, machine or the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog.errors import PlaylistError
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.reporting import Reporter

BOUNDS = {"train": (0.0, 0.7), "validation": (0.7, 0.9), "test": (0.9, 1.0)}
"""Each split's share of the hashes, as a range from 0 to 1."""

# The lower 8 bytes of MD5 as a number from 0 to 1: the same in every version and on every machine.
_HASH = "md5_number_lower($seed || ':' || playlist_id) / 18446744073709551616.0"


def split(playlists: Path, folder: Path, seed: int, reporter: Reporter) -> dict[str, Any]:
    """Write `train.parquet`, `validation.parquet` and `test.parquet` to `folder`.

    Each has the columns of `playlists`, in the order of playlist ids. Returns the counts. Raises
    `PlaylistError` when no playlist falls to training.
    """
    with reporter.task("split") as task, connect(folder) as sql:
        counts = {}
        for done, (name, (low, high)) in enumerate(BOUNDS.items(), start=1):
            hashed = _HASH.replace("$seed", literal(seed))
            where = f"{hashed} >= {low}" + (f" AND {hashed} < {high}" if high < 1 else "")
            query = f"SELECT * FROM read_parquet({literal(playlists)}) WHERE {where} ORDER BY ALL"
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
        text = ", ".join(f"{name} {count:,}" for name, count in counts.items()) + " playlists"
        task.result(text)
    return {"text": text, **counts}
