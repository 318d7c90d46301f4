"""The `prepare` stage: makes songs and playlists from the rows of the files.

Names are trimmed, songs get ids, and the rows of each playlist are put in order. If a playlist
repeats a song, only the first row counts. Rows that cannot be used are written to a file of
rejects, each with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from catalog.errors import PlaylistError
from ingest.prepare.credits import Credits, split_credits
from ingest.prepare.identity import Versions, identify_songs
from ingest.prepare.order import Order, measure_order
from ingest.prepare.sessions import cut_sessions
from ingest.sources.columns.roles import has_sessions
from ingest.sources.tables import CREDIT_SEPARATOR
from ingest.sources.values.payload import PREFIX
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import duckdb

    from catalog.console.progress import Reporter
    from ingest.parameters import Parameters
    from ingest.sources.account import ReadAccount

_TRIM_MACRO = (
    "CREATE MACRO trimmed(text) AS coalesce("
    "trim(text, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || chr(160)), '')"
)

# Rows refer to names and playlists by number, so that each distinct name is trimmed only once.
# `row_key` is the number of the file, shifted by 40 bits, plus the line of the row. `needs_artist`
# is true for names that occur only in files with an artist column; such a name is rejected if it
# has no artist.
_FILES = """
CREATE TEMP TABLE files AS
SELECT file, row_number() OVER (ORDER BY file) << 40 AS base,
       file NOT IN ({without_artist}) AS needs_artist
FROM (SELECT DISTINCT file FROM read_parquet({rows}))
"""

_SPELLINGS = """
CREATE TEMP TABLE spellings AS
SELECT row_number() OVER ()::INTEGER AS spelling, artist AS raw_artist, title AS raw_title,
       track_id AS raw_track, trimmed(replace(artist, '{separator}', ', ')) AS artist,
       trimmed(title) AS title,
       trimmed(track_id) AS track, needs_artist
FROM (SELECT artist, title, track_id, bool_and(needs_artist) AS needs_artist
      FROM read_parquet({rows}) JOIN files USING (file) GROUP BY ALL)
"""

# The playlist of a row is identified by the playlist id or, if there is none, by owner and name.
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
SELECT base + line AS row_key, position, spelling, list {extras}
FROM read_parquet({rows}) r
JOIN files ON r.file = files.file
JOIN spellings ON r.artist IS NOT DISTINCT FROM raw_artist
    AND r.title IS NOT DISTINCT FROM raw_title AND track_id IS NOT DISTINCT FROM raw_track
JOIN lists ON playlist_id IS NOT DISTINCT FROM given_id
    AND playlist_name IS NOT DISTINCT FROM raw_name AND r.owner IS NOT DISTINCT FROM raw_owner
"""

# Playlists are numbered in the order of their ids. Rows whose playlist names differ only in white
# space belong to the same playlist.
_NUMBERS = """
CREATE TEMP TABLE playlist_of AS
SELECT list, (dense_rank() OVER (ORDER BY playlist) - 1)::INTEGER AS number
FROM lists WHERE playlist <> ''
"""

_NAMES = """
SELECT artist, title, track, bool_and(needs_artist) AS needs_artist,
       coalesce(sum(rows), 0)::BIGINT AS plays
FROM spellings LEFT JOIN (
    SELECT spelling, count(*) AS rows FROM numbered SEMI JOIN playlist_of USING (list)
    GROUP BY spelling
) USING (spelling)
GROUP BY artist, title, track
"""

# Songs are numbered in the order of their ids, so that the numbers do not depend on the order of
# rows. The spelling with the most plays is kept for display.
_SONGS = """
CREATE TEMP TABLE songs AS
WITH spelled AS (
    SELECT song_id, artist, title, artist_key, title_key FROM names
    WHERE song_id IS NOT NULL AND plays > 0
    QUALIFY row_number() OVER (
        PARTITION BY song_id ORDER BY plain DESC, title <> track DESC, plays DESC, artist, title,
                                      track) = 1
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
SELECT number, list, song, {rank} AS rank {extras}
FROM numbered JOIN song_of USING (spelling) JOIN playlist_of USING (list)
"""

# Sort keys for the rows of a playlist: position or time if the files have such a column, otherwise
# the order of rows in the file.
_BY_FILE = "row_key"
_BY_POSITION = "row_number() OVER (ORDER BY position NULLS LAST, row_key)"

