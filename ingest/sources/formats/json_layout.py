"""Detect the layout of JSON objects: songs, or playlists with lists of songs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Any

from catalog.errors import FileError
from ingest.sources.columns import (
    NestedColumns,
    find_roles,
    find_roles_in_list,
    is_role_name,
    is_song_list_name,
)
from ingest.sources.formats.batch import quote
from ingest.sources.formats.json_stream import MAX_EXAMPLES, JsonStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ingest.sources.content import Sample
    from ingest.sources.payload import PayloadKind

_MAX_DEPTH = 4  # maximum depth of nested objects whose values become columns
_SONG = {"artist", "title"}
_PLAYLISTS = "playlists"
_PLAYLIST_NAMES = {"name", "title", "id", "pid", "playlist_id"}
_PLAYLISTS_LIST = re.compile(rb'"playlists"\s*:\s*\[')
_HEAD_SIZE = 1 << 20  # bytes at the start of a large document, searched for the list of objects

Path = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The columns of JSON objects. Names of nested columns are dotted.

    - `songs`: the name of the list of songs in each object, or "" if each object is a song.
    - `types`: the Python types of the values of each column.
    - `paths`: the keys that lead to the values of each column. The path starts at the song for
      columns of songs in a list, otherwise at the object.
    - `unread`: names of other lists of songs.
    - `object_keys`, `song_keys`: the keys that occur in objects and in their songs, grouped by the
      path of the (nested) object that contains them.
    """

    songs: str
    songs_path: Path
    columns: NestedColumns
    types: Mapping[str, set[type]]
    paths: Mapping[str, Path]
    unread: tuple[str, ...]
    object_keys: Mapping[Path, set[str]]
    song_keys: Mapping[Path, set[str]]

    def suggest_roles(self) -> dict[str, str]:
        """Return the columns whose roles are clear from the structure, by role."""
        flags = [name for name, types in self.types.items() if types == {bool}]
        return self.columns.suggest_roles(ignored=flags)

    def kind_of(self, name: str) -> PayloadKind | None:
        """Return the payload kind of a column, or None if the column is text."""
        types = self.types.get(name, set())
        if types == {bool}:
            return "boolean"
        if types == {int}:
            return "integer"
        return "float" if types and types <= {int, float} else None


def detect_layout(objects: Sequence[Mapping[str, Any]], file: object) -> Layout:
    """Return the layout of the objects.

    Raises `FileError` if it is unclear which of several lists contains the songs.
    """
    outer = _collect_columns(objects)
    songs, unread = _choose_songs(objects, outer)
    if unread and (not is_song_list_name(songs) or any(map(is_song_list_name, unread))):
        raise FileError(
            f"{file}: its objects hold several lists of songs: {quote([songs, *unread])}: "
            f"keep only one of them, or save each to a file"
        )
    return _describe(objects, outer, songs, unread)


def find_list(sample: Sample, file: object) -> str | None:
    """Return the key of the list of objects in a document.

    The key is "" if the document itself is the list, and None if the document is a single object.
    Raises `FileError` if the document contains several lists of playlists, none of which is called
    "playlists", or several lists of songs but neither an id nor a name.
    """
    if sample.data.lstrip().startswith(b"["):
        return ""
    lists: dict[str, list[Any]] = {}
    names: set[str] = set()
    try:
        head = sample.data if sample.is_whole else sample.data[:_HEAD_SIZE]
        for name, value in JsonStream(BytesIO(head).read, file).read_members():
            names.add(name)
            if isinstance(value, list) and isinstance(value[0], dict):
                elements = lists.setdefault(name, [])
                if len(elements) < MAX_EXAMPLES:
                    elements += value
    except FileError:
        if sample.is_whole:
            return _PLAYLISTS if _PLAYLISTS_LIST.search(sample.data) else None
    if _PLAYLISTS in lists or (not lists and _PLAYLISTS_LIST.search(sample.data)):
        return _PLAYLISTS
    playlists = [name for name, elements in lists.items() if _are_playlists(elements)]
    if len(playlists) > 1:
        raise FileError(
            f"{file} holds several lists of playlists: {quote(playlists)}: save each to a file"
        )
    songs = [name for name, elements in lists.items() if _find_song_roles(elements) >= _SONG]
    if not playlists and len(songs) > 1 and not names & _PLAYLIST_NAMES:
        raise FileError(
            f"{file} holds several lists of songs, and is not one playlist, as it has neither id "
            f"nor name: {quote(songs)}: save each to a file"
        )
    return playlists[0] if playlists else None


def holds_songs(elements: Sequence[Any]) -> bool:
    """Return whether the objects in a list are songs, or playlists with songs."""
    objects = [element for element in elements if isinstance(element, dict)]
    return bool(objects) and (_find_song_roles(objects) >= _SONG or _are_playlists(objects))


def values_at(items: Sequence[Any], path: Path) -> list[Any]:
    """Return the value at `path` in each item, or None for an item without such a value."""
    values = list(items)
    for key in path:
        values = [value.get(key) if isinstance(value, dict) else None for value in values]
    return values


def count_late_names(items: Sequence[Any], keys: Mapping[Path, set[str]]) -> Counter[str]:
    """Count the objects in `items` that have a key which is not in `keys`, by dotted key name.

    `keys` contains the known keys, grouped by the path of the (nested) object that contains them.
    """
    counts: Counter[str] = Counter()
    for path, known in keys.items():
        objects = [value for value in values_at(items, path) if isinstance(value, dict)]
        if not known.issuperset(chain.from_iterable(set(map(tuple, objects)))):
            occurrences = Counter(chain.from_iterable(objects))
            for key, count in occurrences.items():
                if key not in known:
                    name = ".".join((*path, key))
                    counts[name.encode("utf-8", "backslashreplace").decode()] += count
    return counts


