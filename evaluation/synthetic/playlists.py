"""Invented playlists with the structure of real ones, of any size, the same for the same seed.

The world is a line of probability mass. Songs lie on it, as wide as they are popular; those of an
album stand side by side in track order, so do the albums of an artist and the artists of a genre,
like next to like. A playlist is a walk on that line: a step nearby, back to a favourite place of
its owner, somewhere in the genre, to the same artist, or on to the next track of the album. A
uniform draw from any stretch of the line is then a draw by popularity, and one binary search per
step serves all playlists at once.
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
from catalog.files import replacing
from evaluation.synthetic import names as invented_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Int32 = NDArray[np.int32]
    Int64 = NDArray[np.int64]
    Float64 = NDArray[np.float64]

COLUMNS = ("playlist_id", "playlist_name", "user_id", "position", "artist", "title", "album")
_ROWS_PER_CHUNK = 1 << 18
_TASTES = 3
_COLLECTED = 6_000  # songs of a collection, the middle one
_SPARE = 1.5  # songs drawn per song wanted: the surplus makes up for the repeats that go
# The keys that `_without_repeats` sorts hold a playlist of a chunk, a song and a place: 63 bits.
_DRAWS_PER_CHUNK = 1 << 20
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
    """How large the data is, and how it is built. Raises `InputError` if it cannot be.

    Sizes are counts, rates are shares from 0 to 1. `near`, `home`, `same_artist` and `in_genre`
    are the shares of the steps that follow no album; what they leave goes to any song at all.
    """

    playlists: int = 8_000
    songs: int = 28_000  # that exist: those that nobody plays do not show in the data
    genres: int = 12
    songs_per_artist: float = 8.0
    playlists_per_owner: float = 3.0
    mean_length: float = 32.0  # as wanted: a tenth is lost where playlists run out of new songs
    spread_of_length: float = 1.05  # standard deviation of its logarithm
    longest: int = 3_000
    artist_skew: float = 0.62  # exponent of the power law of artists' popularity by rank
    song_skew: float = 1.5  # standard deviation of log popularity: of albums, and of songs in one
    neighbours: float = 2.0  # length of a step in a playlist of 32 songs, in average artists
    near: float = 0.1  # steps on from the last song
    home: float = 0.62  # steps from a favourite place of the owner
    same_artist: float = 0.08
    in_genre: float = 0.12
    album_run: float = 0.03  # how often a step goes to an album's first track and follows it
    album_stay: float = 0.92  # how often a step along an album is followed by another
    repeats: float = 0.03  # the share that stays of the draws of a song that was there before
    collections: float = 0.0  # share of playlists in which somebody keeps everything

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, (low, high) = getattr(self, field.name), _BOUNDS.get(field.name, (0, 1))
            if type(value) not in ((int,) if field.type == "int" else (int, float)):
                raise InputError(f"{field.name}: {value!r} is not of type {field.type}")
            if not low <= value <= high:
                raise InputError(f"{field.name}: {value} is not between {low} and {high}")
        if self.genres > self.songs:
            raise InputError(f"genres: {self.genres} is more than there are songs ({self.songs})")
        if self.near + self.home + self.same_artist + self.in_genre > 1 + 1e-9:
            raise InputError("near, home, same_artist and in_genre: their sum is more than 1")


@dataclass(frozen=True)
class Playlists:
    """p playlists of n plays in all, by o owners; s songs, a artists, b albums, g genres.

    The songs of playlist i are `songs[offsets[i]:offsets[i + 1]]`, in play order. Songs are
    numbered by genre, artist, album and track. Names are Arrow string arrays: those of users,
    artists and genres are all different, and so are those of an artist's songs, an artist's
    albums and an owner's playlists.
    """

    offsets: Int64  # (p + 1,)
    songs: Int32  # (n,)
    owner: Int32  # (p,), ascending
    genre: Int32  # (p,), where most songs of the playlist come from
    playlist_name: Any  # (p,)
    user_id: Any  # (o,)
    artist: Int32  # (s,), ascending
    album: Int32  # (s,), ascending
    track: Int32  # (s,), from 1 in each album
    title: Any  # (s,)
    artist_genre: Int32  # (a,), ascending
    artist_name: Any  # (a,)
    album_title: Any  # (b,)
    genre_name: Any  # (g,)


def generate(shape: Shape, seed: int) -> Playlists:
    """Invent playlists; the same `shape` and `seed` (0 or more) give the same ones.

    The result takes 4 bytes per play, its making about 30. Raises `InputError`.
    """
    if seed < 0:
        raise InputError(f"seed: {seed} is less than 0")
    world_rng, names_rng, owners_rng, walk_rng = np.random.default_rng(seed).spawn(4)
    world = _world(shape, world_rng)
    genre_name = invented_names.genre_names(shape.genres)
    artist_name = invented_names.artist_names(len(world.artist_genre), names_rng)
    ordinal = _ordinals(world.artist)
    album_artist = world.artist[world.track == 1]
    owner, home, length = _owners(shape, owners_rng)
    genre = np.searchsorted(world.genre_edge[1:-1], home, side="right").astype(np.int32)
    offsets, songs = _walk(shape, world, home, length, walk_rng)
    offsets, songs = _without_repeats(shape, offsets, songs, length, walk_rng)
    return Playlists(
        offsets=offsets,
        songs=songs,
        owner=owner,
        genre=genre,
        user_id=invented_names.user_ids(int(owner[-1]) + 1),
        playlist_name=invented_names.playlist_names(genre, owner, _ordinals(owner), genre_name),
        artist=world.artist,
        album=world.album,
        track=world.track,
        artist_genre=world.artist_genre,
        title=invented_names.song_titles(world.artist, ordinal, artist_name, names_rng),
        artist_name=artist_name,
        album_title=invented_names.album_titles(album_artist, _ordinals(album_artist), names_rng),
        genre_name=genre_name,
    )


@dataclass(frozen=True)
class _World:
    artist: Int32
    album: Int32
    track: Int32
    artist_genre: Int32
    song_end: Float64  # (s,): where each song's stretch of the line ends; the line ends at 1
    artist_edge: Float64  # (a + 1,)
    genre_edge: Float64  # (g + 1,)


def _world(shape: Shape, rng: np.random.Generator) -> _World:
    artists = min(shape.songs, max(shape.genres, round(shape.songs / shape.songs_per_artist)))
    popularity = rng.permutation((np.arange(artists) + 1.0) ** -shape.artist_skew)
    popularity *= rng.lognormal(0, 0.7, artists)
    # Artists who are heard more have recorded more, though not in proportion.
    sizes = _shared_out(shape.songs, np.sqrt(popularity) * rng.lognormal(0, 0.5, artists), rng)
    unevenness = rng.permutation((np.arange(shape.genres) + 1.0) ** -0.7)
    genre_sizes = _shared_out(artists, unevenness, rng)
    artist_genre = np.repeat(np.arange(shape.genres, dtype=np.int32), genre_sizes)

    artist = np.repeat(np.arange(artists, dtype=np.int32), sizes)
    track = (_ordinals(artist) % rng.integers(7, 15, artists)[artist] + 1).astype(np.int32)
    album = np.cumsum(track == 1, dtype=np.int32) - np.int32(1)

    # Whole albums are forgotten, not only songs: runs along an album then leave them so.
    weight = rng.lognormal(0, shape.song_skew, int(album[-1]) + 1)[album]
    weight *= rng.lognormal(0, shape.song_skew, shape.songs)
    weight *= (popularity / np.bincount(artist, weight))[artist]
    song_end = np.cumsum(weight)
    song_end /= song_end[-1]
    artist_edge = np.append(0.0, song_end[np.cumsum(sizes) - 1])
    genre_edge = np.append(0.0, artist_edge[np.cumsum(genre_sizes)])
    return _World(artist, album, track, artist_genre, song_end, artist_edge, genre_edge)


def _owners(shape: Shape, rng: np.random.Generator) -> tuple[Int32, Float64, Int64]:
    """Per playlist: its owner, one of that one's favourite places on the line, songs wanted."""
    owners = max(1, round(shape.playlists / shape.playlists_per_owner))
    owner = np.sort(rng.integers(owners, size=shape.playlists, dtype=np.int32))
    places, tastes = rng.random((owners, _TASTES)), rng.integers(1, _TASTES + 1, owners)
    home = places[owner, (rng.random(shape.playlists) * tastes[owner]).astype(np.int64)]
    spread = shape.spread_of_length
    length = rng.lognormal(math.log(shape.mean_length) - spread**2 / 2, spread, shape.playlists)
    if shape.collections:
        collects = rng.random(shape.playlists) < shape.collections
        length[collects] = _COLLECTED * rng.lognormal(0, 0.6, int(collects.sum()))
    return owner, home, np.clip(np.rint(length), 1, shape.longest).astype(np.int64)


