"""Song identity: normalisation of names, and stable song ids."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from uuid import UUID, uuid5

NAMESPACE = uuid5(UUID(int=0), "nextsong/song")
_ACCENTS = re.compile("[\u0300-\u0344\u0346-\u036f]+")  # U+0345 is a letter: it folds to iota
_SEPARATOR = "\x1f"  # cannot stand in a normalised name: str.split() takes it for white space


def normalise(name: str) -> str:
    """Fold case, width, accents and runs of white space, so that spellings of one name are equal.

    Only combining accents of Latin, Greek and Cyrillic are removed: in other scripts (Devanagari,
    Thai, the voicing marks of kana) combining marks are letters. Idempotent. May return "".
    """
    if name.isascii():
        return " ".join(name.lower().split())
    folded = _without_accents(_without_accents(name).casefold())
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def _without_accents(name: str) -> str:
    return _ACCENTS.sub("", unicodedata.normalize("NFKD", name))


def song_id(artist: str, title: str) -> UUID:
    """The stable id of a song known by name: a UUIDv5 of its normalised artist and title."""
    return song_id_of_keys(normalise(artist), normalise(title))


def song_id_of_keys(artist_key: str, title_key: str) -> UUID:
    """`song_id` for names that are normalised already."""
    return _uuid5(f"{artist_key}{_SEPARATOR}{title_key}")


def song_id_of_track(track_id: str) -> UUID:
    """The stable id of a song that its source names by a track id of its own."""
    return _uuid5(f"{_SEPARATOR}{_SEPARATOR}{track_id}")


def _uuid5(name: str) -> UUID:
    # uuid.uuid5 costs twice as much, for the same bits (RFC 9562, 5.5).
    digest = hashlib.sha1(NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()
    return UUID(bytes=digest[:16], version=5)


def search_text(artist_key: str, title_key: str) -> str:
    """What `SearchSongs` matches words against."""
    return f"{artist_key} {title_key}"
