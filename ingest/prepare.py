"""Rows -> songs and playlists.

Trims names, gives every song its identity, orders each playlist and keeps the first of a song's
repeats. What cannot be used is kept beside, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.errors import PlaylistError
from catalog.songs import normalise, song_id_of_keys, song_id_of_track
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from catalog.reporting import Reporter

_TRIM_MACRO = (
    "CREATE MACRO trimmed(text) AS coalesce("
    "trim(text, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || chr(160)), '')"
)

# A row's own playlist id names its playlist; where the file has none, owner and name do.
_ROWS = """
CREATE TEMP TABLE trimmed_rows AS
SELECT file, line, position, trimmed(artist) AS artist, trimmed(title) AS title,
       trimmed(track_id) AS track, trimmed(playlist_name) AS name, trimmed(owner) AS owner,
       CASE WHEN playlist_id IS NOT NULL THEN trimmed(playlist_id)
            WHEN trimmed(playlist_name) <> ''
            THEN md5(trimmed(owner) || chr(31) || trimmed(playlist_name))
            ELSE '' END AS playlist,
       playlist_id AS given_id
FROM read_parquet({rows})
"""

_NAMES = """
SELECT artist, title, track, count(*) FILTER (playlist <> '') AS plays
FROM trimmed_rows GROUP BY ALL
"""

# Songs are numbered in the order of their ids, whatever the order of the rows; the spelling shown
# is the one that most rows have.
_SONGS = """
CREATE TEMP TABLE songs AS
WITH spelled AS (
    SELECT song_id, artist, title, artist_key, title_key FROM names
    WHERE song_id IS NOT NULL AND plays > 0
    QUALIFY row_number() OVER (PARTITION BY song_id ORDER BY plays DESC, artist, title, track) = 1
)
SELECT (row_number() OVER (ORDER BY song_id) - 1)::INTEGER AS song, * FROM spelled
"""

_USED = """
CREATE TEMP TABLE used AS
SELECT playlist, song, position, file, line, r.name, r.owner
FROM trimmed_rows r JOIN names USING (artist, title, track) JOIN songs USING (song_id)
WHERE playlist <> ''
"""

_REJECTS = """
SELECT file, line, reason, text FROM read_parquet({unreadable})
UNION ALL
SELECT file, line,
       CASE WHEN names.artist_key = '' THEN 'no artist' WHEN names.title_key = '' THEN 'no title'
            ELSE 'no playlist' END AS reason,
       concat_ws(' | ', r.given_id, r.name, r.owner, artist, title, track) AS text
FROM trimmed_rows r JOIN names USING (artist, title, track)
WHERE names.song_id IS NULL OR r.playlist = ''
ORDER BY file, line
"""

# The place of a row in its playlist: by position (or time) where there is one, else as in the file.
_PLAYLISTS = """
CREATE TEMP TABLE playlists AS
WITH placed AS (
    SELECT playlist, song, name, owner,
           row_number() OVER (ORDER BY position NULLS LAST, file, line) AS place
    FROM used
), once AS (
    SELECT playlist, song, min(place) AS place,
           min(nullif(name, '')) AS name, min(nullif(owner, '')) AS owner
    FROM placed GROUP BY playlist, song
)
SELECT playlist AS playlist_id, coalesce(min(name), '') AS name, coalesce(min(owner), '') AS owner,
       list(song ORDER BY place) AS songs
FROM once GROUP BY playlist
"""

_COUNTS = """
SELECT (SELECT count(*) FROM trimmed_rows), (SELECT count(*) FROM used),
       (SELECT count(*) FROM songs), (SELECT count(DISTINCT artist_key) FROM songs),
       count(*), count(*) FILTER (len(songs) >= $min_songs),
       coalesce(sum(len(songs)) FILTER (len(songs) >= $min_songs), 0)::BIGINT,
       coalesce(sum(len(songs)), 0)::BIGINT,
       (SELECT count(*) FROM names WHERE track <> '')
