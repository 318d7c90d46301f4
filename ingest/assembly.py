"""The results of the stages -> the songs of a release, as they go into Qdrant."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from catalog.manifest import Counts
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ingest.work import Stage

# The catalog holds every song of a training playlist, also one too rare for a vector: as a seed it
# predicts others. The ordinal is the place by popularity; the id settles ties.
_CATALOG = """
CREATE TEMP TABLE songs_of_release AS
SELECT song, song_id, artist, title, artist_key, artist_key || ' ' || title_key AS search_text,
       playlists, (row_number() OVER (ORDER BY playlists DESC, song_id) - 1)::UINTEGER AS ordinal
FROM read_parquet({songs}) JOIN (
    SELECT song, count(*)::INTEGER AS playlists
    FROM (SELECT unnest(songs) AS song FROM read_parquet({train})) GROUP BY song
) USING (song)
"""

_PREDICTED = """
CREATE TEMP TABLE predicted AS
SELECT pairs.song, list(ordinal ORDER BY ordinal) AS seeds,
       list(strength ORDER BY ordinal) AS strengths
FROM read_parquet({pairs}) pairs JOIN songs_of_release seeds ON pairs.seed = seeds.song
GROUP BY pairs.song
"""

_POINTS = """
SELECT song_id, artist, title, artist_key, ordinal, songs_of_release.playlists, search_text,
       vectors.vector, predicted.seeds, predicted.strengths
FROM songs_of_release
LEFT JOIN read_parquet({vectors}) vectors USING (song)
LEFT JOIN predicted USING (song)
ORDER BY ordinal
"""

_COUNTS = """
SELECT count(*), count(vector), count(seeds), count(DISTINCT artist_key), sum(playlists)::BIGINT
FROM read_parquet({points})
"""


@contextmanager
def assembled(stages: Mapping[str, Stage], work: Path) -> Iterator[tuple[Path, Counts]]:
    """A Parquet file as `catalog.embedded.Draft` wants it, and its counts; gone at the end."""
    path = work / ".points.parquet"
    places = {
        "songs": stages["prepare"].folder / "songs.parquet",
        "train": stages["split"].folder / "train.parquet",
        "pairs": stages["count"].folder / "cooccurrence.parquet",
        "vectors": stages["train"].folder / "vectors.parquet",
        "points": path,
    }
    files = {name: literal(place) for name, place in places.items()}
    try:
        with connect(work) as sql:
            sql.execute(_CATALOG.format(**files))
            sql.execute(_PREDICTED.format(**files))
            sql.execute(f"COPY ({_POINTS.format(**files)}) TO {files['points']} (FORMAT parquet)")
            songs, vectors, predicted, artists, plays = sql.sql(_COUNTS.format(**files)).fetchall()[
                0
            ]
        counts = Counts(
            songs=songs,
            vectors=vectors,
            predicted=predicted,
            artists=artists,
            training_playlists=stages["split"].summary["train"],
            training_plays=plays,
        )
        yield path, counts
    finally:
        path.unlink(missing_ok=True)
