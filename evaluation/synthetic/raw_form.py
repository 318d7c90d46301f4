"""Invented playlists as a file in the raw form of the #nowplaying playlists, with its quirks.

Every field stands in quotes, quotes inside are neither doubled nor escaped, the header has a space
after each comma, playlists are sorted by title in code point order, some rows have no artist and
some playlist names end in spaces. There is no playlist id: owner and name stand for it. The rates
are those of the first 10,000 rows of the real file; that of empty artists is of the whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.files import replacing
from evaluation.synthetic.playlists import Shape, chunks, generate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from evaluation.synthetic.playlists import Playlists

HEADER = b'"user_id", "artistname", "trackname", "playlistname"\n'
NO_ARTIST = 0.0026
TRAILING_SPACE = 0.03
LONE_QUOTE = 0.001  # of the playlists have a name that begins with a quote that nothing closes
# Shares of the rows that hold such a mark in title, artist and name of the playlist.
INNER_QUOTES = (0.0015, 0.0006, 0.0005)
INNER_COMMAS = (0.012, 0.010, 0.005)

_ROWS_PER_PLAYLIST = 64
_SONGS_PER_PLAYLIST = 15
_ROWS_PER_CHUNK = 1 << 18


def write_raw(path: Path, rows: int, seed: int) -> int:
    """Invent `rows` rows and write them to `path`; returns the number of playlists.

    The same `rows` and `seed` give the same file. Of 12.9 million rows, 2.3 million are different
    songs and 0.9 million of those come 5 times or more. `path` appears, or is replaced, when all is
    written. Raises `InputError` and `StorageError`.
    """
    playlists = _of_rows(rows, seed)
    rng = np.random.default_rng([seed, rows])
    plays = np.bincount(playlists.songs, minlength=len(playlists.title))
    lengths = np.diff(playlists.offsets)
    titles = _thinned(playlists.title, plays, 0, rng)
    artists = _thinned(
        playlists.artist_name,
        np.bincount(playlists.artist, plays, len(playlists.artist_name)),
        1,
        rng,
    )
    names = _thinned(playlists.playlist_name, lengths, 2, rng)
    spaced = pa.array(rng.random(len(names)) < TRAILING_SPACE)
    lone = pa.array(rng.random(len(names)) < LONE_QUOTE)
    unquoted = pc.replace_substring(names, pattern='"', replacement="'")
    names = pc.if_else(lone, pc.binary_join_element_wise('"/', unquoted, " "), names)
    names = pc.if_else(spaced, pc.binary_join_element_wise(names, "", " "), names)
    users = pa.array(
        [hashlib.md5(user.encode()).hexdigest() for user in playlists.user_id.to_pylist()]  # noqa: S324
    )
    by_title = np.empty(len(titles), np.int64)
    by_title[pc.array_sort_indices(titles.cast(pa.binary())).to_numpy()] = np.arange(len(titles))
    with replacing(path) as file:
        file.write(HEADER)
        for start, stop in chunks(playlists.offsets, _ROWS_PER_CHUNK):
            songs = playlists.songs[playlists.offsets[start] : playlists.offsets[stop]]
            playlist = np.repeat(np.arange(start, stop), lengths[start:stop])
            songs = songs[np.lexsort((by_title[songs], playlist))]
            artist = artists.take(pa.array(playlists.artist[songs]))
            nameless = pa.array(rng.random(len(songs)) < NO_ARTIST)
            lines = _lines(
                users.take(pa.array(playlists.owner[playlist])),
                pc.if_else(nameless, "", artist),
                titles.take(pa.array(songs)),
                names.take(pa.array(playlist)),
            )
            file.write(lines)
    return len(lengths)


def _of_rows(rows: int, seed: int) -> Playlists:
    """Playlists with the shape of the real ones, and exactly `rows` plays."""
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
        made = generate(shape, seed)
        if len(made.songs) >= rows:
            break
        count += count // 4
    kept = int(np.searchsorted(made.offsets, rows))
    return replace(
        made,
        offsets=np.append(made.offsets[:kept], rows),
        songs=made.songs[:rows],
        owner=made.owner[:kept],
        genre=made.genre[:kept],
        playlist_name=made.playlist_name[:kept],
    )


def _thinned(names: Any, plays: NDArray[Any], field: int, rng: np.random.Generator) -> Any:
    """Other marks for quotes and commas in most of `names`, so that few rows still hold one."""
    for mark, other, shares in ((", ", " - ", INNER_COMMAS), ('"', "'", INNER_QUOTES)):
        holds = pc.match_substring(names, pattern=mark)
        found = plays[holds.to_numpy(zero_copy_only=False)].sum() / plays.sum()
        keeps = shares[field] / found if found else 1.0
        changed = pc.and_(holds, pa.array(rng.random(len(names)) >= keeps))
        names = pc.if_else(
            changed, pc.replace_substring(names, pattern=mark, replacement=other), names
        )
    return names


def _lines(users: Any, artists: Any, titles: Any, names: Any) -> pa.Buffer:
    lines = pc.binary_join_element_wise(users, artists, titles, names, '","')
    lines = pc.binary_join_element_wise('"', lines, '"\n', "")
    _, offsets, text = lines.buffers()
    return text[: int(np.frombuffer(offsets, np.int32)[len(lines)])]
