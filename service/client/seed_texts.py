"""Resolve seeds typed as "Artist - Title", as a title alone, or as a song id.

Names may contain dashes, so every split of a text at a dash is tried, and the whole text as the
title of a song without an artist. One call resolves the splits of all texts. A text without a split
that leads to a song or an artist is searched for as a title.
"""

from __future__ import annotations

import shlex
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from catalog.errors import InputError
from catalog.song import full_name, normalise
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.client.client import Client, Direct

MAX_SPLITS = 12  # splits of one text
MAX_SEEDS = 1_000  # seeds of one call: the maximum of the API
MAX_TITLE = 512  # characters of a title: the maximum of the API
MAX_QUERY = 200  # characters of a search
MAX_RESULTS = 500  # songs that a search returns
MAX_LISTED = 8  # candidates that an error message lists

_MORE_DASHES = (
    "\u2043\u02d7\u2212\u2796"  # characters that look like dashes, but are not in the category Pd
)


class SeedTextError(InputError):
    """A text matches no song of the catalog, or several songs."""


@dataclass(frozen=True, slots=True)
class Split:
    """A text split at a dash, or the whole text as a title, with the artist "".

    `is_spaced`: whether white space is on both sides of the dash; True for the whole text.
    """

    artist: str
    title: str
    is_spaced: bool


@dataclass(frozen=True, slots=True)
class ResolvedSplit:
    """A split, and how the recommender resolved its artist and title."""

    split: Split
    resolved: pb.ResolvedSeed


def resolve_texts(recommender: Client | Direct, texts: Sequence[str]) -> list[pb.Seed]:
    """Return a seed for each text, in order.

    A song id is used as it is. For other texts, the first of these is used: a split that matches a
    song, preferably at a dash between spaces, or the whole text as the title of a song without an
    artist; the whole text as the title of any song; a split whose artist is known; any split at a
    dash between spaces. Raises `SeedTextError` if there is none or the text is ambiguous, and the
    errors of the recommender.
    """
    ids = [_parse_song_id(text) for text in texts]
    splits = [
        [] if song_id else [*_take_whole(text), *split_text(text)]
        for text, song_id in zip(texts, ids, strict=True)
    ]
    resolved = iter(
        _resolve_splits(recommender, [split for text_splits in splits for split in text_splits])
    )
    return [
        pb.Seed(song_id=song_id)
        if song_id
        else _choose_seed(recommender, text, [next(resolved) for _ in text_splits])
        for text, song_id, text_splits in zip(texts, ids, splits, strict=True)
    ]


def split_text(text: str) -> list[Split]:
    """Return the ways to split a text at a dash, those at dashes between spaces first."""
    splits = []
    for start, stop in _find_dashes(text):
        artist, title = text[:start].strip(), text[stop:].strip()
        if artist and title:
            is_spaced = text[start - 1].isspace() and text[stop].isspace()
            splits.append(Split(artist, title, is_spaced))
    return sorted(splits, key=lambda split: not split.is_spaced)[:MAX_SPLITS]


def _take_whole(text: str) -> list[Split]:
    """Return the whole text as a title, unless it is blank or too long for one."""
    is_title = len(text) <= MAX_TITLE and 0 < len(normalise(text)) <= MAX_TITLE
    return [Split("", text, is_spaced=True)] if is_title else []


def _find_dashes(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each run of dashes."""
    start = None
    for index, character in enumerate(f"{text} "):
        is_dash = unicodedata.category(character) == "Pd" or character in _MORE_DASHES
        if is_dash and start is None:
            start = index
        elif not is_dash and start is not None:
            yield start, index
            start = None


def _parse_song_id(text: str) -> str:
    """Return the song id, or "" if the text is not one."""
    try:
        return str(UUID(text))
    except ValueError:
        return ""


def _resolve_splits(
    recommender: Client | Direct, splits: Sequence[Split]
) -> Iterator[ResolvedSplit]:
    for start in range(0, len(splits), MAX_SEEDS):
        group = splits[start : start + MAX_SEEDS]
        seeds = [pb.Seed(artist=split.artist, title=split.title) for split in group]
        response = recommender.recommend(pb.RecommendRequest(seeds=seeds, limit=1))
        yield from map(ResolvedSplit, group, response.seeds)


def _choose_seed(
    recommender: Client | Direct, text: str, splits: Sequence[ResolvedSplit]
) -> pb.Seed:
    known = [split for split in splits if split.resolved.resolution == pb.RESOLUTION_SONG]
    preferred = [split for split in known if split.split.is_spaced] or known
    songs = {split.resolved.song.song_id: split.resolved.song for split in preferred}
    if len(songs) > 1:
        listed = ", ".join(
            f"{key} ({full_name(song.artist, song.title)})" for key, song in songs.items()
        )
        raise SeedTextError(f"{text!r} matches several songs: give the id of one: {listed}")
    if preferred:
        return _build_seed(preferred[0].split)
    by_artist = [
        split.split for split in splits if split.resolved.resolution == pb.RESOLUTION_ARTIST
    ]
    if not by_artist:
        seed = _find_title(recommender, text)
        if seed is not None:
            return seed
    candidates = by_artist or [
        split.split for split in splits if split.split.is_spaced and split.split.artist
    ]
    if candidates:
        return _build_seed(candidates[0])
    raise SeedTextError(
        f'{text!r} is neither "Artist - Title" nor a title or song id of the catalog: look for it '
        f"with `nextsong search`"
    )


def _build_seed(split: Split) -> pb.Seed:
    return pb.Seed(artist=split.artist, title=split.title)


def _find_title(recommender: Client | Direct, text: str) -> pb.Seed | None:
    """Return the only song with this title, or None. Raises `SeedTextError` for several."""
    title = normalise(text)
    if not title or len(text) > MAX_QUERY:
        return None
    results = recommender.search_songs(pb.SearchSongsRequest(query=text, limit=MAX_RESULTS)).songs
    # Results are ordered by popularity, so the most popular of the songs with one name is kept.
    songs: dict[str, pb.Song] = {}
    for song in results:
        if normalise(song.title) == title:
            songs.setdefault(normalise(song.artist), song)
    if not songs:
        return None
    is_complete = len(results) < MAX_RESULTS
    candidates = list(songs.values())
    if len(candidates) == 1 and is_complete:
        return pb.Seed(song_id=candidates[0].song_id)
    listed = ", ".join(
        shlex.quote(full_name(song.artist, song.title)) for song in candidates[:MAX_LISTED]
    )
    more = ", ..." if len(candidates) > MAX_LISTED or not is_complete else ""
    raise SeedTextError(f"{text!r} may be one of several songs: give one of: {listed}{more}")
