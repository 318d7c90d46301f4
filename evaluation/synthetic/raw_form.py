"""Synthetic playlists in the format of the #nowplaying dataset, including its malformed rows.

Every field is in quotes, but quotes inside a field are neither doubled nor escaped. The header has
a space after each comma. Playlists are sorted by title in code point order. Some rows have no
artist, and some playlist names end in a space. There is no playlist id: user and name identify a
playlist. The shares of malformed rows were measured on the first 10,000 rows of the real dataset,
and the share of missing artists on the whole dataset.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.files import replace_file
from evaluation.synthetic.playlists import Shape, chunks, generate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from evaluation.synthetic.playlists import Playlists

HEADER = b'"user_id", "artistname", "trackname", "playlistname"\n'
NO_ARTIST = 0.0026  # share of rows without an artist
TRAILING_SPACE = 0.03  # share of playlist names that end in a space
LONE_QUOTE = 0.001  # share of playlist names that begin with an unclosed quote

# Shares of rows with a quote, or a comma, in the title, in the artist and in the playlist name.
INNER_QUOTES = (0.0015, 0.0006, 0.0005)
INNER_COMMAS = (0.012, 0.010, 0.005)

_ROWS_PER_PLAYLIST = 64  # expected number of songs of a playlist
_SONGS_PER_PLAYLIST = 15  # number of different songs to choose from, per playlist
_ROWS_PER_CHUNK = 1 << 18  # rows that are written at a time


def write_raw(path: Path, rows: int, seed: int) -> int:
    """Write `rows` synthetic rows to `path`, and return the number of playlists.

    The same `rows` and `seed` give the same file. A file of 12.9 million rows, the size of the real
    dataset, has 2.3 million different songs, of which 0.9 million occur 5 times or more. The file
    is created or replaced only when all rows are written. Raises `InputError` and `StorageError`.
    """
    playlists = _generate_rows(rows, seed)
    rng = np.random.default_rng([seed, rows])
    plays = np.bincount(playlists.songs, minlength=len(playlists.title))
    lengths = np.diff(playlists.offsets)
    artist_plays = np.bincount(playlists.artist, plays, len(playlists.artist_name))
    titles = _reduce_marks(playlists.title, plays, 0, rng)
    artists = _reduce_marks(playlists.artist_name, artist_plays, 1, rng)
    names = _reduce_marks(playlists.playlist_name, lengths, 2, rng)
    spaced = pa.array(rng.random(len(names)) < TRAILING_SPACE)
    lone = pa.array(rng.random(len(names)) < LONE_QUOTE)
    unquoted = pc.replace_substring(names, pattern='"', replacement="'")
    names = pc.if_else(lone, pc.binary_join_element_wise('"/', unquoted, " "), names)
    names = pc.if_else(spaced, pc.binary_join_element_wise(names, "", " "), names)
    users = pa.array(
        [hashlib.md5(user.encode()).hexdigest() for user in playlists.user_id.to_pylist()]  # noqa: S324
    )
    title_rank = np.empty(len(titles), np.int64)
    title_rank[pc.array_sort_indices(titles.cast(pa.binary())).to_numpy()] = np.arange(len(titles))
    with replace_file(path) as file:
        file.write(HEADER)
        for start, stop in chunks(playlists.offsets, _ROWS_PER_CHUNK):
            songs = playlists.songs[playlists.offsets[start] : playlists.offsets[stop]]
            playlist = np.repeat(np.arange(start, stop), lengths[start:stop])
            songs = songs[np.lexsort((title_rank[songs], playlist))]
            artist = artists.take(pa.array(playlists.artist[songs]))
            has_no_artist = pa.array(rng.random(len(songs)) < NO_ARTIST)
            lines = _join_fields(
                users.take(pa.array(playlists.owner[playlist])),
                pc.if_else(has_no_artist, "", artist),
                titles.take(pa.array(songs)),
                names.take(pa.array(playlist)),
            )
            file.write(lines)
    return len(lengths)


def _generate_rows(rows: int, seed: int) -> Playlists:
    """Generate playlists with the structure of the real dataset and exactly `rows` rows."""
    count = max(20, rows // _ROWS_PER_PLAYLIST)
    while True:
        shape = Shape(
            playlists=count,
            songs=count * _SONGS_PER_PLAYLIST,
            genres=min(60, 1 + count // 50),
            mean_length=79.0,
            longest=20_000,
            collections=5e-5,
        )
        playlists = generate(shape, seed)
        if len(playlists.songs) >= rows:
            break
        count += count // 4
    complete = int(np.searchsorted(playlists.offsets, rows))
    return replace(
        playlists,
        offsets=np.append(playlists.offsets[:complete], rows),
        songs=playlists.songs[:rows],
        owner=playlists.owner[:complete],
        genre=playlists.genre[:complete],
        playlist_name=playlists.playlist_name[:complete],
    )


def _reduce_marks(names: Any, plays: NDArray[Any], field: int, rng: np.random.Generator) -> Any:
    """Replace quotes and commas in most names with other characters.

    Afterwards, about the share `INNER_QUOTES[field]` of the rows has a name with quotes, and the
    share `INNER_COMMAS[field]` a name with a comma. `plays`, shape (names,), is the number of rows
    with each name.
    """
    for mark, other, shares in ((", ", " - ", INNER_COMMAS), ('"', "'", INNER_QUOTES)):
        has_mark = pc.match_substring(names, pattern=mark)
        share = plays[has_mark.to_numpy(zero_copy_only=False)].sum() / plays.sum()
        kept_share = shares[field] / share if share else 1.0
        changed = pc.and_(has_mark, pa.array(rng.random(len(names)) >= kept_share))
        names = pc.if_else(
            changed, pc.replace_substring(names, pattern=mark, replacement=other), names
        )
    return names


def _join_fields(users: Any, artists: Any, titles: Any, names: Any) -> pa.Buffer:
    lines = pc.binary_join_element_wise(users, artists, titles, names, '","')
    lines = pc.binary_join_element_wise('"', lines, '"\n', "")
    _, offsets, text = lines.buffers()
    return text[: int(np.frombuffer(offsets, np.int32)[len(lines)])]
