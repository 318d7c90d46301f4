"""Song identity: normalisation of names, and stable song ids."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMESPACE = uuid5(UUID(int=0), "nextsong/song")
# Combining accents, without U+0345, because case folding turns it into the letter iota.
_ACCENTS = re.compile("[\u0300-\u0344\u0346-\u036f]+")
_SEPARATOR = "\x1f"  # str.split() removes it as white space, so no normalised name contains it


def normalise(name: str) -> str:
    """Return a name without differences of case, character width, accents and white space.

    Only the accents of Latin, Greek and Cyrillic are removed: in other scripts, such as Devanagari
    and Thai, combining marks distinguish letters. Normalising a result again does not change it.
    The result can be empty.
    """
    if name.isascii():
        return " ".join(name.lower().split())
    folded = _without_accents(_without_accents(name).casefold())
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def _without_accents(name: str) -> str:
    return _ACCENTS.sub("", unicodedata.normalize("NFKD", name))


def song_id(artist: str, title: str) -> UUID:
    """Return the stable id of a song: a UUIDv5 of its normalised artist and title."""
    return song_id_of_keys(normalise(artist), normalise(title))


def song_id_of_keys(artist_key: str, title_key: str) -> UUID:
    """Return the id that `song_id` returns, for names that are already normalised."""
    return _uuid5(f"{artist_key}{_SEPARATOR}{title_key}")


def song_id_of_track(track_id: str) -> UUID:
    """Return the stable id of a song that is identified by a track id of its source."""
    return _uuid5(f"{_SEPARATOR}{_SEPARATOR}{track_id}")


def _uuid5(name: str) -> UUID:
    # `uuid.uuid5` returns the same id (RFC 9562, section 5.5), but takes twice as long.
    digest = hashlib.sha1(NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()
    return UUID(bytes=digest[:16], version=5)


def full_name(artist: str, title: str) -> str:
    """Return the displayed name of a song: "Artist - Title", or only the name that is not empty."""
    return " - ".join(name for name in (artist, title) if name)


def search_text(artist_keys: Sequence[str], title_key: str) -> str:
    """Return the text of a song in which the gRPC method `SearchSongs` looks for words."""
    return " ".join([*artist_keys, title_key])
