"""Rows -> songs and playlists.

Trims names, gives every song its identity, orders each playlist and keeps the first of a song's
repeats. What cannot be used is kept beside, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from catalog.errors import PlaylistError
from ingest.prepare import order
from ingest.prepare.identity import identify
from ingest.prepare.sessions import cut_sessions
from ingest.sources.payload import PREFIX
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import duckdb

    from catalog.progress import Reporter

_TRIM_MACRO = (
    "CREATE MACRO trimmed(text) AS coalesce("
    "trim(text, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || chr(160)), '')"
)

# Each name and each list is trimmed and looked at once; rows then carry numbers. `spot` is the
# place of a row in all files, and says which file and line it is.
_FILES = """
CREATE TEMP TABLE files AS
SELECT file, row_number() OVER (ORDER BY file) << 40 AS base
FROM (SELECT DISTINCT file FROM read_parquet({rows}))
"""

_SPELLINGS = """
CREATE TEMP TABLE spellings AS
SELECT row_number() OVER ()::INTEGER AS spelling, artist AS raw_artist, title AS raw_title,
       track_id AS raw_track, trimmed(artist) AS artist, trimmed(title) AS title,
       trimmed(track_id) AS track
FROM (SELECT DISTINCT artist, title, track_id FROM read_parquet({rows}))
"""

# A row's own playlist id names its playlist; where it has none, owner and name do.
_LISTS = """
CREATE TEMP TABLE lists AS
SELECT row_number() OVER ()::INTEGER AS list, playlist_id AS given_id, playlist_name AS raw_name,
       owner AS raw_owner, trimmed(playlist_name) AS name, trimmed(owner) AS owner,
       CASE WHEN trimmed(playlist_id) <> '' THEN trimmed(playlist_id)
            WHEN trimmed(playlist_name) <> ''
            THEN md5(trimmed(owner) || chr(31) || trimmed(playlist_name))
            ELSE '' END AS playlist
FROM (SELECT DISTINCT playlist_id, playlist_name, owner FROM read_parquet({rows}))
"""

_ROWS = """
CREATE TEMP TABLE numbered AS
SELECT base + line AS spot, position, spelling, list {extras}
FROM read_parquet({rows}) r
JOIN files ON r.file = files.file
JOIN spellings ON r.artist IS NOT DISTINCT FROM raw_artist
    AND r.title IS NOT DISTINCT FROM raw_title AND track_id IS NOT DISTINCT FROM raw_track
JOIN lists ON playlist_id IS NOT DISTINCT FROM given_id
    AND playlist_name IS NOT DISTINCT FROM raw_name AND r.owner IS NOT DISTINCT FROM raw_owner
"""

# Playlists are numbered in the order of their ids; lists that differ in blanks alone are one.
_NUMBERS = """
CREATE TEMP TABLE playlist_of AS
SELECT list, (dense_rank() OVER (ORDER BY playlist) - 1)::INTEGER AS number
FROM lists WHERE playlist <> ''
"""

_NAMES = """
SELECT artist, title, track, coalesce(sum(rows), 0)::BIGINT AS plays
FROM spellings LEFT JOIN (
    SELECT spelling, count(*) AS rows FROM numbered SEMI JOIN playlist_of USING (list)
    GROUP BY spelling
) USING (spelling)
GROUP BY ALL
"""

# Songs are numbered in the order of their ids, whatever the order of the rows; the spelling shown
# is the one that most rows have.
_SONGS = """
CREATE TEMP TABLE songs AS
WITH spelled AS (
    SELECT song_id, artist, title, artist_key, title_key FROM names
    WHERE song_id IS NOT NULL AND plays > 0
    QUALIFY row_number() OVER (
        PARTITION BY song_id ORDER BY plain DESC, plays DESC, artist, title, track) = 1
)
SELECT (row_number() OVER (ORDER BY song_id) - 1)::INTEGER AS song, * FROM spelled
"""

_SONG_OF = """
CREATE TEMP TABLE song_of AS
SELECT spelling, song
FROM spellings JOIN names USING (artist, title, track) JOIN songs USING (song_id)
"""

_USED = """
CREATE TEMP TABLE used AS
SELECT number, list, song, {place} AS place {extras}
FROM numbered JOIN song_of USING (spelling) JOIN playlist_of USING (list)
"""

# The place of a row in its playlist: by position (or time) where there is one, else as in the file.
_BY_FILE = "spot"
_BY_POSITION = "row_number() OVER (ORDER BY position NULLS LAST, spot)"

_REJECTS = """
SELECT file, line, reason, text FROM read_parquet({unreadable})
UNION ALL
SELECT file, spot - base AS line,
       CASE WHEN names.artist_key = '' THEN 'no artist' WHEN names.title_key = '' THEN 'no title'
            ELSE 'no playlist' END AS reason,
       concat_ws(' | ', given_id, lists.name, lists.owner, artist, title, track) AS text
