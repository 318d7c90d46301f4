"""Which list of a JSON file holds its playlists or songs, and what beside it is not read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.errors import FileError
from ingest.sources.formats.json_layout import is_usual, layout_of, names_of_songs
from ingest.sources.formats.json_stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ingest.sources.formats.json_layout import Layout

_HEAD = 1 << 20  # bytes of a large file that tell which list it is
_APART, _LOOKED_AT = 4 << 20, 1 << 18  # bytes of text from one look to the next, and of each
_ENOUGH = 20  # elements of each
_SONG = {"artist", "title"}
_PLAYLISTS = "playlists"
_NAMED = re.compile(rb'"playlists"\s*:\s*\[')
_NAME, _SONGS = "playlist_name", "songs"

# Usual names of what changes a result without being needed for one: the order, and the identity.
_LATE: Mapping[str, re.Pattern[bytes]] = {
    role: re.compile(rb'"(' + names + rb')"\s*:', re.IGNORECASE)
    for role, names in {
        "position": rb"pos(?:ition)?|track_?position|ts|time_?stamp|(?:played|listened|added)_?at",
        "track_id": rb"(?:track|song|spotify|spotify_?track)_?(?:id|uri)|isrc",
    }.items()
}


@dataclass(frozen=True)
class Arrangement:
    """Where the objects of a document are: see `json_source.JsonDocument`."""

    key: str | None
    spread: bool = False
    remarks: tuple[str, ...] = ()


def arrangement(head: bytes, where: str, *, whole: bool) -> Arrangement:
    """The arrangement of a file by its first bytes, which are all where `whole`.

    Raises FileError where an object holds several lists of playlists, and none is called that.
    """
    if head.lstrip().startswith(b"["):
        return Arrangement("")
    part = head if whole else head[:_HEAD]
    lists: dict[str, list[Any]] = {}
    around: dict[str, Any] = {}
    try:
        for name, value in Stream(part, None, where).members():
            if not isinstance(value, list):
                around[name] = value
            elif isinstance(value[0], dict) and len(lists.setdefault(name, [])) < _ENOUGH:
                lists[name].append(value[0])
    except FileError:
        if whole:
            return Arrangement(_PLAYLISTS if _NAMED.search(head) else None)
    holders = [name for name, items in lists.items() if _are_playlists(items)]
    songs = [name for name, items in lists.items() if names_of_songs(items) >= _SONG]
    if _PLAYLISTS in lists:
        rest = [name for name in dict.fromkeys(holders + songs) if name != _PLAYLISTS]
        return Arrangement(_PLAYLISTS, remarks=_unread(rest))
    if not lists and _NAMED.search(head):
        return Arrangement(_PLAYLISTS)
    if len(holders) == 1:
        rest = [name for name in songs if name != holders[0]]
        return Arrangement(holders[0], remarks=_unread(rest))
    if holders:
        raise FileError(
            f"{where} holds several lists of playlists: {_quoted(holders)}: save each to a file"
        )
    named = layout_of([around]).suggested.keys() | around.keys()
    is_playlist = not named.isdisjoint({"name", "id", "pid", "title", "playlist_id"})
    return Arrangement(None, spread=len(songs) > 1 and not is_playlist)


def spread(documents: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """A playlist for each list in objects that hold several, under its name."""
    for document in documents:
        for name, value in document.items() if isinstance(document, dict) else ():
            if isinstance(value, list):
                yield {_NAME: name, _SONGS: value}


def holds_lists(document: Mapping[str, Any]) -> bool:
    """Whether an object is a document with lists of objects, rather than a row."""
    return any(
        isinstance(value, list) and any(isinstance(item, dict) for item in value)
        for value in document.values()
    )


def require_one_list(layout: Layout, where: str) -> None:
    """Raise FileError where it is not clear which of several lists holds the songs."""
    rivals = [name for name in layout.also if is_usual(name)]
    if layout.also and (rivals or not is_usual(layout.tracks)):
        raise FileError(
            f"{where}: its objects hold several lists of songs: "
            f"{_quoted([layout.tracks, *layout.also])}: leave one, or save each to a file"
        )


def beside(layout: Layout) -> list[str]:
    """What to say of lists of songs that are not read."""
    return list(_unread(layout.also))


class LateNames:
    """Watches for names that would have had a role, had they turned up in the sample.

    It looks at a part of the text here and there, as names that turn up mostly stay.
    """

    def __init__(self, names: Sequence[str], columns: Mapping[str, str]) -> None:
        known = {name.rsplit(".", 1)[-1].lower() for name in names}
        self._known = known
        self._watched = {role: names for role, names in _LATE.items() if role not in columns}

    def seen_in(self, data: bytes, line: int = 0) -> list[str]:
        """What to say of such names in this part of the file, which begins on this line."""
        said = []
        for start in range(0, len(data) if self._watched else 0, _APART):
            part = data[start : start + _LOOKED_AT]
            for role, pattern in list(self._watched.items()):
                match = pattern.search(part)
                if match is None:
                    continue
                del self._watched[role]
                name = match[1].decode()
                if name.lower() in self._known:
                    continue  # the user leaves this role out
                at = line + data.count(b"\n", 0, start + match.start())
                place = f"by line {at:,}" if line else "late in the file"
                said.append(
                    f"'{name}' ({role}) turns up {place}, and is not used: "
                    f"put an object that has it first"
                )
        return said


def _are_playlists(items: Sequence[Mapping[str, Any]]) -> bool:
    """Whether objects hold lists of songs, or are songs that name their playlists."""
    layout = layout_of(items)
    around = layout if layout.tracks else layout_of([{_SONGS: list(items)}])
    return bool(layout.tracks) or around.are_rows(around.suggested)


def _unread(names: Sequence[str]) -> tuple[str, ...]:
    return (f"not read: {_quoted(names)}",) if names else ()


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + more