def _walk(
    shape: Shape, world: _World, home: Float64, length: Int64, rng: np.random.Generator
) -> tuple[Int64, Int32]:
    """Draw more songs for each playlist than are wanted: as `Playlists.offsets` and `.songs`."""
    draws = np.ceil(length * _SPARE).astype(np.int64)
    offsets = np.append(np.int64(0), np.cumsum(draws))
    songs = np.empty(int(offsets[-1]), np.int32)

    # Longest first: those still under way at a step are then the first `active` ones.
    order = np.argsort(-draws, kind="stable")
    descending = -draws[order]
    slot, home = offsets[order], home[order]
    genre = np.searchsorted(world.genre_edge[1:-1], home, side="right")
    low, span = world.genre_edge[genre], np.diff(world.genre_edge)[genre]
    # Long playlists range wider than short ones, and would run out of songs if they did not.
    reach = shape.neighbours / len(world.artist_genre) * np.sqrt(length[order] / 32)
    width = reach * rng.lognormal(0, 0.7, len(order))
    middle = world.song_end - np.diff(world.song_end, prepend=0.0) / 2
    first_track = np.flatnonzero(world.track == 1)[world.album]
    runs_on = np.append(np.diff(world.album) == 0, False)
    to_home, to_artist, to_genre = np.cumsum([shape.near, shape.home, shape.same_artist])
    to_any = to_genre + shape.in_genre

    here, song, running = home.copy(), np.zeros(len(order), np.int64), np.zeros(len(order), bool)
    for step in range(-int(descending[0])):
        active = int(np.searchsorted(descending, -step))
        here, song, running = here[:active], song[:active], running[:active]
        move, pick, stay, begin = rng.random((4, active))
        if step == 0:
            move[:] = -1  # no song yet, so only a step nearby makes sense
        running = running & runs_on[song] & (stay < shape.album_stay)
        begins = ~running & (begin < shape.album_run)

        near = np.where(move < to_home, here, home[:active])
        left, wide = low[:active], span[:active]
        near = left + np.mod(near + rng.laplace(size=active) * width[:active] - left, wide)
        artist = world.artist[song]
        own = world.artist_edge[artist]
        own += (world.artist_edge[artist + 1] - own) * pick
        far = np.where(move < to_any, left + wide * pick, pick)
        aim = np.where(move < to_artist, near, np.where(move < to_genre, own, far))
        found = np.minimum(np.searchsorted(world.song_end, aim, side="right"), shape.songs - 1)
        song = np.where(running, song + 1, np.where(begins, first_track[found], found))
        running |= begins
        # A song from anywhere is an excursion: the walk goes on from where it was.
        here = np.where(running, middle[song], np.where(move < to_any, aim, here))
        songs[slot[:active] + step] = song
    return offsets, songs


