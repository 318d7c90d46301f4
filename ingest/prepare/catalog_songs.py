"""The `catalog` stage: adds the songs of catalog files to the songs of the playlists.

Catalog files list songs, whether or not a playlist contains them. Songs keep the numbers that the
`prepare` stage gave them, and new songs get higher numbers. The results of learning from playlists
therefore stay valid if a catalog file changes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import MismatchError
from ingest.prepare.credits import split_credits
from ingest.prepare.identity import identify_songs
from ingest.prepare.playlists import (
    COMMON_VALUES,
    count_rejects,
    describe_rejects,
    load_rows,
    write_query,
)
from ingest.sources.account import ReadAccount  # noqa: TC001 -- pydantic reads the annotations
from ingest.sources.values.payload import PREFIX
from ingest.sql import connect, literal
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import duckdb

    from catalog.console.progress import Reporter

STAGE = "catalog"

_KNOWN = """
CREATE TEMP VIEW known AS
SELECT song, song_id, artist, title, artist_key, title_key, artist_keys {fields}
FROM read_parquet({songs})
"""

_NAMES = """
SELECT artist, title, track, bool_and(needs_artist) AS needs_artist, sum(rows)::BIGINT AS plays
FROM spellings JOIN (SELECT spelling, count(*) AS rows FROM numbered GROUP BY spelling)
    USING (spelling)
GROUP BY artist, title, track
"""

# The songs of playlists that each spelling in the catalog files names. A row with a track id names
# the song with this id. A row without a track id names all songs with the same artist and title. If
# versions are merged, all rows are matched by artist and title as well, because a merged song has
# the id of only one of its versions.
_LINKS = """
CREATE TEMP TABLE links AS
SELECT names.artist, names.title, track, song FROM names JOIN known USING (song_id)
UNION
SELECT names.artist, names.title, track, song FROM names JOIN known USING (artist_key, title_key)
WHERE names.song_id IS NOT NULL AND (track = '' OR {merge})
"""

# The spelling with the most rows is kept for display, as for the songs of playlists.
_NEW = """
CREATE TEMP TABLE new_songs AS
WITH spelled AS (
    SELECT song_id, artist, title, artist_key, title_key
    FROM names ANTI JOIN links USING (artist, title, track) WHERE song_id IS NOT NULL
    QUALIFY row_number() OVER (
        PARTITION BY song_id ORDER BY plain DESC, title <> track DESC, plays DESC, artist, title,
                                      track) = 1
)
SELECT ((SELECT coalesce(max(song), -1) FROM known)
        + row_number() OVER (ORDER BY song_id))::INTEGER AS song, *
FROM spelled;
INSERT INTO links
SELECT names.artist, names.title, track, song FROM names JOIN new_songs USING (song_id);
CREATE TEMP VIEW songs AS
SELECT song, song_id, artist, title, artist_key, title_key FROM known
UNION ALL SELECT song, song_id, artist, title, artist_key, title_key FROM new_songs
"""

_USED = """
CREATE TEMP TABLE used AS
SELECT spelling, song {extras}
FROM numbered JOIN spellings USING (spelling) JOIN links USING (artist, title, track)
"""

_REJECTS = """
SELECT file, line, reason, text FROM read_parquet({unreadable})
UNION ALL
SELECT file, row_key - base AS line,
       CASE WHEN artist_key = '' AND names.needs_artist THEN 'no artist' ELSE 'no title' END
           AS reason,
       concat_ws(' | ', artist, title, raw_track) AS text
FROM numbered JOIN spellings USING (spelling) JOIN names USING (artist, title, track)
JOIN files ON row_key & ~((1::BIGINT << 40) - 1) = base
WHERE song_id IS NULL
ORDER BY file, line
"""

_ALL_SONGS = """
SELECT song, song_id, artist, title, artist_key, title_key, artist_keys {fields}
FROM (
    SELECT * FROM known
    UNION ALL BY NAME
    SELECT new_songs.*, coalesce(
        of_known.artist_keys, credits.artist_keys,
        CASE WHEN artist_key = '' THEN [] ELSE [artist_key] END) AS artist_keys
    FROM new_songs
    LEFT JOIN (SELECT artist_key, any_value(artist_keys) AS artist_keys FROM known GROUP BY ALL)
        of_known USING (artist_key)
    LEFT JOIN credits USING (artist_key)
) {joins}
LEFT JOIN (SELECT DISTINCT song, true AS is_listed FROM links) USING (song)
ORDER BY song
"""

_COUNTS = """
SELECT (SELECT count(*) FROM numbered SEMI JOIN used USING (spelling)),
       (SELECT count(DISTINCT song) FROM links),
       (SELECT count(*) FROM new_songs),
       (SELECT count(*) FROM known JOIN read_parquet({songs}) described USING (song)
        WHERE {is_filled})
