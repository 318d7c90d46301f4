"""Find songs by misspelt names: candidates from Qdrant, ranked by edit distance.

Qdrant returns the songs that share the most trigrams with the text (see `catalog.spelling`).
RapidFuzz compares the text with the names of these songs.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rapidfuzz.distance import OSA
from rapidfuzz.fuzz import partial_ratio

from catalog.model import ANY
from catalog.pauses import pause_between
from catalog.song import full_name, normalise
from catalog.spelling import fold_spelling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.model import Filter, Song
    from catalog.store import OpenRelease
    from service.recommend.seeds import Seed

CANDIDATES = 200  # songs with similar trigrams that are compared with a text

MAX_COMPARED = 200  # characters of each text, artist or title that are compared

MIN_SIMILARITY = 0.6
"""Minimum similarity of a song that is returned."""

PARTIAL_NAME = 0.98
"""A similarity to the artist alone or to the title alone is multiplied by this factor."""

FOLDED_NAME = 0.95
"""A similarity is multiplied by this factor if often confused letters count as equal."""

PART_OF_NAME = 0.75
"""A similarity to a part of the name, from the start of a word, is multiplied by this factor."""

WORDS_OF_NAME = 0.8
"""Minimum similarity if every word of the text begins a word of the artist or the title."""

CERTAIN_SIMILARITY = 0.85
"""Minimum similarity of a song that is chosen without asking the user."""

CERTAIN_LEAD = 0.08
"""Minimum difference to the second highest similarity for choosing a song without asking."""

_ROUNDING = 1e-6  # tolerance for equal similarities, which messages hold as 32-bit floats

_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class SimilarSong:
    """A song, and the similarity of its name to a text, from 0 to 1 (equal)."""

    song: Song
    similarity: float


async def search_by_name(
    release: OpenRelease, text: str, limit: int, where: Filter = ANY
) -> list[SimilarSong]:
    """Return at most `limit` songs whose names are similar to `text`, most similar first.

    Among equally similar songs, popular songs come first. Songs for which each word of the text
    begins a word of the name are included.
    """
    text = text[:MAX_COMPARED]
    if not normalise(text):
        return []
    with_words = await release.search(text, limit, where)
    candidates = await release.search_spelling(text, max(CANDIDATES, limit), where)
    songs = {song.song_id: song for song in [*with_words, *candidates]}
    minimum = dict.fromkeys((song.song_id for song in with_words), WORDS_OF_NAME)
    name = _TypedName(text)
    rated = [
        SimilarSong(song, max(minimum.get(song_id, 0.0), name.compare(song.artist, song.title)))
        async for song_id, song in pause_between(songs.items())
    ]
    similar = [song for song in rated if song.similarity >= MIN_SIMILARITY]
    return sorted(similar, key=lambda song: (-song.similarity, song.song.ordinal))[:limit]


async def suggest_songs(release: OpenRelease, seed: Seed, limit: int) -> list[SimilarSong]:
    """Return at most `limit` songs whose names are similar to the artist and title of a seed."""
    return await search_by_name(release, full_name(seed.artist, seed.title), limit)


def find_certain(text: str, names: Sequence[tuple[str, str, float]]) -> int | None:
    """Return the index of the only song that a text can mean, or None if there is doubt.

    `names` has the artist, the title and the similarity of each song, the most similar first. A
    song is certain if its name is similar enough, no other name is nearly as similar, and the text
    is not the name of the artist alone. The numbers must agree as well, because "Part 1" and
    "Part 2" are similar: the text must have all numbers of the title, and no number that is in
    neither artist nor title.
    """
    if not names:
        return None
    artist, title, similarity = names[0]
    if similarity < CERTAIN_SIMILARITY:
        return None
    if len(names) > 1 and similarity - names[1][2] < CERTAIN_LEAD:
        return None
    typed, of_title, of_both = map(_count_numbers, (text, title, f"{artist} {title}"))
    if not of_title <= typed <= of_both:
        return None
    is_artist = _TypedName(text).compare_artist(artist) > similarity - _ROUNDING
    return None if is_artist else 0


def _count_numbers(text: str) -> Counter[str]:
    return Counter(_NUMBERS.findall(normalise(text)))


class _TypedName:
    """A text that is compared with the names of songs."""

    def __init__(self, text: str) -> None:
        self._plain = _drop_dashes(normalise(text))
        self._folded = fold_spelling(self._plain)

    def compare(self, artist: str, title: str) -> float:
        """Return the similarity to the name of a song, from 0 to 1."""
        plain = [_drop_dashes(normalise(name))[:MAX_COMPARED] for name in (artist, title)]
        folded = [fold_spelling(name) for name in plain]
        return max(
            _compare_parts(self._plain, *plain),
            FOLDED_NAME * _compare_parts(self._folded, *folded),
            PART_OF_NAME * partial_ratio(f" {self._folded}", f" {' '.join(folded)}") / 100,
        )

    def compare_artist(self, artist: str) -> float:
        """Return the similarity to the name of an artist alone, from 0 to 1."""
        plain = _drop_dashes(normalise(artist))[:MAX_COMPARED]
        folded = OSA.normalized_similarity(self._folded, fold_spelling(plain))
        return max(
            PARTIAL_NAME * OSA.normalized_similarity(self._plain, plain),
            FOLDED_NAME * PARTIAL_NAME * folded,
        )


def _compare_parts(text: str, artist: str, title: str) -> float:
    """Return the similarity of a text to artist and title, in either order, or to one of them."""
    if not artist or not title:
        return OSA.normalized_similarity(text, artist or title)
    return max(
        OSA.normalized_similarity(text, f"{artist} {title}"),
        OSA.normalized_similarity(text, f"{title} {artist}"),
        PARTIAL_NAME * OSA.normalized_similarity(text, artist),
        PARTIAL_NAME * OSA.normalized_similarity(text, title),
    )


def _drop_dashes(name: str) -> str:
    """Remove the words without a letter or digit, such as dashes, unless nothing would be left."""
    return " ".join(word for word in name.split() if any(map(str.isalnum, word))) or name
