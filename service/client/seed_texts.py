"""Resolve seeds typed as "Artist - Title", as a title alone, or as a song id.

Names may contain dashes. Therefore, a text is split at each dash in turn, and the whole text is
tried as the title of a song without an artist. One call resolves the splits of all texts. If no
split of a text matches a song or an artist, the text is searched for as a title, and then as a
misspelt name.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from catalog.errors import InputError
from catalog.song import full_name, normalise
from nextsong.v1 import recommender_pb2 as pb
from service.recommend.spelling import find_certain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.client.client import Client, Direct

MAX_SPLITS = 12  # maximum number of splits that are tried for a text
MAX_SEEDS = 1_000  # maximum number of seeds per call in the API
MAX_TITLE = 512  # maximum number of characters of a title in the API
MAX_QUERY = 200  # maximum number of characters of a search text in the API
MAX_RESULTS = 500  # maximum number of songs that a search returns
MAX_LISTED = 8  # candidates that an error message lists
MAX_SUGGESTED = 5  # songs with similar names that a question or an error message lists

LIKELY_SIMILARITY = 0.75
"""Minimum similarity of a song that the text probably means."""

_MORE_DASHES = (
    "\u2043\u02d7\u2212\u2796"  # dash-like characters that are not in the Unicode category Pd
)


class SeedTextError(InputError):
    """A text matches no song of the catalog, or several songs."""


Ask = Callable[[str, "Sequence[pb.Song]"], "pb.Song | None"]
"""A function that asks the user which of the songs a text means; None for none of them."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """The treatment of misspelt names.

    - `tell`: called with a sentence if a text is taken as a song with a similar name.
    - `ask`: called if a text can mean several songs; None if nobody can be asked.
    - `accepts_doubt`: whether a text "Artist - Title" that probably means another song is accepted
      as an unknown song if nobody can be asked.
    """

    tell: Callable[[str], None]
    ask: Ask | None = None
    accepts_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """A text split at a dash, or the whole text as a title, with the artist "".

    `is_spaced`: whether there is white space on both sides of the dash. For the whole text, it is
    True.
    """

    artist: str
    title: str
    is_spaced: bool


@dataclass(frozen=True, slots=True)
class ResolvedSplit:
    """A split, and how the recommender resolved its artist and title."""

    split: Split
    resolved: pb.ResolvedSeed


def resolve_texts(
    recommender: Client | Direct, texts: Sequence[str], corrections: Corrections
) -> list[pb.Seed]:
    """Return a seed for each text, in order.

    A text that is a song id is used unchanged. Any other text is split into artist and title at a
    dash. The following interpretations are tried in order:

    - a split at a dash between spaces that matches a song, or the whole text as the title of a song
      without an artist
    - a split at any other dash that matches a song
    - if no split has a known artist, the whole text as the title of any song
    - the only song with a similar name, if there is no doubt (see `find_certain`)
    - a song with a similar name that the user chooses, if the user can be asked
    - a split whose artist is known
    - any split at a dash between spaces, unless the text probably means another song

    Raises `SeedTextError` if no interpretation succeeds or if the text is ambiguous. Errors of the
    recommender are passed on.
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
        else _choose_seed(recommender, text, [next(resolved) for _ in text_splits], corrections)
        for text, song_id, text_splits in zip(texts, ids, splits, strict=True)
    ]


def split_text(text: str) -> list[Split]:
    """Return all splits of a text at a dash, starting with dashes between spaces."""
    splits = []
    for start, stop in _find_dashes(text):
        artist, title = text[:start].strip(), text[stop:].strip()
        if artist and title:
            is_spaced = text[start - 1].isspace() and text[stop].isspace()
            splits.append(Split(artist, title, is_spaced))
    return sorted(splits, key=lambda split: not split.is_spaced)[:MAX_SPLITS]


def _take_whole(text: str) -> list[Split]:
    """Return the whole text as the only split, or [] if the text is blank or too long."""
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
    """Return the song id in the text, or "" if the text is not a song id."""
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
    recommender: Client | Direct,
    text: str,
    splits: Sequence[ResolvedSplit],
    corrections: Corrections,
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
    similar = _search_similar(recommender, text)
    corrected = _correct(text, similar, corrections)
    if corrected is not None:
        return pb.Seed(song_id=corrected.song_id)
    candidates = by_artist or [
        split.split for split in splits if split.split.is_spaced and split.split.artist
    ]
    is_accepted = by_artist or corrections.ask or corrections.accepts_doubt
    if candidates and (is_accepted or not _is_likely(similar)):
        return _build_seed(candidates[0])
    raise SeedTextError(_describe_unknown(text, similar.songs))


def _search_similar(recommender: Client | Direct, text: str) -> pb.SearchSongsResponse:
    """Return the songs whose names are similar to a text, most similar first."""
    query = text[:MAX_QUERY]
    if not normalise(query):
        return pb.SearchSongsResponse()
    return recommender.search_songs(
        pb.SearchSongsRequest(query=query, limit=MAX_SUGGESTED, fuzzy=True)
    )


def _correct(
    text: str, similar: pb.SearchSongsResponse, corrections: Corrections
) -> pb.Song | None:
    """Return the song that a misspelt text means, or None if there is doubt."""
    pairs = zip(similar.songs, similar.similarities, strict=True)
    names = [(song.artist, song.title, similarity) for song, similarity in pairs]
    certain = find_certain(text, names)
    if certain is not None:
        song = similar.songs[certain]
        corrections.tell(f"{text!r} is taken as {full_name(song.artist, song.title)!r}")
        return song
    if corrections.ask and _is_likely(similar):
        return corrections.ask(text, similar.songs)
    return None


def _is_likely(similar: pb.SearchSongsResponse) -> bool:
    return max(similar.similarities, default=0.0) >= LIKELY_SIMILARITY


def _describe_unknown(text: str, similar: Sequence[pb.Song]) -> str:
    problem = f'{text!r} is neither "Artist - Title" nor a title or song id of the catalog'
    if not similar:
        return f"{problem}: look for it with `nextsong search`"
    listed = ", ".join(shlex.quote(full_name(song.artist, song.title)) for song in similar)
    return f"{problem}: did you mean {listed}? Look for others with `nextsong search`"


def _build_seed(split: Split) -> pb.Seed:
    return pb.Seed(artist=split.artist, title=split.title)


def _find_title(recommender: Client | Direct, text: str) -> pb.Seed | None:
    """Return the only song with this title, or None if there is none.

    Raises `SeedTextError` if several songs have the title.
    """
    title = normalise(text)
    if not title or len(text) > MAX_QUERY:
        return None
    results = recommender.search_songs(pb.SearchSongsRequest(query=text, limit=MAX_RESULTS)).songs
    # The results are ordered by popularity, so the most popular song with each name is kept.
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