def holds_lists(document: Mapping[str, Any]) -> bool:
    """Return whether an object contains lists of objects."""
    return any(True for _ in _find_lists(document))


def _describe(
    objects: Sequence[Mapping[str, Any]], outer: _Columns, songs: str, unread: tuple[str, ...]
) -> Layout:
    songs_path = outer.paths[songs] if songs else ()
    inner = _Columns()
    for elements in values_at(objects, songs_path) if songs else ():
        inner.add_all(elements if isinstance(elements, list) else ())
    outer_names = [
        name
        for name in outer.names()
        if not songs or (name != songs and not name.startswith(f"{songs}."))
    ]
    inner_names = {f"{songs}.{name}": name for name in inner.names()}
    types = {name: outer.types[name] for name in outer_names}
    types |= {name: inner.types[inner_name] for name, inner_name in inner_names.items()}
    paths = {name: outer.paths[name] for name in outer_names}
    paths |= {name: inner.paths[inner_name] for name, inner_name in inner_names.items()}
    columns = NestedColumns(tuple(outer_names), tuple(inner_names))
    return Layout(songs, songs_path, columns, types, paths, unread, outer.keys(), inner.keys())


class _Columns:
    """Collects the columns of objects: dotted names, keys, and types of values."""

    def __init__(self) -> None:
        self.types: dict[str, set[type]] = {}
        self.paths: dict[str, Path] = {}
        self._keys: dict[Path, set[str]] = {}
        self._shapes: set[tuple[Path, tuple[str, ...], tuple[type, ...]]] = set()

    def add(self, item: Mapping[str, Any], prefix: str = "", path: Path = ()) -> None:
        """Add the columns of an object at `path`. Their names begin with `prefix`."""
        shape = (path, tuple(item), tuple(map(type, item.values())))
        if shape in self._shapes and dict not in shape[2]:
            return  # all columns of the object are known
        self._shapes.add(shape)
        self._keys.setdefault(path, set()).update(item)
        for key, value in item.items():
            name = prefix + (key.replace(".", "_") if "." in key else key)
            if isinstance(value, dict):
                if len(path) + 1 < _MAX_DEPTH:
                    self.add(value, f"{name}.", (*path, key))
                continue
            if name not in self.types:
                self.types[name] = set()
                self.paths[name] = (*path, key)
            if value is not None:
                self.types[name].add(type(value))

    def add_all(self, values: Sequence[Any]) -> None:
        """Add the columns of all values that are objects."""
        for value in values:
            if isinstance(value, dict):
                self.add(value)

    def keys(self) -> dict[Path, set[str]]:
        """Return the known keys of each object, by the path of the object.

        Paths whose values were all null are included, because later values may be objects.
        """
        null_paths = [self.paths[name] for name, types in self.types.items() if not types]
        return {path: set[str]() for path in null_paths} | self._keys

    def names(self) -> list[str]:
        """Return the names of all columns.

        A name that is null in some objects and an object in others is not a column.
        """
        parents = {name.rpartition(".")[0] for name in self.types}
        return [name for name, types in self.types.items() if types or name not in parents]


def _choose_songs(
    objects: Sequence[Mapping[str, Any]], outer: _Columns
) -> tuple[str, tuple[str, ...]]:
    """Return the name of the list of songs in each object, and names of other lists of songs.

    The name is "" if each object is a song. A list counts as a list of songs if the objects in it
    have artist and title. An object that itself has artist and title is a song, unless one of its
    lists of songs has a known name, such as "tracks". If no list has artist and title, lists with a
    known name are preferred to other lists, and --column must name the columns of the songs.
    """
    lists: dict[str, list[Any]] = {}
    for item in objects if list in set().union(*outer.types.values()) else ():
        for name, elements in _find_lists(item):
            lists.setdefault(name, []).extend(elements[:MAX_EXAMPLES])
    if not lists:
        return "", ()
    roles_around = find_roles([name for name in outer.names() if name not in lists])
    songs = [name for name, elements in lists.items() if _find_song_roles(elements) >= _SONG]
    if roles_around >= _SONG:
        songs = [name for name in songs if is_song_list_name(name)]
        if not songs:
            return "", ()
    if not songs:
        others = [name for name in lists if not is_role_name(name.rsplit(".", 1)[-1])]
        songs = [name for name in others if is_song_list_name(name)] or others
    songs.sort(key=lambda name: not is_song_list_name(name))
    return (songs[0], tuple(songs[1:])) if songs else ("", ())


def _find_lists(item: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Yield the lists of objects in `item` and in objects directly inside it, with dotted names."""
    for key, value in item.items():
        if _is_list_of_objects(value):
            yield prefix + key.replace(".", "_"), value
        elif isinstance(value, dict) and not prefix:
            yield from _find_lists(value, f"{key.replace('.', '_')}.")


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(element, dict) for element in value)


def _find_song_roles(elements: Sequence[Any]) -> set[str]:
    """Return the roles that keys have in a list of objects, assuming that each object is a song."""
    return find_roles_in_list(list(_collect_columns(elements).types))


def _are_playlists(elements: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether objects contain lists of songs, or are songs that name their playlists."""
    songs, _ = _choose_songs(elements, _collect_columns(elements))
    if songs:
        return True
    document = [{"songs": elements}]
    layout = _describe(document, _collect_columns(document), "songs", ())
    return layout.columns.songs_are_rows(layout.suggest_roles())


def _collect_columns(values: Sequence[Any]) -> _Columns:
    columns = _Columns()
    columns.add_all(values)
    return columns