_REJECTS = """
SELECT file, line, reason, text FROM read_parquet({unreadable})
UNION ALL
SELECT file, row_key - base AS line,
       CASE WHEN names.artist_key = '' AND names.needs_artist THEN 'no artist'
            WHEN names.title_key = '' THEN 'no title' ELSE 'no playlist' END AS reason,
       concat_ws(' | ', given_id, lists.name, lists.owner, artist, title, track) AS text
FROM numbered ANTI JOIN (SELECT spelling FROM song_of) USING (spelling)
JOIN spellings USING (spelling) JOIN names USING (artist, title, track) JOIN lists USING (list)
JOIN files ON row_key & ~((1::BIGINT << 40) - 1) = base
UNION ALL
SELECT file, row_key - base AS line, 'no playlist' AS reason,
       concat_ws(' | ', given_id, lists.name, lists.owner, artist, title, track) AS text
FROM numbered SEMI JOIN song_of USING (spelling)
JOIN spellings USING (spelling) JOIN (SELECT * FROM lists WHERE playlist = '') lists USING (list)
JOIN files ON row_key & ~((1::BIGINT << 40) - 1) = base
ORDER BY file, line
"""

# All plays, sorted by playlist and rank. If a playlist repeats a song, only the first play counts.
_PLAYS = """
SELECT number, song FROM (
    SELECT number, song, min(rank) AS rank FROM used GROUP BY number, song
) ORDER BY number, rank
"""

_PLAYLIST_NAMES = """
SELECT number, min(playlist) AS playlist_id, coalesce(min(nullif(name, '')), '') AS name,
       coalesce(min(nullif(owner, '')), '') AS owner
FROM lists JOIN playlist_of USING (list) SEMI JOIN used USING (list)
GROUP BY number ORDER BY number
"""

COMMON_VALUES = """
CREATE TEMP TABLE {table} AS
SELECT song, value FROM (
    SELECT song, {column} AS value, count(*) AS rows FROM used WHERE {column} IS NOT NULL
    GROUP BY ALL
) QUALIFY row_number() OVER (PARTITION BY song ORDER BY rows DESC, value) = 1
"""
"""SQL statement that creates {table}, with the columns song and value, from {column} of `used`.

A song gets the most frequent value among its rows. If values are equally frequent, the smallest
value is used.
"""

# The counts same_names, same_songs (compared by hash), merged_blanks and merged_files of
# `PrepareCounts`.
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
           GROUP BY number HAVING min(row_key >> 40) <> max(row_key >> 40)))
"""

_COUNTS = """
SELECT (SELECT count(*) FROM numbered), (SELECT count(*) FROM used),
       (SELECT count(*) FROM songs),
       (SELECT count(DISTINCT name) FROM (
           SELECT unnest(artist_keys) AS name FROM credits SEMI JOIN songs USING (artist_key)
           UNION ALL SELECT artist_key FROM songs WHERE artist_key <> '')),
       count(*), count(*) FILTER (len(songs) >= $min_songs),
       coalesce(sum(len(songs)) FILTER (len(songs) >= $min_songs), 0)::BIGINT,
       coalesce(sum(len(songs)), 0)::BIGINT,
       (SELECT count(*) FROM names WHERE track <> ''),
       (SELECT count(*) FROM used SEMI JOIN (
           SELECT number FROM playlists WHERE len(songs) < $min_songs) USING (number))
