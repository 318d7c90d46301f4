"""Spelling vectors: trigrams of names, by which searches find songs although a name is misspelt.

The sparse vector `spelling` of a song has an entry for each trigram (three successive letters) of
the artist and the title. A search compares the trigrams of a text with these vectors: a mistake
changes a few trigrams, and the others still match. Qdrant multiplies each trigram by its inverse
document frequency, so rare trigrams count most.

Trigrams are made from folded names, in which letters that are often confused are equal.
"""

from __future__ import annotations

import math
import re
import zlib
from functools import lru_cache

from catalog.song import normalise

POPULARITY_STEP = 1e-2
"""Relative difference between the entries of the most popular and of an unpopular song.

If the names of many songs match a text equally well, such as all songs of an artist, this
difference orders them by popularity.
"""

CACHED_WORDS = 1 << 16
"""Number of distinct words whose trigrams are cached while a release is built."""

_APOSTROPHES = re.compile("['`\u00b4\u2018\u2019]")
_PUNCTUATION = re.compile(r"[^\w\s]+|_+")
_REPEATED = re.compile(r"(.)\1+")
_CONFUSED = str.maketrans({"c": "k", "q": "k", "z": "s", "y": "i", "w": "v"})


def strip_punctuation(name: str) -> str:
    """Return a normalised name without punctuation, or unchanged if it has nothing else."""
    return " ".join(_PUNCTUATION.sub(" ", _APOSTROPHES.sub("", name)).split()) or name


def fold_spelling(name: str) -> str:
    """Return a normalised name without punctuation, and with equal letters for confusable ones.

    "c", "k" and "q" become equal, as do "s" and "z", "i" and "y", "v" and "w", "f" and "ph", and
    single and repeated letters. Folding a result again does not change it.
    """
    folded = strip_punctuation(name).translate(_CONFUSED).replace("ph", "f")
    return _REPEATED.sub(r"\1", folded)


def build_spelling_vector(search_text: str, ordinal: int) -> dict[int, float]:
    """Return the spelling vector of a song, from its `search_text` and its popularity rank."""
    value = 1 + POPULARITY_STEP / (1 + math.log1p(ordinal))
    return dict.fromkeys(_hash_trigrams(search_text), value)


def build_spelling_query(text: str) -> dict[int, float]:
    """Return the spelling vector of a text to search for. It is empty if the text has no words."""
    return dict.fromkeys(_hash_trigrams(normalise(text)), 1.0)


def _hash_trigrams(name: str) -> set[int]:
    words = name.split()
    trigrams = set[int]().union(*map(_hash_trigrams_of_word, words))
    # Names such as "!!!" consist of punctuation alone.
    return trigrams or set[int]().union(*map(_hash_padded_trigrams, words))


@lru_cache(CACHED_WORDS)
def _hash_trigrams_of_word(word: str) -> frozenset[int]:
    bare = _PUNCTUATION.sub(" ", _APOSTROPHES.sub("", word))
    folded = (fold_spelling(part) for part in bare.split())
    return frozenset[int]().union(*map(_hash_padded_trigrams, folded))


def _hash_padded_trigrams(word: str) -> set[int]:
    """Pad a word with a space on each side, and return the CRC-32 of each of its trigrams."""
    padded = f" {word} "
    return {zlib.crc32(padded[i : i + 3].encode()) for i in range(len(padded) - 2)}