"""


@dataclass(frozen=True, kw_only=True)
class CatalogSummary:
    """Result of the `catalog` stage.

    - `text`: a one-line summary for display.
    - `read`: the result of reading the catalog files.
    - `used`: number of rows that name a song.
    - `rejected`: number of rejected rows by reason, including rows that could not be read.
    - `songs`: number of different songs in the catalog files.
    - `new`: number of these songs that no playlist file contains.
    - `described`: number of songs of playlists that got payload values from catalog files.
    """

    text: str
    read: ReadAccount
    used: int
    rejected: dict[str, int]
    songs: int
    new: int
    described: int

    @property
    def rows(self) -> int:
        """The number of rows that could be read."""
        return self.read.rows

    @property
    def unreadable(self) -> int:
        """The number of rejected rows that could not be read."""
        return self.read.unreadable


@dataclass(frozen=True)
class CatalogOptions:
    """Options for adding the songs of catalog files.

    - `merge_versions`: whether all versions of a song, such as remasters, count as one song.
    - `track_ids`: whether songs of playlists are identified by track ids. If not, track ids in
      catalog files are ignored.
    - `fields`: names of the payload fields that the songs of playlists have.
    """

    merge_versions: bool
    track_ids: bool
    fields: Sequence[str]


def add_catalog_songs(
    songs: Path, folder: Path, read: ReadAccount, options: CatalogOptions, reporter: Reporter
) -> CatalogSummary:
    """Write the songs of playlists and of catalog files to `folder`.

    `songs` is the file of songs from the `prepare` stage. `folder` contains the rows of the catalog
    files (`rows.parquet`, `unreadable.parquet`), which `read` describes. Writes two files:

    - `songs.parquet`: the songs with the columns of `songs`, the payload fields of catalog files,
      and `listed`, which says whether a catalog file contains the song.
    - `rejects.parquet`: file, line, reason and text of rejected rows.

    A song of a playlist gets only those payload values from catalog files that it lacks.
    """
    own = list(read.payload)
    extras = "".join(f', "{PREFIX}{name}"' for name in own)
    without_artist = [note.file for note in read.notes if not note.needs_artist]
    with reporter.task(STAGE) as task, connect(folder) as sql:
        load_rows(sql, folder / "rows.parquet", without_artist, extras)
        if not options.track_ids:
            sql.execute("UPDATE spellings SET track = ''")
        fields = "".join(f', "{name}"' for name in options.fields)
        sql.execute(_KNOWN.format(songs=literal(songs), fields=fields))
        identify_songs(sql, _NAMES, merge=options.merge_versions)
        sql.execute(_LINKS.format(merge="true" if options.merge_versions else "false"))
        sql.execute(_NEW)
        split_credits(sql)
        sql.execute(_USED.format(extras=extras))
        task.advance(5, 10)
        rejects = _REJECTS.format(unreadable=literal(folder / "unreadable.parquet"))
        write_query(sql, rejects, folder / "rejects.parquet")
        write_query(sql, _describe_all_songs(sql, own, options.fields), folder / "songs.parquet")
        summary = _count(sql, folder, read, options.fields)
        task.result(summary.text)
    return summary


def _describe_all_songs(
    sql: duckdb.DuckDBPyConnection, own: Sequence[str], known: Sequence[str]
) -> str:
    """Return an SQL query for all songs.

    `own` are the payload fields in the catalog files, and `known` those in the playlist files.
    """
    columns = {name: f'"{name}"' for name in known}
    joins = ""
    for number, name in enumerate(own):
        table = f"values_{number}"
        sql.execute(COMMON_VALUES.format(table=table, column=f'"{PREFIX}{name}"'))
        joins += f" LEFT JOIN {table} USING (song)"
        value = f"{table}.value"
        columns[name] = f'coalesce("{name}", {value})' if name in known else value
    fields = "".join(f', {value} AS "{name}"' for name, value in columns.items())
    return _ALL_SONGS.format(fields=f"{fields}, coalesce(is_listed, false) AS listed", joins=joins)


def _count(
    sql: duckdb.DuckDBPyConnection, folder: Path, read: ReadAccount, known: Sequence[str]
) -> CatalogSummary:
    filled = [
        f'described."{name}" IS NOT NULL' + f' AND known."{name}" IS NULL' * (name in known)
        for name in read.payload
    ]
    query = _COUNTS.format(
        songs=literal(folder / "songs.parquet"), is_filled=" OR ".join(filled) or "false"
    )
    used, songs, new, described = sql.sql(query).fetchall()[0]
    rejected = count_rejects(sql, folder / "rejects.parquet")
    text = f"{songs:,} songs, {new:,} of them in no playlist file"
    if described:
        text += f"; {described:,} songs of playlists got payload values"
    if rejected:
        text += f"; {describe_rejects(rejected)}"
    return CatalogSummary(
        text=text,
        read=read,
        used=used,
        rejected=rejected,
        songs=songs,
        new=new,
        described=described,
    )


def find_songs(work: Path) -> Path:
    """Return the path of the songs of the last run in a work folder.

    The file is from the `catalog` stage if the run had catalog files, else from `prepare`. Raises
    `MismatchError` if the run did not finish `prepare`.
    """
    prepared = finished_stage(work, "prepare")
    stage = prepared
    with suppress(MismatchError):
        stage = finished_stage(work, STAGE)
    is_current = stage.inputs.get("prepare") == prepared.fingerprint
    return (stage if is_current else prepared).folder / "songs.parquet"