FROM playlists
"""


@dataclass(frozen=True)
class PrepareOptions:
    """Options for making songs and playlists from rows.

    - `min_songs`: playlists with fewer songs are dropped.
    - `merge_versions`: whether to merge versions of a song, such as remasters, into one song.
    - `session_gap`: pause that ends a session, in minutes.
    - `session_files`: files without playlists, whose rows are cut into sessions.
    - `without_artist`: files in which rows without an artist are accepted.
    - `fields`: names of the payload fields.
    """

    min_songs: int
    merge_versions: bool = False
    session_gap: float = 30.0
    session_files: Sequence[str] = ()
    without_artist: Sequence[str] = ()
    fields: Sequence[str] = ()


def prepare_options(read: ReadAccount, parameters: Parameters) -> PrepareOptions:
    """Derive the options from the result of reading and from the parameters."""
    return PrepareOptions(
        **parameters.of_stage("prepare"),
        session_files=[note.file for note in read.notes if has_sessions(note.columns)],
        without_artist=[note.file for note in read.notes if not note.needs_artist],
        fields=list(read.payload),
    )


@dataclass(frozen=True, kw_only=True)
class PrepareCounts:
    """Counts from the `prepare` stage.

    - `rows`: number of rows that could be read.
    - `used`: number of these rows that are part of a playlist.
    - `rejected`: number of rejected rows by reason, including rows that could not be read.
    - `unreadable`: number of rejected rows that could not be read.
    - `songs`, `artists`: number of songs and number of artists in all playlists, including short
      playlists. Songs may have no artist.
    - `playlists`, `plays`: number of playlists that are kept, and the total number of songs in
      them.
    - `short_playlists`, `short_rows`: number of playlists that are dropped because they are too
      short, and the number of rows in them.
    - `repeats`: number of rows with a song that already occurred in the playlist.
    - `track_ids`: whether songs are identified by track ids.
    - `same_names`: number of playlists with the same owner and name as another playlist.
    - `same_songs`: number of playlists with the same songs, in the same order, as another playlist.
    - `merged_blanks`: number of playlists merged from rows whose playlist names differ only in
      white space.
    - `merged_files`: number of playlists merged from rows of several files.
    """

    rows: int
    used: int
    rejected: dict[str, int]
    unreadable: int
    songs: int
    artists: int
    playlists: int
    short_playlists: int
    short_rows: int
    plays: int
    repeats: int
    track_ids: bool
    same_names: int
    same_songs: int
    merged_blanks: int
    merged_files: int


@dataclass(frozen=True, kw_only=True)
class PrepareSummary(PrepareCounts):
    """Result of the `prepare` stage.

    - `text`: a one-line summary for display.
    - `versions`: songs with several versions, such as remasters.
    - `credits`: credits with several artists that were split.
    - `sessions`: whether the rows of some files were cut into sessions (see `cut_sessions`).
    - `units`: for each unit of time except seconds, the names of the files that use it.
    - `order`: the measurement of whether playlists are in play order.
    """

    text: str
    versions: Versions
    credits: Credits
    sessions: bool
    units: dict[str, list[str]]
    order: Order


def prepare(
    rows: Path, unreadable: Path, folder: Path, options: PrepareOptions, reporter: Reporter
) -> PrepareSummary:
    """Make songs, playlists and rejects from the results of the `read` stage.

    `rows` and `unreadable` are the paths of the Parquet files from that stage. Writes four files to
    `folder`:

    - `songs.parquet`: song (the song number), song_id, artist, title, artist_key, title_key,
      artist_keys (list of the whole credit and its single artists; empty if there is no artist),
      and the payload fields.
    - `playlists.parquet`: playlist_id, name, owner, and songs (list of song numbers, in play order,
      without repeated songs).
    - `short_playlists.parquet`: playlists with fewer than `min_songs` songs, with the same columns.
    - `rejects.parquet`: file, line, reason and text.

    Raises `PlaylistError` if no playlist has `min_songs` songs or more.
    """
    extras = "".join(f', "{PREFIX}{name}"' for name in options.fields)
    with reporter.task("prepare") as task, connect(folder) as sql:
        load_rows(sql, rows, options.without_artist, extras)
        units = cut_sessions(sql, options.session_files, 60.0 * options.session_gap)
        sql.execute(_NUMBERS)
        task.advance(4, 10)
        versions = identify_songs(sql, _NAMES, merge=options.merge_versions)
        task.advance(6, 10)
        sql.execute(_SONGS)
        sql.execute(_SONG_OF)
        split = split_credits(sql)
        write_query(
            sql, _REJECTS.format(unreadable=literal(unreadable)), folder / "rejects.parquet"
        )
        positions = sql.sql("SELECT count(position) FROM numbered").fetchall()[0][0]
        rank = _BY_POSITION if positions else _BY_FILE
        sql.execute(_USED.format(rank=rank, extras=extras))
        task.advance(7, 10)
        sql.register("playlists", _collect_playlists(sql))
        by_id = "SELECT * EXCLUDE (number) FROM playlists WHERE len(songs) {} {}"
        write_query(sql, by_id.format(">=", options.min_songs), folder / "playlists.parquet")
        write_query(sql, by_id.format("<", options.min_songs), folder / "short_playlists.parquet")
        write_query(sql, _describe_songs(sql, options.fields), folder / "songs.parquet")
        counts = _count(sql, folder / "rejects.parquet", options.min_songs)
        task.advance(9, 10)
        summary = PrepareSummary(
            **vars(counts),
            text=_describe(counts, options.min_songs),
            versions=versions,
            credits=split,
            sessions=bool(options.session_files),
            units=units,
            order=measure_order(folder / "playlists.parquet", folder / "songs.parquet"),
        )
        task.result(summary.text)
    return summary


def load_rows(
    sql: duckdb.DuckDBPyConnection, rows: Path, without_artist: Sequence[str], extras: str
) -> None:
    """Create the SQL tables `files`, `spellings`, `lists` and `numbered` from the file of rows.

    - `rows`: path of the Parquet file from the `read` stage.
    - `without_artist`: files in which rows without an artist are accepted.
    - `extras`: further columns for `numbered`, as SQL that starts with a comma.
    """
    sql.execute(_TRIM_MACRO)
    for statement in (_FILES, _SPELLINGS, _LISTS, _ROWS):
        sql.execute(
            statement.format(
                rows=literal(rows),
                extras=extras,
                without_artist=", ".join(map(literal, without_artist)) or "''",
                separator=CREDIT_SEPARATOR,
            )
        )


def _collect_playlists(sql: duckdb.DuckDBPyConnection) -> pa.Table:
    """Return a table of all playlists, sorted by id: number, playlist_id, name, owner, songs."""
    plays = sql.sql(_PLAYS).to_arrow_table()
    listed = sql.sql(_PLAYLIST_NAMES).to_arrow_table()
    number, songs = plays["number"].to_numpy(), plays["song"].combine_chunks()
    starts = np.append(np.flatnonzero(np.diff(number, prepend=-1)), len(number))
    lists = pa.ListArray.from_arrays(starts.astype(np.int32), songs)
    return listed.append_column("songs", lists)


def _describe_songs(sql: duckdb.DuckDBPyConnection, fields: Sequence[str]) -> str:
    """Return an SQL query for songs with their `artist_keys` and payload fields."""
    columns, joins = "", ""
    for number, name in enumerate(fields):
        table = f"values_{number}"
        sql.execute(COMMON_VALUES.format(table=table, column=f'"{PREFIX}{name}"'))
        columns += f', {table}.value AS "{name}"'
        joins += f" LEFT JOIN {table} USING (song)"
    keys = "CASE WHEN artist_key = '' THEN [] ELSE coalesce(artist_keys, [artist_key]) END"
    return (
        f"SELECT songs.*, {keys} AS artist_keys{columns} "
        f"FROM songs LEFT JOIN credits USING (artist_key){joins} ORDER BY song"
    )


def write_query(sql: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write the result of an SQL query to a Parquet file."""
    sql.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")


