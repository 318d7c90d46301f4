"""What JSON objects hold: a row each, or a playlist each with a list of its songs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ingest.sources.columns import by_structure, is_role, roles_in
from ingest.sources.payload import PREFIX
from ingest.sources.source import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PLACE = "(place)"
"""Stands for a column: the place of an object in its file, where playlists have no id."""

TEXT, INTEGER, FLOAT, BOOLEAN, OTHER = "text", "integer", "float", "boolean", "other"
_LISTS = ("tracks", "songs", "items", "plays", "listens", "entries")
_SONG = {"artist", "title"}
_LOOKED_AT = 20  # elements of each list that tell whether it is one of songs
_TELLING, _SOME = 2000, 20
_DEEPEST = 4
_SHOWN = 400


@dataclass(frozen=True)
class Layout:
    """The names that objects have, dotted where they are nested, and the kind of their values.

    `tracks` is the name of the list of songs in each object, or "" where each object is a row.
    `also` are lists of songs beside that one, which are not read.
    """

    tracks: str
    kinds: Mapping[str, str]
    is_plain: bool = True  # no key holds a dot, and no name is now a value and now an object
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names; those of songs in a list begin with the list's."""
        return (*self.kinds, PLACE) if self.tracks else tuple(self.kinds)

    @property
    def suggested(self) -> dict[str, str]:
        """The roles that the structure tells."""
        names = [name for name, kind in self.kinds.items() if kind != BOOLEAN]
        inner = [name for name in names if self.is_inner(name)]
        outer = [name for name in names if not self.is_inner(name)]
        if not self.tracks:
            return by_structure(outer, ()) if any("." in name for name in outer) else {}
        found = by_structure(outer, inner)
        return found if self.are_rows(found) else {"playlist_id": PLACE, **found}

    def is_inner(self, name: str) -> bool:
        """Whether a name is that of a song in a list."""
        return bool(self.tracks) and name.startswith(f"{self.tracks}.")

    def places_songs(self, columns: Mapping[str, str]) -> bool:
        """Whether the place in its list is a song's position: a list is a playlist, of no other.

        Songs that name their playlists themselves are rows, in the order of the file.
        """
        return bool(self.tracks) and "position" not in columns and not self.are_rows(columns)

    def are_rows(self, columns: Mapping[str, str]) -> bool:
        """Whether songs in a list name their own playlists, or listeners."""
        named = (columns.get(role, "") for role in ("playlist_id", "playlist_name", "owner"))
        return any(map(self.is_inner, named))


def layout_of(objects: Iterable[Mapping[str, Any]]) -> Layout:
    """The layout of some objects."""
    objects = _telling(objects)
    tracks, also = _tracks_key(objects)
    kinds: dict[str, str] = {}
    for one in objects:
        for name, value in flat(one, skip=tracks):
            _note(kinds, name, value)
        listed = list_in(one, tracks) if tracks else None
        for track in listed if isinstance(listed, list) else ():
            if isinstance(track, dict):
                for name, value in flat(track):
                    _note(kinds, f"{tracks}.{name}", value)
    # What is null in one object and an object in another is no column of its own.
    kinds = {
        name: kind
        for name, kind in kinds.items()
        if kind or not any(other.startswith(f"{name}.") for other in kinds)
    }
    twofold = {name for name in kinds for other in kinds if other.startswith(f"{name}.")}
    return Layout(tracks, kinds, not twofold and not any(map(_has_dots, objects)), also)


