"""Files that contain a single playlist, in any format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from catalog.errors import EmptyFileError, FileError
from ingest.sources.columns.roles import ColumnNames
from ingest.sources.files.encodings import is_encodable
from ingest.sources.formats.batch import NOT_UTF8, Batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ingest.sources.files.content import Content

MAX_SIZE = 64 << 20  # bytes

_DASH = re.compile(r"\s+[-\u2013\u2014]\s+")
_TRACK_NUMBER = re.compile(r"(?:\d{1,3}(?:\.|\s*-)\s+|0\d\s+)(?=\S)")
_EXTENSION = re.compile(r"\.\w{1,5}$")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

ARTIST, TITLE, PLAYLIST = "artist", "title", "playlist"


@dataclass(frozen=True)
class Track:
    """A track: its line or number in the file, its values by name, and its text for messages."""

    line: int
    values: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class TrackList:
    """A file that contains a single playlist.

    The name of the playlist is `title` or, if `title` is empty, the name of the file.
    `track_names` are the names of the values that tracks can have. A track may have no artist.
    """

    content: Content
    format_name: str
    track_names: tuple[str, ...]
    tracks: Sequence[Track]
    title: str = ""

    @property
    def kind(self) -> str:
        """The format in words."""
        return self.content.describe(self.format_name)

    @property
    def names(self) -> ColumnNames:
        """The names of the columns, including `PLAYLIST` if the playlist has a name."""
        return ColumnNames((*self.track_names, PLAYLIST) if self.title else self.track_names)

    @property
    def remarks(self) -> Sequence[str]:
        """A note for the user if the encoding is uncertain."""
        return self.content.remarks

    def kind_of(self, _name: str) -> None:
        """Return None, because all columns are text."""

    def read_batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Yield all tracks in one batch. `columns` maps roles to column names."""
        fields: dict[str, pa.Array] = {}
        faults: dict[int, str] = {}
        for role, name in columns.items():
            constant = self.title if name == PLAYLIST else None
            values = [track.values.get(name, constant) for track in self.tracks]
            for record, value in enumerate(values):
                if value is not None and not is_encodable(value):
                    faults[record] = NOT_UTF8
                    values[record] = None
            fields[role] = pa.array(values, pa.string())
        lines = np.array([track.line for track in self.tracks], np.int64)
        show = partial(_show, self.tracks)
        yield Batch(lines, fields, faults, show, self.content.file.state.size)


def open_track_list(
    content: Content,
    format_name: str,
    names: Sequence[str],
    tracks: Sequence[Track],
    title: str = "",
) -> TrackList:
    """Return the playlist of a file. Raises `EmptyFileError` if it has no tracks."""
    if not tracks:
        raise EmptyFileError(f"{content.file} is a playlist without songs")
    return TrackList(content, format_name, tuple(names), tracks, title.strip())


def read_whole(content: Content) -> str:
    """Return the text of a file. Bytes that are not valid UTF-8 become lone surrogates.

    Raises `FileError` if the text is longer than `MAX_SIZE`.
    """
    with content.open() as stream:
        data = stream.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise FileError(f"{content.file} is longer than {MAX_SIZE >> 20} MB: is it one playlist?")
    return data.decode("utf-8", "surrogateescape")


def split_name(text: str) -> dict[str, str]:
    """Return the artist and title in a text such as "Artist - Title", or the text as the title."""
    artist, *rest = _DASH.split(text.strip(), maxsplit=1)
    return {ARTIST: artist, TITLE: rest[0]} if rest and artist else {TITLE: text.strip()}


def name_of_location(location: str) -> dict[str, str]:
    """Return the title, and the artist if any, derived from the name of a file or URL."""
    if _SCHEME.match(location):
        location = unquote(location.partition("?")[0])
    name = PurePosixPath(location.strip().replace("\\", "/")).name
    name = _EXTENSION.sub("", name)
    if " " not in name:
        name = name.replace("_", " ")
    return split_name(_TRACK_NUMBER.sub("", name, count=1) if _TRACK_NUMBER.match(name) else name)


def _show(tracks: Sequence[Track], record: int) -> str:
    text = tracks[record].text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
