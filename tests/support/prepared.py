"""Rows in the format of the `read` stage, and the output of the `prepare` stage for such rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.console.progress import SilentReporter
from ingest.pipeline import PREPARE
from ingest.prepare.playlists import PrepareOptions, PrepareSummary, prepare
from ingest.sources.tables import ROWS, UNREADABLE
from ingest.stages import WorkFolder

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]


def row(artist: str | None = "A", title: str | None = "x", **fields: Any) -> Row:
    """Return a row in the format of the `read` stage. Columns that are not given are null."""
    blank: Row = dict.fromkeys(ROWS.names)
    return blank | {"file": "songs.csv", "artist": artist, "title": title} | fields


def numbered(rows: list[Row]) -> list[Row]:
    """Return the rows with line numbers. A row without a line gets its index, counted from 2."""
    return [{**one, "line": one["line"] or at} for at, one in enumerate(rows, start=2)]


def playlist(name: str, songs: str, **fields: Any) -> list[Row]:
    """Return the rows of a playlist. Each letter of `songs` is the title of one song."""
    return [row(title=song, playlist_id=name, **fields) for song in songs]


@dataclass(frozen=True)
class Prepared:
    """The output of the `prepare` stage, read from its files."""

    folder: Path
    summary: PrepareSummary
    songs: list[Row]
    playlists: list[Row]
    short: list[Row]
    rejects: list[Row]

    def titles(self, of: list[Row] | None = None) -> dict[str, str]:
        """Return the titles of each playlist, joined into one string, by playlist id."""
        return {
            one["playlist_id"]: "".join(self.songs[song]["title"] for song in one["songs"])
            for one in (self.playlists if of is None else of)
        }


def prepared(
    folder: Path,
    rows: list[Row],
    min_songs: int = 2,
    unreadable: list[Row] | None = None,
    **choices: Any,
) -> Prepared:
    source = folder / "source"
    out = folder / "out"
    source.mkdir(exist_ok=True)
    out.mkdir(exist_ok=True)
    table = pa.Table.from_pylist(numbered(rows), ROWS)
    for name in choices.get("fields", ()):
        values = [one.get(f"payload:{name}") for one in rows]
        table = table.append_column(f"payload:{name}", pa.array(values))
    pq.write_table(table, source / "rows.parquet")
    pq.write_table(pa.Table.from_pylist(unreadable or [], UNREADABLE), source / "bad.parquet")
    chosen = PrepareOptions(min_songs, **choices)
    summary = prepare(
        source / "rows.parquet", source / "bad.parquet", out, chosen, SilentReporter()
    )
    names = ("songs", "playlists", "short_playlists", "rejects")
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{one}.parquet" for one in names)
    songs, playlists, short, rejects = (
        pq.read_table(out / f"{name}.parquet").to_pylist() for name in names
    )
    return Prepared(out, summary, songs, playlists, short, rejects)


def work_of(folder: Path, rows: list[Row], **choices: Any) -> Path:
    """Return a work folder that contains the finished `prepare` stage for these rows."""
    made = prepared(folder, rows, **choices)

    def build(out: Path) -> PrepareSummary:
        for path in made.folder.iterdir():
            path.rename(out / path.name)
        return made.summary

    WorkFolder(folder / "work", SilentReporter()).run_stage(PREPARE, {}, build)
    return folder / "work"
