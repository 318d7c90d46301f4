"""Reader for M3U playlists, with one file or URL per line.

A line `#EXTINF:SECONDS,Artist - Title` may precede each file. Existing libraries are made for HTTP
Live Streaming: `openm3u8` omits entries without `#EXTINF`, and `m3u8` fails on attributes before
the comma. Neither provides the line numbers of entries.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ingest.sources.formats.track_list import (
    ARTIST,
    TITLE,
    Track,
    TrackList,
    name_of_location,
    open_track_list,
    read_whole,
    split_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.sources.files.content import Content

_ENDINGS = (".m3u", ".m3u8")
_MARK = b"#EXTM3U"
# In some files, attributes follow the length: #EXTINF:-1 tvg-id="a,b",Artist - Title
_INFO = re.compile(r'#EXTINF:[^,"]*(?:"[^"]*"[^,"]*)*,(.*)')
_NAME = re.compile(r"#PLAYLIST:(.*)")
_LINE_END = re.compile(r"\r\n|\r|\n")


def is_m3u(label: str, start: bytes) -> bool:
    """Return whether a file with this name and first bytes is an M3U playlist."""
    return start.lstrip().startswith(_MARK) or label.lower().endswith(_ENDINGS)


def open_m3u(content: Content) -> TrackList:
    """Read an M3U playlist. Raises `FileError`, and `EmptyFileError` if it has no tracks."""
    lines = _LINE_END.split(read_whole(content))
    names = [match[1] for match in map(_NAME.match, lines) if match]
    tracks = list(_read_tracks(lines))
    title = names[0] if names else ""
    return open_track_list(content, "M3U", (ARTIST, TITLE, "location"), tracks, title)


def _read_tracks(lines: list[str]) -> Iterator[Track]:
    """Yield a track for each line that is neither blank nor a comment."""
    info = ""
    for number, text in enumerate(lines, start=1):
        line = text.strip()
        if match := _INFO.match(line):
            info = match[1].strip()
        elif line and not line.startswith("#"):
            name = split_name(info) if info else name_of_location(line)
            yield Track(number, {"location": line, **name}, f"{info} | {line}" if info else line)
            info = ""