FROM numbered ANTI JOIN (SELECT spelling FROM song_of) USING (spelling)
JOIN spellings USING (spelling) JOIN names USING (artist, title, track) JOIN lists USING (list)
JOIN files ON spot & ~((1::BIGINT << 40) - 1) = base
UNION ALL
SELECT file, spot - base AS line, 'no playlist' AS reason,
       concat_ws(' | ', given_id, lists.name, lists.owner, artist, title, track) AS text
FROM numbered SEMI JOIN song_of USING (spelling)
JOIN spellings USING (spelling) JOIN (SELECT * FROM lists WHERE playlist = '') lists USING (list)
JOIN files ON spot & ~((1::BIGINT << 40) - 1) = base
ORDER BY file, line
"""

# All plays by playlist and place, the first of a song's repeats alone; and the playlists' names.
_PLAYS = """
SELECT number, song FROM (
    SELECT number, song, min(place) AS place FROM used GROUP BY number, song
) ORDER BY number, place
"""

_LISTED = """
SELECT number, min(playlist) AS playlist_id, coalesce(min(nullif(name, '')), '') AS name,
       coalesce(min(nullif(owner, '')), '') AS owner
FROM lists JOIN playlist_of USING (list) SEMI JOIN used USING (list)
GROUP BY number ORDER BY number
"""

# A song's value is the one that most of its rows have; the alphabet settles ties.
_VALUES = """
CREATE TEMP TABLE {table} AS
SELECT song, value FROM (
    SELECT song, {column} AS value, count(*) AS rows FROM used WHERE {column} IS NOT NULL
    GROUP BY ALL
) QUALIFY row_number() OVER (PARTITION BY song ORDER BY rows DESC, value) = 1
"""

# Lists are told apart by a hash; an owner's playlists of one name, by their ids. Playlists that are
# one here though the files have two: their names differ in blanks alone, or two files have an id.
_NOTES = """
SELECT (SELECT coalesce(sum(n), 0)::BIGINT FROM (
           SELECT count(*) AS n FROM playlists WHERE owner <> '' AND name <> ''
           GROUP BY owner, name HAVING count(*) > 1)),
       (SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (
           SELECT count(*) AS n FROM playlists WHERE len(songs) >= $min_songs
           GROUP BY hash(songs))),
       (SELECT count(*) FROM (
           SELECT number FROM lists JOIN playlist_of USING (list)
           GROUP BY number HAVING count(DISTINCT CASE WHEN trimmed(given_id) <> '' THEN given_id
               ELSE concat(raw_owner, chr(31), raw_name) END) > 1)),
       (SELECT count(*) FROM (
           SELECT number FROM numbered JOIN playlist_of USING (list)
           WHERE (SELECT count(*) FROM files) > 1
           GROUP BY number HAVING min(spot >> 40) <> max(spot >> 40)))
"""

_COUNTS = """
SELECT (SELECT count(*) FROM numbered), (SELECT count(*) FROM used),
       (SELECT count(*) FROM songs), (SELECT count(DISTINCT artist_key) FROM songs),
       count(*), count(*) FILTER (len(songs) >= $min_songs),
       coalesce(sum(len(songs)) FILTER (len(songs) >= $min_songs), 0)::BIGINT,
       coalesce(sum(len(songs)), 0)::BIGINT,
       (SELECT count(*) FROM names WHERE track <> ''),
       (SELECT count(*) FROM used SEMI JOIN (
           SELECT number FROM playlists WHERE len(songs) < $min_songs) USING (number))
