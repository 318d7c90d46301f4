"""Synthetic playlists of any size with the structure of real playlists, generated from a seed.

Each song is an interval on the line from 0 to 1. The length of the interval is the song's
popularity, so a random point on the line selects songs in proportion to their popularity. The
intervals of an album are adjacent and in track order. The intervals of an artist are also adjacent,
as are the intervals of a genre.

A playlist is a random walk on the line. Each step goes to a point near the previous point, to a
point near a favourite point of the owner, to the same artist, to a random point of the genre or of
the whole line, or to the next track of the album. Each step is computed for all playlists at once:
one binary search finds the songs at their points.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from catalog.errors import InputError
from catalog.files import replace_file
from evaluation.synthetic import names as invented_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Int32 = NDArray[np.int32]
    Int64 = NDArray[np.int64]
    Float64 = NDArray[np.float64]

COLUMNS = ("playlist_id", "playlist_name", "user_id", "position", "artist", "title", "album")
_ROWS_PER_CHUNK = 1 << 18  # rows that are written at a time
_MAX_FAVOURITES = 3  # maximum number of favourite points of an owner
_COLLECTION_LENGTH = 6_000  # median number of songs in a collection (see `Shape.collections`)
_SURPLUS = 1.5  # songs to draw per song of a playlist, because repeated songs are removed
_DRAWS_PER_CHUNK = 1 << 20  # drawn songs that are checked for repeats at a time
# Minimum and maximum of each field of `Shape`; 0 and 1 for fields that are not listed.
_BOUNDS = {
    "playlists": (1, 1 << 30),
    "songs": (1, 1 << 26),
    "neighbours": (0, 1 << 20),
    **dict.fromkeys(("genres", "longest", "mean_length"), (1, 1 << 16)),
    **dict.fromkeys(("songs_per_artist", "playlists_per_owner"), (1, 1 << 20)),
    **dict.fromkeys(("spread_of_length", "artist_skew", "song_skew"), (0, 3)),
}


@dataclass(frozen=True)
class Shape:
    """The size and structure of the playlists. The module docstring explains the random walk.

    `near`, `favourite`, `same_artist` and `in_genre` are shares of the steps that do not follow an
    album. All remaining steps go to a random song of any genre. Raises `InputError` for impossible
    values.
    """

    playlists: int = 8_000
    songs: int = 28_000  # songs to choose from; some are in no playlist
    genres: int = 12
    songs_per_artist: float = 8.0
    playlists_per_owner: float = 3.0
    mean_length: float = 32.0  # songs; about 10% fewer if walks find too few new songs
    spread_of_length: float = 1.05  # standard deviation of the logarithm of the length
    longest: int = 3_000  # maximum number of songs in a playlist
    artist_skew: float = 0.62  # exponent of the power law of artist popularity by rank
    song_skew: float = 1.5  # standard deviation of log popularity, for albums and songs
    neighbours: float = 2.0  # length of a near step, relative to the mean interval of an artist
    near: float = 0.1  # share of steps to a point near the previous point
    favourite: float = 0.62  # share of steps to a point near a favourite point of the owner
    same_artist: float = 0.08  # share of steps to the same artist
    in_genre: float = 0.12  # share of steps to a random point of the genre
    album_run: float = 0.03  # probability that a step goes to the first track of an album
    album_stay: float = 0.92  # probability that an album continues with its next track
    repeats: float = 0.03  # share of repeats of a song in a playlist that are kept
    collections: float = 0.0  # share of playlists that are collections of thousands of songs

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, (low, high) = getattr(self, field.name), _BOUNDS.get(field.name, (0, 1))
            if type(value) not in ((int,) if field.type == "int" else (int, float)):
                raise InputError(f"{field.name}: {value!r} is not of type {field.type}")
            if not low <= value <= high:
                raise InputError(f"{field.name}: {value} is not between {low} and {high}")
        if self.genres > self.songs:
            raise InputError(
                f"genres: {self.genres} is more than the number of songs ({self.songs})"
            )
        if self.near + self.favourite + self.same_artist + self.in_genre > 1 + 1e-9:
            raise InputError("near, favourite, same_artist and in_genre: their sum is more than 1")


@dataclass(frozen=True)
class Playlists:
    """Synthetic playlists: p playlists, n plays, o owners, s songs, a artists, b albums, g genres.

    A play is an occurrence of a song in a playlist. The songs of playlist i are
    `songs[offsets[i]:offsets[i + 1]]`, in play order. Songs are numbered by genre, artist, album
    and track. Names are Arrow string arrays. The names of owners, artists and genres are unique.
    The songs of an artist have different titles, as do the albums of an artist, and the playlists
    of an owner have different names. `owner`, `genre`, `artist`, `album` and `artist_genre` are
    numbers from 0.
    """

    offsets: Int64  # shape (p + 1,)
    songs: Int32  # shape (n,)
    owner: Int32  # shape (p,), ascending
    genre: Int32  # shape (p,), the genre of most songs of the playlist
    playlist_name: Any  # shape (p,)
    user_id: Any  # shape (o,)
    artist: Int32  # shape (s,), ascending
    album: Int32  # shape (s,), ascending
    track: Int32  # shape (s,), from 1 in each album
    title: Any  # shape (s,)
    artist_genre: Int32  # shape (a,), ascending
    artist_name: Any  # shape (a,)
    album_title: Any  # shape (b,)
    genre_name: Any  # shape (g,)


def generate(shape: Shape, seed: int) -> Playlists:
    """Generate playlists. The same `shape` and `seed` (0 or more) give the same playlists.

    Memory: about 30 bytes per play during the call, and 4 bytes per play for the result. Raises
    `InputError` if `seed` is negative.
    """
    if seed < 0:
        raise InputError(f"seed: {seed} is less than 0")
    world_rng, names_rng, owners_rng, walk_rng = np.random.default_rng(seed).spawn(4)
    world = _draw_world(shape, world_rng)
    genre_name = invented_names.make_genre_names(shape.genres)
    artist_name = invented_names.make_artist_names(len(world.artist_genre), names_rng)
    ordinal = _number_within_groups(world.artist)
    album_artist = world.artist[world.track == 1]
    owner, favourite, length = _draw_owners(shape, owners_rng)
    genre = np.searchsorted(world.genre_edge[1:-1], favourite, side="right").astype(np.int32)
    offsets, songs = _walk(shape, world, favourite, length, walk_rng)
    offsets, songs = _drop_repeats(shape, offsets, songs, length, walk_rng)
    return Playlists(
        offsets=offsets,
        songs=songs,
        owner=owner,
        genre=genre,
        user_id=invented_names.make_user_ids(int(owner[-1]) + 1),
        playlist_name=invented_names.make_playlist_names(
            genre, owner, _number_within_groups(owner), genre_name
        ),
        artist=world.artist,
        album=world.album,
        track=world.track,
        artist_genre=world.artist_genre,
        title=invented_names.make_song_titles(world.artist, ordinal, artist_name, names_rng),
        artist_name=artist_name,
        album_title=invented_names.make_album_titles(
            album_artist, _number_within_groups(album_artist), names_rng
        ),
        genre_name=genre_name,
    )


@dataclass(frozen=True)
class _World:
    """The songs, artists and genres as intervals of the line from 0 to 1.

    Fields without a comment have the same meaning as in `Playlists`.
    """

    artist: Int32
    album: Int32
    track: Int32
    artist_genre: Int32
    song_end: Float64  # shape (s,), end of the interval of each song; the last is 1
    artist_edge: Float64  # shape (a + 1,), ends of the intervals of the artists, preceded by 0
    genre_edge: Float64  # shape (g + 1,), ends of the intervals of the genres, preceded by 0


def _draw_world(shape: Shape, rng: np.random.Generator) -> _World:
    artists = min(shape.songs, max(shape.genres, round(shape.songs / shape.songs_per_artist)))
    popularity = rng.permutation((np.arange(artists) + 1.0) ** -shape.artist_skew)
    popularity *= rng.lognormal(0, 0.7, artists)
    # Popular artists have more songs: their number grows with the square root of popularity.
    sizes = _divide_at_random(
        shape.songs, np.sqrt(popularity) * rng.lognormal(0, 0.5, artists), rng
    )
    unevenness = rng.permutation((np.arange(shape.genres) + 1.0) ** -0.7)
    genre_sizes = _divide_at_random(artists, unevenness, rng)
    artist_genre = np.repeat(np.arange(shape.genres, dtype=np.int32), genre_sizes)

    artist = np.repeat(np.arange(artists, dtype=np.int32), sizes)
    track = (_number_within_groups(artist) % rng.integers(7, 15, artists)[artist] + 1).astype(
        np.int32
    )
    album = np.cumsum(track == 1, dtype=np.int32) - np.int32(1)

    # Popularity is the product of an album factor and a song factor, because playlists that
    # follow albums make the songs of an album about equally popular.
    weight = rng.lognormal(0, shape.song_skew, int(album[-1]) + 1)[album]
    weight *= rng.lognormal(0, shape.song_skew, shape.songs)
    weight *= (popularity / np.bincount(artist, weight))[artist]
    song_end = np.cumsum(weight)
    song_end /= song_end[-1]
    artist_edge = np.append(0.0, song_end[np.cumsum(sizes) - 1])
    genre_edge = np.append(0.0, artist_edge[np.cumsum(genre_sizes)])
    return _World(artist, album, track, artist_genre, song_end, artist_edge, genre_edge)


def _draw_owners(shape: Shape, rng: np.random.Generator) -> tuple[Int32, Float64, Int64]:
    """Draw the owner of each playlist, a favourite point of the owner, and the number of songs.

    Each of the three arrays has shape (p,).
    """
    owners = max(1, round(shape.playlists / shape.playlists_per_owner))
    owner = np.sort(rng.integers(owners, size=shape.playlists, dtype=np.int32))
    points = rng.random((owners, _MAX_FAVOURITES))
    counts = rng.integers(1, _MAX_FAVOURITES + 1, owners)
    favourite = points[owner, (rng.random(shape.playlists) * counts[owner]).astype(np.int64)]
    spread = shape.spread_of_length
    length = rng.lognormal(math.log(shape.mean_length) - spread**2 / 2, spread, shape.playlists)
    if shape.collections:
        is_collection = rng.random(shape.playlists) < shape.collections
        length[is_collection] = _COLLECTION_LENGTH * rng.lognormal(0, 0.6, int(is_collection.sum()))
    return owner, favourite, np.clip(np.rint(length), 1, shape.longest).astype(np.int64)


def _walk(
    shape: Shape, world: _World, favourite: Float64, length: Int64, rng: np.random.Generator
) -> tuple[Int64, Int32]:
    """Draw the songs of each playlist. Returns `offsets` and `songs` as in `Playlists`.

    Each playlist gets `_SURPLUS` times as many songs as its `length`, because `_drop_repeats`
    removes some of them.
    """
    draws = np.ceil(length * _SURPLUS).astype(np.int64)
    offsets = np.append(np.int64(0), np.cumsum(draws))
    songs = np.empty(int(offsets[-1]), np.int32)

    # Sort playlists by length, the longest first. Then the playlists that need another step are
    # always the first `active` playlists.
    order = np.argsort(-draws, kind="stable")
    descending = -draws[order]
    first_draw, favourite = offsets[order], favourite[order]
    genre = np.searchsorted(world.genre_edge[1:-1], favourite, side="right")
    low, span = world.genre_edge[genre], np.diff(world.genre_edge)[genre]
    # Long playlists take longer steps, because too few songs are near their favourite point.
    reach = shape.neighbours / len(world.artist_genre) * np.sqrt(length[order] / 32)
    width = reach * rng.lognormal(0, 0.7, len(order))
    middle = world.song_end - np.diff(world.song_end, prepend=0.0) / 2
    first_track = np.flatnonzero(world.track == 1)[world.album]
    has_next_track = np.append(np.diff(world.album) == 0, False)
    near_end, favourite_end, artist_end = np.cumsum(
        [shape.near, shape.favourite, shape.same_artist]
    )
    genre_end = artist_end + shape.in_genre

    point, song = favourite.copy(), np.zeros(len(order), np.int64)
    follows_album = np.zeros(len(order), bool)
    for step in range(-int(descending[0])):
        active = int(np.searchsorted(descending, -step))
        point, song, follows_album = point[:active], song[:active], follows_album[:active]
        move, position, stay, begin = rng.random((4, active))
        if step == 0:
            move[:] = -1  # a step to a near point, because there is no previous song
        follows_album = follows_album & has_next_track[song] & (stay < shape.album_stay)
        begins_album = ~follows_album & (begin < shape.album_run)

        genre_low, genre_span = low[:active], span[:active]
        nearby = np.where(move < near_end, point, favourite[:active])
        nearby += rng.laplace(size=active) * width[:active]
        nearby = genre_low + np.mod(nearby - genre_low, genre_span)
        artist = world.artist[song]
        in_artist = world.artist_edge[artist]
        in_artist += (world.artist_edge[artist + 1] - in_artist) * position
        elsewhere = np.where(move < genre_end, genre_low + genre_span * position, position)
        target = np.where(
            move < favourite_end, nearby, np.where(move < artist_end, in_artist, elsewhere)
        )
        drawn = np.searchsorted(world.song_end, target, side="right")
        drawn = np.minimum(drawn, shape.songs - 1)
        song = np.where(follows_album, song + 1, np.where(begins_album, first_track[drawn], drawn))
        follows_album |= begins_album
        # A step to a random song of any genre does not move the point where the walk continues.
        point = np.where(follows_album, middle[song], np.where(move < genre_end, target, point))
        songs[first_draw[:active] + step] = song
    return offsets, songs


def _drop_repeats(
    shape: Shape, offsets: Int64, songs: Int32, length: Int64, rng: np.random.Generator
) -> tuple[Int64, Int32]:
    """Remove most repeats of songs in each playlist, and then cut each playlist to its `length`.

    Returns `offsets` and `songs` as in `Playlists`.
    """
    keep = np.empty(len(songs), bool)
    for start, stop in chunks(offsets, _DRAWS_PER_CHUNK):
        first, last = offsets[start], offsets[stop]
        playlist = np.repeat(np.arange(stop - start), np.diff(offsets[start : stop + 1]))
        key = playlist * shape.songs + songs[first:last]
        order = np.argsort(key, kind="stable")
        repeated = order[1:][np.diff(key[order]) == 0]
        is_kept = np.ones(last - first, bool)
        is_kept[repeated[rng.random(len(repeated)) >= shape.repeats]] = False
        rank = np.cumsum(is_kept)
        before = np.append(0, rank)[offsets[start:stop] - first]
        keep[first:last] = is_kept & (rank - before[playlist] <= length[start:stop][playlist])
    kept = np.add.reduceat(keep, offsets[:-1], dtype=np.int64)
    return np.append(np.int64(0), np.cumsum(kept)), songs[keep]


def write_csv(playlists: Playlists, path: Path) -> int:
    """Write a CSV file with a row for each play; return the number of rows.

    The rows have the columns `COLUMNS` and are in play order. `playlist_id` counts from 0, and
    `position` counts from 1 in each playlist. The file follows RFC 4180, with LF line ends and
    UTF-8. The file is created or replaced only when all rows are written. Memory use does not
    depend on the number of rows. Raises `StorageError`.
    """
    options = pa.csv.WriteOptions(include_header=False, batch_size=1 << 14)
    with replace_file(path) as file:
        file.write(f"{','.join(COLUMNS)}\n".encode())
        for start, stop in chunks(playlists.offsets, _ROWS_PER_CHUNK):
            pa.csv.write_csv(_make_table(playlists, start, stop), file, options)
    return len(playlists.songs)


def _make_table(playlists: Playlists, start: int, stop: int) -> pa.Table:
    offsets = playlists.offsets[start : stop + 1]
    counts = np.diff(offsets)
    songs = pa.array(playlists.songs[offsets[0] : offsets[-1]])
    playlist = pa.array(np.repeat(np.arange(start, stop, dtype=np.int32), counts))
    columns = (
        playlist,
        playlists.playlist_name.take(playlist),
        playlists.user_id.take(pa.array(playlists.owner).take(playlist)),
        pa.array(_number_items(counts) + 1),
        playlists.artist_name.take(pa.array(playlists.artist).take(songs)),
        playlists.title.take(songs),
        playlists.album_title.take(pa.array(playlists.album).take(songs)),
    )
    return pa.table(dict(zip(COLUMNS, columns, strict=True)))


def _number_within_groups(group: Int32) -> Int64:
    """Return the position of each item within its group, from 0. `group` must be sorted."""
    changes = np.flatnonzero(np.diff(group)) + 1
    return _number_items(np.diff(changes, prepend=0, append=len(group)))


def _number_items(counts: Int64) -> Int64:
    """Return the position of each item within its group, from 0, for groups of sizes `counts`."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _divide_at_random(total: int, weight: Float64, rng: np.random.Generator) -> Int64:
    """Divide `total` at random into whole numbers of 1 or more, in proportion to `weight`."""
    return 1 + rng.multinomial(total - len(weight), weight / weight.sum())


def chunks(offsets: Int64, rows: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of playlists as (start, exclusive stop), with about `rows` plays each."""
    edges = np.searchsorted(offsets, np.append(np.arange(0, offsets[-1], rows), offsets[-1]))
    yield from pairwise(np.unique(edges).tolist())