def _without_repeats(
    shape: Shape, offsets: Int64, songs: Int32, length: Int64, rng: np.random.Generator
) -> tuple[Int64, Int32]:
    """Drop most draws of a song that came before in its playlist, and what `length` cuts off."""
    keep = np.empty(len(songs), bool)
    for start, stop in chunks(offsets, _DRAWS_PER_CHUNK):
        first, last = offsets[start], offsets[stop]
        counts = np.diff(offsets[start : stop + 1])
        place = _places(counts)
        playlist = np.repeat(np.arange(stop - start), counts)
        bits = int(place.max()).bit_length()
        key = np.sort(((playlist * shape.songs + songs[first:last]) << bits) | place)
        again = np.flatnonzero(np.diff(key >> bits) == 0) + 1
        again = again[rng.random(len(again)) >= shape.repeats]
        at = (key[again] >> bits) // shape.songs
        fresh = np.ones(last - first, bool)
        fresh[offsets[start:stop][at] - first + (key[again] & ((1 << bits) - 1))] = False
        rank = np.cumsum(fresh)
        before = np.append(0, rank)[offsets[start:stop] - first]
        keep[first:last] = fresh & (rank - before[playlist] <= length[start:stop][playlist])
    kept = np.add.reduceat(keep, offsets[:-1], dtype=np.int64)
    return np.append(np.int64(0), np.cumsum(kept)), songs[keep]


