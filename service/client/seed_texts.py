"""Seeds as they are typed, "Artist - Title" or a title alone, looked up in the catalog.

Names may hold dashes themselves, so every split at a dash is tried, all in one call; only a text
that no split explains is searched for as a title.
"""

from __future__ import annotations

import shlex
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from catalog.errors import InputError
from catalog.song import normalise
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.client.client import Client, Direct

MAX_SPLITS = 12  # of one text
MAX_SEEDS = 1_000  # of one call: the API takes no more
MAX_QUERY = 200  # characters of one search
MAX_FOUND = 500  # songs that one search returns
MAX_LISTED = 8  # candidates in a message

_MORE_DASHES = "\u2043\u02d7\u2212\u2796"  # the hyphen bullet, and minus signs


class SeedTextError(InputError):
    """A text names no song of the catalog, or several."""


@dataclass(frozen=True, slots=True)
class Split:
    """A way to read a text; `is_spaced` if there is white space on both sides of the dash."""

    artist: str
    title: str
    is_spaced: bool


def seeds_of(recommender: Client | Direct, texts: Sequence[str]) -> list[pb.Seed]:
    """Return a seed for each text, in order.

    A song id is taken as it is. Of the splits of a text, one that names a song wins, those at
    dashes between spaces first; then the title alone; then one whose artist is known. Raises
    `SeedTextError` when a text is ambiguous, or nothing in it is known and it has no dash between
    spaces, and what the recommender raises.
    """
    ids = [_song_id(text) for text in texts]
    splits = [[] if song_id else splits_of(text) for text, song_id in zip(texts, ids, strict=True)]
    resolved = iter(_resolve(recommender, [split for some in splits for split in some]))
    understood = [[(split, next(resolved)) for split in some] for some in splits]
    return [
        pb.Seed(song_id=song_id) if song_id else _seed(recommender, text, some)
        for text, song_id, some in zip(texts, ids, understood, strict=True)
    ]


def splits_of(text: str) -> list[Split]:
    """Return the ways to split a text at a dash, those between spaces first."""
    splits = []
    for start, stop in _dashes(text):
        artist, title = text[:start].strip(), text[stop:].strip()
        if artist and title:
            is_spaced = text[start - 1].isspace() and text[stop].isspace()
            splits.append(Split(artist, title, is_spaced))
    return sorted(splits, key=lambda split: not split.is_spaced)[:MAX_SPLITS]


def _dashes(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each run of dashes begins and ends."""
    start = None
    for place, character in enumerate(f"{text} "):
        is_dash = unicodedata.category(character) == "Pd" or character in _MORE_DASHES
        if is_dash and start is None:
            start = place
        elif not is_dash and start is not None:
            yield start, place
            start = None


def _song_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        return ""


def _resolve(recommender: Client | Direct, splits: Sequence[Split]) -> Iterator[pb.ResolvedSeed]:
    for start in range(0, len(splits), MAX_SEEDS):
        seeds = [pb.Seed(artist=s.artist, title=s.title) for s in splits[start : start + MAX_SEEDS]]
        yield from recommender.recommend(pb.RecommendRequest(seeds=seeds, limit=1)).seeds


def _seed(
    recommender: Client | Direct, text: str, understood: Sequence[tuple[Split, pb.ResolvedSeed]]
) -> pb.Seed:
    known = [one for one in understood if one[1].resolution == pb.RESOLUTION_SONG]
    best = [one for one in known if one[0].is_spaced] or known
    songs = {resolved.song.song_id: resolved.song for _, resolved in best}
    if len(songs) > 1:
        raise SeedTextError(f"{text!r} names several songs: give the id of one: {_listed(songs)}")
    if best:
        return pb.Seed(artist=best[0][0].artist, title=best[0][0].title)
    by_artist = [split for split, one in understood if one.resolution == pb.RESOLUTION_ARTIST]
    if not by_artist:
        titled = _titled(recommender, text)
        if titled is not None:
            return titled
    for split in [*by_artist, *(split for split, _ in understood if split.is_spaced)]:
        return pb.Seed(artist=split.artist, title=split.title)
    raise SeedTextError(
        f'{text!r} is neither "Artist - Title" nor a title or song id of the catalog: look for it '
        f"with `nextsong search`"
    )


def _titled(recommender: Client | Direct, text: str) -> pb.Seed | None:
    """Return the only song of this title, or None. Raises `SeedTextError` if several have it."""
    title = normalise(text)
    if not title or len(text) > MAX_QUERY:
        return None
    found = recommender.search_songs(pb.SearchSongsRequest(query=text, limit=MAX_FOUND)).songs
    # Of songs that share artist and title, the one in the most playlists comes first.
    songs = {normalise(song.artist): song for song in reversed(found) if _is(song, title)}
    if not songs:
        return None
    if len(songs) == 1 and len(found) < MAX_FOUND:
        (song,) = songs.values()
        return pb.Seed(song_id=song.song_id)
    choice = sorted(songs.values(), key=lambda song: -song.playlists)
    listed = ", ".join(shlex.quote(f"{song.artist} - {song.title}") for song in choice[:MAX_LISTED])
    more = ", ..." if len(choice) > MAX_LISTED or len(found) == MAX_FOUND else ""
    raise SeedTextError(f"several songs may be meant by {text!r}: name one: {listed}{more}")


def _is(song: pb.Song, title: str) -> bool:
    return normalise(song.title) == title


def _listed(songs: dict[str, pb.Song]) -> str:
    return ", ".join(f"{key} ({song.artist} - {song.title})" for key, song in songs.items())
