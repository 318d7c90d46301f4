"""Song identity: normalised keys and the song id of each spelling, and versions of a song."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from catalog.song import normalise, song_id_of_keys, song_id_of_track
from catalog.versions import HINT, base_title

if TYPE_CHECKING:
    import duckdb

_MAX_EXAMPLES = 3  # maximum number of songs with several versions that are listed as examples
_MAX_TITLES = 4  # maximum number of titles that are listed for such a song

# All versions of a song get the same song id: the id of the track with the most plays if tracks
# have ids, otherwise the id derived from artist and base title.
_MERGE_VERSIONS = """
CREATE TEMP TABLE names AS
SELECT * REPLACE (
    title_key = base_key AS plain,
    base_key AS title_key,
    CASE WHEN song_id IS NULL THEN NULL ELSE coalesce(
        arg_max(song_id, (tracked, song_plays, song_id)) OVER (PARTITION BY artist_key, base_key),
        song_id) END AS song_id)
FROM (
    SELECT *, true AS plain, track <> '' AS tracked,
           sum(plays) OVER (PARTITION BY song_id) AS song_plays
    FROM spelled_names
)
"""

_VERSIONS = """
SELECT first(artist_key ORDER BY plays DESC, title_key), count(*) AS versions,
       list(title_key ORDER BY plays DESC, title_key) AS titles, sum(plays) AS plays
FROM (
    SELECT artist_key, base_key, title_key, sum(plays)::BIGINT AS plays FROM spelled_names
    WHERE song_id IS NOT NULL AND plays > 0 GROUP BY ALL
)
GROUP BY artist_key, base_key HAVING count(*) > 1
"""


@dataclass(frozen=True)
class VersionExample:
    """A song with several versions, as an example: the artist, and the titles of the versions."""

    artist: str
    titles: list[str]


@dataclass(frozen=True)
class Versions:
    """Versions of the same song, such as remasters (see `catalog.versions`).

    - `songs`: number of songs with several versions.
    - `more`: number of versions in addition to the first version of each song.
    - `merged`: whether the versions were merged into one song.
    - `examples`: of the songs with several versions, the few with the most plays.
    """

    songs: int
    more: int
    merged: bool
    examples: list[VersionExample]


def identify_songs(sql: duckdb.DuckDBPyConnection, spellings: str, *, merge: bool) -> Versions:
    """Create the SQL table `names`: one row for each spelling, with normalised keys and song id.

    `spellings` is a query with the columns artist, title, track, needs_artist and plays. The table
    adds artist_key, title_key, song_id and plain. song_id is null if the title is empty, or if the
    artist is empty and needed. If `merge` is set, all versions of a song have the same song_id, and
    `plain` is false for titles that name a version.
    """
    names = _add_keys(sql.sql(spellings).to_arrow_table(), merge=merge)
    sql.register("spelled_names", names)
    if merge:
        sql.execute(_MERGE_VERSIONS)
    else:
        sql.execute("CREATE TEMP VIEW names AS SELECT *, true AS plain FROM spelled_names")
    songs, more = sql.sql(
        f"SELECT count(*), coalesce(sum(versions - 1), 0)::BIGINT FROM ({_VERSIONS})"
    ).fetchall()[0]
    best = sql.sql(f"{_VERSIONS} ORDER BY plays DESC, 1 LIMIT {_MAX_EXAMPLES}").fetchall()
    examples = [VersionExample(artist, titles[:_MAX_TITLES]) for artist, _, titles, _ in best]
    return Versions(songs, more, merge, examples)


def _add_keys(names: pa.Table, *, merge: bool) -> pa.Table:
    """Add the columns artist_key, title_key, base_key and song_id to a table of spellings.

    base_key is title_key without the words that name a version. If `merge` is set, song_id is
    derived from base_key instead of title_key.
    """
    artist_keys = _normalise_column(names["artist"])
    title_keys = _normalise_column(names["title"])
    base_keys = _remove_versions(title_keys)
    identity = base_keys if merge else title_keys
    ids: list[str | None] = []
    for artist_key, title_key, track, needs_artist in zip(
        artist_keys.to_pylist(),
        identity.to_pylist(),
        names["track"].to_pylist(),
        names["needs_artist"].to_pylist(),
        strict=True,
    ):
        if not title_key or (needs_artist and not artist_key):
            ids.append(None)
        elif track:
            ids.append(str(song_id_of_track(track)))
        else:
            ids.append(str(song_id_of_keys(artist_key, title_key)))
    return (
        names.append_column("artist_key", artist_keys)
        .append_column("title_key", title_keys)
        .append_column("base_key", base_keys)
        .append_column("song_id", pa.array(ids, pa.string()))
    )


def _normalise_column(column: pa.ChunkedArray) -> pa.Array:
    encoded = column.combine_chunks().dictionary_encode()
    keys = pa.array([normalise(name) for name in encoded.dictionary.to_pylist()], pa.string())
    return keys.take(encoded.indices)


def _remove_versions(title_keys: pa.Array) -> pa.Array:
    encoded = title_keys.dictionary_encode()
    titles = encoded.dictionary
    hinted = pc.match_substring_regex(titles, HINT)
    shorter = pa.array([base_title(key) for key in titles.filter(hinted).to_pylist()], pa.string())
    bases = pc.replace_with_mask(titles, hinted, shorter) if len(shorter) else titles
    return bases.take(encoded.indices)