def _count(sql: duckdb.DuckDBPyConnection, rejects: Path, min_songs: int) -> PrepareCounts:
    """Return the counts from the stage. Raises `PlaylistError` if no playlist is kept."""
    values = {"min_songs": min_songs}
    counts = sql.sql(_COUNTS, params=values).fetchall()[0]
    rows, used, songs, artists, playlists, kept, plays, different, tracks, short_rows = counts
    reasons = count_rejects(sql, rejects)
    rejected = sum(reasons.values())
    if not kept:
        raise PlaylistError(
            f"no playlist has {min_songs} songs or more: {rows:,} rows gave {playlists:,} shorter "
            f"playlists and {rejected:,} rejected rows; check that the playlist column is the "
            f"right one (--column playlist_id=NAME), or lower --min-songs"
        )
    same_names, same_songs, blanks, files = sql.sql(_NOTES, params=values).fetchall()[0]
    return PrepareCounts(
        rows=rows,
        used=used,
        rejected=reasons,
        unreadable=rejected - (rows - used),
        songs=songs,
        artists=artists,
        playlists=kept,
        short_playlists=playlists - kept,
        short_rows=short_rows,
        plays=plays,
        repeats=used - different,
        track_ids=tracks > 0,
        same_names=same_names,
        same_songs=same_songs,
        merged_blanks=blanks,
        merged_files=files,
    )


def count_rejects(sql: duckdb.DuckDBPyConnection, rejects: Path) -> dict[str, int]:
    """Return the number of rejected rows in a file of rejects by reason, most frequent first."""
    return dict(
        sql.sql(
            f"SELECT split_part(reason, ':', 1) AS kind, count(*) AS n "
            f"FROM read_parquet({literal(rejects)}) GROUP BY kind ORDER BY n DESC, kind"
        ).fetchall()
    )


def describe_rejects(rejected: Mapping[str, int]) -> str:
    """Return the numbers of rejected rows by reason as text."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.items())
    return f"{sum(rejected.values()):,} rows rejected ({reasons})"


def _describe(counts: PrepareCounts, min_songs: int) -> str:
    text = f"{counts.playlists:,} playlists, {counts.songs:,} songs"
    if counts.artists:
        text += f" of {counts.artists:,} artists"
    if counts.rejected:
        text += f"; {describe_rejects(counts.rejected)}"
    if counts.short_playlists:
        text += (
            f"; {counts.short_playlists:,} playlists shorter than {min_songs} songs dropped, with "
            f"{counts.short_rows:,} rows"
        )
    return text
