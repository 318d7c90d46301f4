"""Artist credits with several artists, such as "A feat. B", split into single artists.

The ids of songs do not depend on the split, because they are derived from whole credits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from catalog.song import normalise
from ingest.sources.tables import CREDIT_SEPARATOR

if TYPE_CHECKING:
    import duckdb

_MAX_EXAMPLES = 3

# Credits that are lists of artists in the file, with one list per artist_key.
_LISTS = """
SELECT names.artist_key, min(raw_artist) AS credit
FROM spellings JOIN names USING (artist, title, track)
WHERE contains(raw_artist, '{separator}') AND names.artist_key <> ''
GROUP BY names.artist_key ORDER BY names.artist_key
"""

# All other credits that seem to have several artists, split at words such as "feat.".
_PIECES = r"""
CREATE TEMP TABLE pieces AS
SELECT artist_key, unnest(pieces) AS piece, generate_subscripts(pieces, 1) AS piece_number
FROM (
    SELECT artist_key,
           regexp_split_to_array(artist_key, ' [(\[]*(?:feat\.?|ft\.?|featuring) ') AS pieces
    FROM (SELECT DISTINCT artist_key FROM songs)
    WHERE regexp_matches(artist_key, '[,;&]| [(\[]*(?:feat\.?|ft\.?|featuring) ')
      AND artist_key NOT IN (SELECT artist_key FROM listed_credits)
);
UPDATE pieces SET piece = trim(rtrim(piece, ')] ')) WHERE piece NOT SIMILAR TO '.*[(\[].*'
"""

# A piece of a credit is split at commas, semicolons or ampersands if each part is also the whole
# credit of a song, or a name in a list. If there are several ways to split, splitting at one kind
# of separator is preferred to splitting at all three kinds.
_PARTS = r"""
CREATE TEMP TABLE parts AS
WITH known AS (
    SELECT DISTINCT artist_key AS name FROM songs UNION SELECT DISTINCT name FROM listed_credits
), ways AS (
    SELECT DISTINCT piece, way, regexp_split_to_array(piece, separator) AS names
    FROM pieces, (VALUES (1, ' *; *'), (2, ' & '), (3, ' *, *'), (4, ' *[;,] *| & '))
        AS separators (way, separator)
    WHERE regexp_matches(piece, separator)
), chosen AS (
    SELECT piece, min(way) AS way FROM (
        SELECT piece, way
        FROM (SELECT piece, way, unnest(names) AS name FROM ways) LEFT JOIN known USING (name)
        GROUP BY piece, way HAVING bool_and(known.name IS NOT NULL AND name <> '')
    ) GROUP BY piece
)
SELECT artist_key, 1000 * piece_number + part_number AS number, name
FROM (
    SELECT artist_key, piece_number, unnest(names) AS name,
           generate_subscripts(names, 1) AS part_number
    FROM (
        SELECT artist_key, piece_number, coalesce(names, [piece]) AS names
        FROM pieces LEFT JOIN chosen USING (piece) LEFT JOIN ways USING (piece, way)
    )
)
UNION ALL SELECT artist_key, number, name FROM listed_credits
"""

# The key of the whole credit comes first in artist_keys.
_CREDITS = """
CREATE TEMP TABLE credits AS
SELECT artist_key, list_prepend(artist_key, list(name ORDER BY number)) AS artist_keys
FROM (
    SELECT artist_key, name, min(number) AS number FROM parts
    WHERE name <> '' AND name <> artist_key GROUP BY artist_key, name
) GROUP BY artist_key
"""

_COUNTS = """
SELECT count(DISTINCT artist_key), count(*) FROM songs SEMI JOIN credits USING (artist_key)
"""

_EXAMPLES = """
SELECT first(artist ORDER BY song), artist_keys[2:]
FROM songs JOIN credits USING (artist_key)
GROUP BY artist_key, artist_keys ORDER BY count(*) DESC, artist_key LIMIT {limit}
"""


@dataclass(frozen=True)
class CreditExample:
    """A credit that was split, and the normalised names of the artists."""

    credit: str
    artists: list[str]


@dataclass(frozen=True)
class Credits:
    """Credits that were split: number of credits, number of songs that have them, and examples."""

    credits: int
    songs: int
    examples: list[CreditExample]


def split_credits(sql: duckdb.DuckDBPyConnection) -> Credits:
    """Create the SQL table `credits`, with one row for each credit that was split.

    The columns are artist_key, which is the whole credit, and artist_keys, a list of the whole
    credit and its single artists. Reads the SQL tables `songs`, `names` and `spellings`. Credits
    that are lists in the file, or contain "feat.", "ft." or "featuring", are always split.
    """
    lists = sql.sql(_LISTS.format(separator=CREDIT_SEPARATOR)).to_arrow_table()
    sql.register("listed_credits", _normalise_lists(lists))
    for statement in (_PIECES, _PARTS, _CREDITS):
        sql.execute(statement)
    count, songs = sql.sql(_COUNTS).fetchall()[0]
    examples = sql.sql(_EXAMPLES.format(limit=_MAX_EXAMPLES)).fetchall()
    return Credits(count, songs, [CreditExample(*example) for example in examples])


def _normalise_lists(lists: pa.Table) -> pa.Table:
    """Return a table of the names in lists of artists: artist_key, number and normalised name."""
    split = pc.split_pattern(lists["credit"].combine_chunks(), CREDIT_SEPARATOR)
    coded = split.flatten().dictionary_encode()
    names = pa.array([normalise(name) for name in coded.dictionary.to_pylist()], pa.string())
    parents = pc.list_parent_indices(split)
    return pa.table(
        {
            "artist_key": lists["artist_key"].combine_chunks().take(parents),
            "number": pa.array(range(len(parents)), pa.int64()),
            "name": names.take(coded.indices),
        }
    )