FROM playlists
"""


def prepare(
    rows: Path, unreadable: Path, folder: Path, min_songs: int, reporter: Reporter
) -> dict[str, Any]:
    """Turn the rows and unreadable records of `ingest.reading` into the tables of this stage.

    Writes to `folder`: `songs.parquet` (song, song_id, artist, title, artist_key, title_key),
    `playlists.parquet` (playlist_id, name, owner, songs: list of `song`, in play order, each once),
    `short_playlists.parquet` (those of fewer than `min_songs` songs), and `rejects.parquet` (file,
    line, reason, text). Returns the counts. Raises `PlaylistError` when no playlist is left.
    """
    with reporter.task("prepare") as task, connect(folder) as sql:
        sql.execute(_TRIM_MACRO)
        sql.execute(_ROWS.format(rows=literal(rows)))
        task.advance(2, 10)
        sql.register("names", _identify(sql.sql(_NAMES).to_arrow_table()))
        task.advance(5, 10)
        sql.execute(_SONGS)
        sql.execute(_USED)
        rejects = _REJECTS.format(unreadable=literal(unreadable))
        _write(sql, rejects, folder / "rejects.parquet")
        task.advance(7, 10)
        sql.execute(_PLAYLISTS)
        by_id = "SELECT * FROM playlists WHERE len(songs) {} {} ORDER BY playlist_id"
        _write(sql, by_id.format(">=", min_songs), folder / "playlists.parquet")
        _write(sql, by_id.format("<", min_songs), folder / "short_playlists.parquet")
        _write(sql, "SELECT * FROM songs ORDER BY song", folder / "songs.parquet")
        summary = _account(sql, folder / "rejects.parquet", min_songs)
        if not summary["playlists"]:
            raise PlaylistError(_no_playlists(summary, min_songs))
        task.result(summary["text"])
    return summary


def _identify(names: pa.Table) -> pa.Table:
    """Add keys and id to each spelling; `song_id` is null where artist or title is empty."""
    artist_keys = _keys(names["artist"])
    title_keys = _keys(names["title"])
    ids: list[str | None] = []
    for artist_key, title_key, track in zip(
        artist_keys.to_pylist(), title_keys.to_pylist(), names["track"].to_pylist(), strict=True
    ):
        if not artist_key or not title_key:
            ids.append(None)
        elif track:
            ids.append(str(song_id_of_track(track)))
        else:
            ids.append(str(song_id_of_keys(artist_key, title_key)))
    return (
        names.append_column("artist_key", artist_keys)
        .append_column("title_key", title_keys)
        .append_column("song_id", pa.array(ids, pa.string()))
    )


def _keys(column: pa.ChunkedArray) -> pa.Array:
    encoded = column.combine_chunks().dictionary_encode()
    keys = pa.array([normalise(name) for name in encoded.dictionary.to_pylist()], pa.string())
    return keys.take(encoded.indices)


def _write(sql: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    sql.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")


def _account(sql: duckdb.DuckDBPyConnection, rejects: Path, min_songs: int) -> dict[str, Any]:
    counts = sql.sql(_COUNTS, params={"min_songs": min_songs}).fetchall()[0]
    rows, used, songs, artists, found, kept, plays, different, tracks = counts
    reasons = sql.sql(
        f"SELECT split_part(reason, ':', 1) AS kind, count(*) AS n "
        f"FROM read_parquet({literal(rejects)}) GROUP BY kind ORDER BY n DESC, kind"
    ).fetchall()
    rejected = sum(count for _, count in reasons)
    text = f"{kept:,} playlists, {songs:,} songs of {artists:,} artists"
    if rejected:
        text += f"; {rejected:,} rows rejected ({_listed(reasons)})"
    if found > kept:
        text += f"; {found - kept:,} playlists shorter than {min_songs} songs dropped"
    return {
        "text": text,
        "rows": rows,
        "used": used,
        "rejected": dict(reasons),
        "songs": songs,
        "artists": artists,
        "playlists": kept,
        "short_playlists": found - kept,
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
