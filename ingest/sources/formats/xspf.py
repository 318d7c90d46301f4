"""Reader for XSPF playlists (XML Shareable Playlist Format), protected from XML attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from catalog.errors import FileError
from ingest.sources.formats.track_list import (
    ARTIST,
    TITLE,
    Track,
    TrackList,
    name_of_location,
    open_track_list,
    read_whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from ingest.sources.files.content import Content

_HEAD_SIZE = 1 << 16  # bytes at the start of a file that are searched for the root element
# Column names for elements of a track. All other elements keep their own names.
_COLUMNS = {"creator": ARTIST}
_ELEMENTS = ("title", "creator", "album", "location", "identifier", "duration", "trackNum")
_MAX_SHOWN = 200  # maximum number of characters of a track in messages


def is_xspf(start: bytes) -> bool:
    """Return whether a text that begins with `start` is an XSPF playlist."""
    head = start[:_HEAD_SIZE]
    return head.lstrip().startswith(b"<") and b"<playlist" in head and b"xspf.org" in head


def open_xspf(content: Content) -> TrackList:
    """Read an XSPF playlist.

    Raises `FileError` if it is malformed, and `EmptyFileError` if it has no tracks.
    """
    text = read_whole(content).encode("utf-8", "replace").decode()
    try:
        # `text` is already decoded, so the encoding in the XML declaration is ignored.
        root = fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise FileError(f"{content.file} is not valid XSPF: {error}") from error
    tracks = [
        Track(number, values, " | ".join(values.values())[:_MAX_SHOWN])
        for number, values in enumerate(map(_read_values, _find(root, "track")), start=1)
    ]
    names = tuple(_COLUMNS.get(name, name) for name in _ELEMENTS)
    title = next((child.text or "" for child in root if _local_name(child) == "title"), "")
    return open_track_list(content, "XSPF", names, tracks, title)


def _find(root: Element, name: str) -> Iterator[Element]:
    return (element for element in root.iter() if _local_name(element) == name)


def _local_name(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _read_values(track: Element) -> dict[str, str]:
    """Return the first value of each element of a track. The file name replaces a missing title."""
    values: dict[str, str] = {}
    for element in track:
        name = _local_name(element)
        if name in _ELEMENTS and (text := (element.text or "").strip()):
            values.setdefault(_COLUMNS.get(name, name), text)
    if TITLE not in values and "location" in values:
        values = {**name_of_location(values["location"]), **values}
    return values