FROM playlists
"""


@dataclass(frozen=True)
class Choices:
    """How rows become songs and playlists.

    `fields` are the payload fields that the rows have. `session_files` are the files without
    playlists, whose rows are cut into sessions where more than `session_gap` minutes pass.
    """

    min_songs: int
    merge_versions: bool = False
    session_gap: float = 30.0
    session_files: Sequence[str] = ()
    fields: Sequence[str] = field(default=())


def prepare(
    rows: Path, unreadable: Path, folder: Path, choices: Choices, reporter: Reporter
) -> dict[str, Any]:
    """Turn the rows and unreadable records of `ingest.sources.read` into the tables of this stage.

    Writes to `folder`: `songs.parquet` (song, song_id, artist, title, artist_key, title_key, and
    the payload fields), `playlists.parquet` (playlist_id, name, owner, songs: list of `song`, in
    play order, each once), `short_playlists.parquet` (those of fewer than `min_songs` songs), and
    `rejects.parquet` (file, line, reason, text). Returns the counts. Raises `PlaylistError` when no
    playlist is left.
    """
    extras = "".join(f', "{PREFIX}{name}"' for name in choices.fields)
    with reporter.task("prepare") as task, connect(folder) as sql:
        sql.execute(_TRIM_MACRO)
        for statement in (_FILES, _SPELLINGS, _LISTS, _ROWS):
            sql.execute(statement.format(rows=literal(rows), extras=extras))
        units = cut_sessions(sql, choices.session_files, 60.0 * choices.session_gap)
        sql.execute(_NUMBERS)
        task.advance(4, 10)
        versions = identify(sql, _NAMES, merge=choices.merge_versions)
        task.advance(6, 10)
        sql.execute(_SONGS)
        sql.execute(_SONG_OF)
        rejects = _REJECTS.format(unreadable=literal(unreadable))
        _write(sql, rejects, folder / "rejects.parquet")
        positions = sql.sql("SELECT count(position) FROM numbered").fetchall()[0][0]
        place = _BY_POSITION if positions else _BY_FILE
        sql.execute(_USED.format(place=place, extras=extras))
        task.advance(7, 10)
        sql.register("playlists", _playlists(sql))
        by_id = "SELECT * EXCLUDE (number) FROM playlists WHERE len(songs) {} {}"
        _write(sql, by_id.format(">=", choices.min_songs), folder / "playlists.parquet")
        _write(sql, by_id.format("<", choices.min_songs), folder / "short_playlists.parquet")
        _write(sql, _songs_with(sql, choices.fields), folder / "songs.parquet")
        summary = _account(sql, folder / "rejects.parquet", choices.min_songs)
        if not summary["playlists"]:
            raise PlaylistError(_no_playlists(summary, choices.min_songs))
        same_names, same_songs, blanks, files = sql.sql(
            _NOTES, params={"min_songs": choices.min_songs}
        ).fetchall()[0]
        task.advance(9, 10)
        summary |= {
            "same_names": same_names,
            "same_songs": same_songs,
            "merged_blanks": blanks,
            "merged_files": files,
            "versions": versions,
            "sessions": bool(choices.session_files),
            "units": units,
            "order": order.measure(folder / "playlists.parquet", folder / "songs.parquet"),
        }
        task.result(summary["text"])
    return summary


def _playlists(sql: duckdb.DuckDBPyConnection) -> pa.Table:
    """The playlists, by ascending id: number, playlist_id, name, owner, songs."""
    plays = sql.sql(_PLAYS).to_arrow_table()
    listed = sql.sql(_LISTED).to_arrow_table()
    number, songs = plays["number"].to_numpy(), plays["song"].combine_chunks()
    starts = np.append(np.flatnonzero(np.diff(number, prepend=-1)), len(number))
    lists = pa.ListArray.from_arrays(starts.astype(np.int32), songs)
    return listed.append_column("songs", lists)


def _songs_with(sql: duckdb.DuckDBPyConnection, fields: Sequence[str]) -> str:
    """The query of `songs` in their order, with the payload fields, each song's own value."""
    columns, joins = "", ""
    for number, name in enumerate(fields):
        table = f"values_{number}"
        sql.execute(_VALUES.format(table=table, column=f'"{PREFIX}{name}"'))
        columns += f', {table}.value AS "{name}"'
        joins += f" LEFT JOIN {table} USING (song)"
    return f"SELECT songs.*{columns} FROM songs{joins} ORDER BY song"


def _write(sql: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    sql.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")


def _account(sql: duckdb.DuckDBPyConnection, rejects: Path, min_songs: int) -> dict[str, Any]:
    counts = sql.sql(_COUNTS, params={"min_songs": min_songs}).fetchall()[0]
    rows, used, songs, artists, found, kept, plays, different, tracks, short_rows = counts
    reasons = sql.sql(
        f"SELECT split_part(reason, ':', 1) AS kind, count(*) AS n "
        f"FROM read_parquet({literal(rejects)}) GROUP BY kind ORDER BY n DESC, kind"
    ).fetchall()
    rejected = sum(count for _, count in reasons)
    text = f"{kept:,} playlists, {songs:,} songs of {artists:,} artists"
    if rejected:
        text += f"; {rejected:,} rows rejected ({_listed(reasons)})"
    if found > kept:
        text += (
            f"; {found - kept:,} playlists shorter than {min_songs} songs dropped, "
            f"{short_rows:,} rows with them"
        )
    return {
        "text": text,
        "rows": rows,
        "used": used,
        "rejected": dict(reasons),
        "unreadable": rejected - (rows - used),
        "songs": songs,
        "artists": artists,
        "playlists": kept,
        "short_playlists": found - kept,
        "short_rows": short_rows,
        "plays": plays,
        "repeats": used - different,
        "track_ids": tracks > 0,
    }


def _listed(reasons: list[tuple[str, int]]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons)


def _no_playlists(summary: dict[str, Any], min_songs: int) -> str:
    return (
        f"no playlist has {min_songs} songs or more: {summary['rows']:,} rows gave "
        f"{summary['short_playlists']:,} shorter playlists and "
        f"{sum(summary['rejected'].values()):,} rejected rows; "
        f"check that the playlist column is the right one (--column playlist_id=NAME), "
        f"or lower --min-songs"
    )