def _telling(objects: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of many objects that can tell something new: the first, of other names, and some."""
    told: list[Mapping[str, Any]] = []
    seen = set()
    for at, one in enumerate(objects):
        names = (*one, *map(type, one.values()))
        if at < _TELLING or at % _SOME == 0 or names not in seen:
            seen.add(names)
            told.append(one)
    return told


def list_in(one: Mapping[str, Any], name: str) -> Any:
    """What stands in an object under the dotted name of a list."""
    value: Any = one
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def flat(one: Mapping[str, Any], prefix: str = "", skip: str = "", depth: int = 1) -> Iterator[Any]:
    """The (dotted name, value) pairs of an object, but that of the list named `skip`."""
    for key, value in one.items():
        name = prefix + key.replace(".", "_")
        if skip and name == skip:
            continue
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from flat(value, f"{name}.", skip, depth + 1)
        else:
            yield name, value


def _has_dots(value: Any) -> bool:
    if isinstance(value, dict):
        return any("." in key or _has_dots(inner) for key, inner in value.items())
    return isinstance(value, list) and any(map(_has_dots, value))


def _tracks_key(objects: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[str, ...]]:
    """The name of the list of songs that objects hold, or "", and those of other such lists.

    A list is one of songs where its objects have artist and title, or one of a usual name has the
    title and the object around it the artist. Where an object has both by itself, it is a song,
    unless a list of a usual name has both too.
    """
    lists: dict[str, list[Any]] = {}
    outer: dict[str, None] = {}
    for one in objects:
        for name, items in _lists_in(one):
            lists.setdefault(name, []).extend(items[:_LOOKED_AT])
        outer |= dict.fromkeys(name for name, _ in flat(one))
    around = roles_in([name for name in outer if name not in lists])
    roles = {name: names_of_songs(items) for name, items in lists.items()}
    songs = [name for name in lists if roles[name] >= _SONG]
    if around >= _SONG:
        songs = [name for name in songs if is_usual(name)]
        if not songs:
            return "", ()
    if not songs and "artist" in around:
        songs = [name for name in lists if is_usual(name) and "title" in roles[name]]
    usual = [name for key in _LISTS for name in songs if key in name.split(".")]
    if songs:
        found = (usual or sorted(songs, key=lambda name: -len(lists[name])))[0]
        return found, tuple(name for name in songs if name != found)
    # The songs of a list have names that nobody knows: --column will have to tell them.
    rest = {name: items for name, items in lists.items() if not is_role(name.split(".")[-1])}
    known = [key for key in _LISTS if key in rest]
    return known[0] if known else max(rest, key=lambda name: len(rest[name]), default=""), ()


def names_of_songs(items: Iterable[Any]) -> set[str]:
    """The roles that the elements of a list have, as songs; none where they are no objects."""
    names: dict[str, None] = {}
    for item in items:
        if isinstance(item, dict):
            names |= dict.fromkeys(name for name, _ in flat(item))
    return set(by_structure([], list(names))) if names else set()


def _lists_in(one: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    """The lists of objects in an object, and in an object within it, by dotted names."""
    for key, value in one.items():
        if "." in key:
            continue
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield prefix + key, value
        elif isinstance(value, dict) and not prefix:
            yield from _lists_in(value, f"{key}.")


def is_usual(name: str) -> bool:
    """Whether a list is called what lists of songs usually are."""
    return any(part in _LISTS for part in name.split("."))


def _note(kinds: dict[str, str], name: str, value: Any) -> None:
    kind = _kind(value)
    before = kinds.setdefault(name, kind)
    if kind and before != kind:
        numbers = {before, kind} == {INTEGER, FLOAT}
        kinds[name] = kind if not before else FLOAT if numbers else OTHER


def _kind(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return BOOLEAN
    kinds = {str: TEXT, int: INTEGER, float: FLOAT}
    return kinds.get(type(value), OTHER)


@dataclass(frozen=True)
class Taken:
    """Rows of some objects: where each stands, and its values by role; and what is refused."""

    places: list[int]
    values: dict[str, list[Any]]
    refused: list[Refusal]
    tracks: int


def take(
    objects: Iterable[tuple[int, Any]],
    layout: Layout,
    columns: Mapping[str, str],
    label: str,
    first_track: int | None,
) -> Taken:
    """The rows of objects, one after the other, in Python: exact, and slow.

    `objects` come with their places (lines). With `first_track`, rows are placed by the number of
    their track instead, beginning with that one.
    """
    places: list[int] = []
    values: dict[str, list[Any]] = {role: [] for role in columns}
    placed = layout.places_songs(columns)
    if placed:
        values.setdefault("position", [])
    refused: list[Refusal] = []
    tracks = 0

    def add(place: int, row: dict[str, Any], index: int) -> None:
        found: dict[str, Any] = {}
        for role, name in columns.items():
            value = f"{label} {row[PLACE]}" if name == PLACE else row.get(name)
            problem, found[role] = _value(role, value)
            if problem:
                refused.append(Refusal(place, f"{role} {problem}", _shown(row)))
                return
        places.append(place)
        for role in columns:
            values[role].append(found[role])
        if placed:
            values["position"].append(float(index))

    for at, one in objects:
        place = at if first_track is None else first_track + tracks
        if not isinstance(one, dict):
            tracks += 1
            refused.append(Refusal(place, "not a JSON object", _text(one)))
            continue
        if not layout.tracks:
            tracks += 1
            add(place, dict(flat(one)), 0)
            continue
        outer = dict(flat(one, skip=layout.tracks)) | {PLACE: at}
        songs = list_in(one, layout.tracks)
        if not isinstance(songs, list) or not songs:
            refused.append(Refusal(place, "a playlist without songs", _shown(outer)))
            continue
        for index, song in enumerate(songs):
            place = at if first_track is None else first_track + tracks
            tracks += 1
            if not isinstance(song, dict):
                refused.append(Refusal(place, "a song that is not a JSON object", _text(song)))
                continue
            inner = {f"{layout.tracks}.{name}": value for name, value in flat(song)}
            add(place, outer | inner, index)
    return Taken(places, values, refused, tracks)


def _value(role: str, value: Any) -> tuple[str, Any]:
    """What is wrong with a value for this role, or "", and the value as text or a number."""
    if value is None:
        return "", None
    if isinstance(value, list):
        names = [item.get("name") if isinstance(item, dict) else item for item in value]
        texts = [name for name in names if isinstance(name, str)]
        if len(texts) < len(names):
            return "is a list", None
        value = ", ".join(texts)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "is not valid text", None
        return "", value
    if isinstance(value, bool) and not role.startswith(PREFIX):
        return "is true or false, not text", None
    if isinstance(value, dict):
        return "is an object", None
    return "", value


def array_of(role: str, values: Sequence[Any]) -> pa.Array:
    """Values by `take` as an Arrow array: doubles for positions, of one type or else as text."""
    types = {type(value) for value in values if value is not None}
    if role == "position" and types <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if role.startswith(PREFIX) and len(types) == 1 and types <= {bool, float}:
        return pa.array(values)
    return pa.array([_as_text(value) for value in values], pa.string())


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:  # noqa: PLR0124 -- NaN stands for nothing
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2.0**53 else repr(value)
    return str(value)


def _shown(row: Mapping[str, Any]) -> str:
    return _text({name: value for name, value in row.items() if name != PLACE})


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, default=str)[:_SHOWN]