def to_table(playlists: Playlists) -> pa.Table:
    """One row per play, n in all, in play order, with the columns `COLUMNS`.

    `playlist_id` counts from 0 and `position` from 1 in each playlist; the other columns are
    dictionary-encoded strings.
    """
    return _rows(playlists, 0, len(playlists.owner), _encoded)


def write_csv(playlists: Playlists, path: Path) -> int:
    """Write the rows of `to_table` as CSV (RFC 4180, LF, UTF-8); returns how many.

    Writes in chunks, so memory does not grow with the rows; `path` appears, or is replaced, when
    all is written. Raises `StorageError`.
    """
    options = pa.csv.WriteOptions(include_header=False, batch_size=1 << 14)
    with replacing(path) as file:
        file.write(f"{','.join(COLUMNS)}\n".encode())
        for start, stop in chunks(playlists.offsets, _ROWS_PER_CHUNK):
            pa.csv.write_csv(_rows(playlists, start, stop, _plain), file, options)
    return len(playlists.songs)


def _rows(
    playlists: Playlists, start: int, stop: int, named: Callable[[Any, Int32], Any]
) -> pa.Table:
    offsets = playlists.offsets[start : stop + 1]
    counts = np.diff(offsets)
    songs = playlists.songs[offsets[0] : offsets[-1]]
    playlist = np.repeat(np.arange(start, stop, dtype=np.int32), counts)
    columns = (
        pa.array(playlist),
        named(playlists.playlist_name, playlist),
        named(playlists.user_id, playlists.owner[playlist]),
        pa.array(_places(counts).astype(np.int32) + np.int32(1)),
        named(playlists.artist_name, playlists.artist[songs]),
        named(playlists.title, songs),
        named(playlists.album_title, playlists.album[songs]),
    )
    return pa.table(dict(zip(COLUMNS, columns, strict=True)))


def _plain(names: Any, index: Int32) -> Any:
    return names.take(pa.array(index))


def _encoded(names: Any, index: Int32) -> Any:
    # No value may stand twice in a dictionary: engines group by its indices.
    words = names.dictionary_encode()
    return pa.DictionaryArray.from_arrays(words.indices.take(pa.array(index)), words.dictionary)


def _ordinals(group: Int32) -> Int64:
    """How many equal values stand before each, in ascending `group`."""
    changes = np.flatnonzero(np.diff(group)) + 1
    return _places(np.diff(changes, prepend=0, append=len(group)))


def _places(counts: Int64) -> Int64:
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _shared_out(total: int, weight: Float64, rng: np.random.Generator) -> Int64:
    """Split `total` in proportion to `weight`, by lot, so that each gets at least 1."""
    return 1 + rng.multinomial(total - len(weight), weight / weight.sum())


def chunks(offsets: Int64, rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of playlists, as start and stop, that hold about `rows` rows each."""
    edges = np.searchsorted(offsets, np.append(np.arange(0, offsets[-1], rows), offsets[-1]))
    yield from pairwise(np.unique(edges).tolist())
