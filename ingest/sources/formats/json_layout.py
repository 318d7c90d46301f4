"""Detect the layout of JSON objects: songs, or playlists with lists of songs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.errors import FileError
from ingest.sources.columns.roles import ColumnNames, name_own_playlists
from ingest.sources.columns.song_lists import are_songs, find_song_lists, require_one_list
from ingest.sources.formats.batch import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ingest.sources.values.payload import PayloadKind

_MAX_DEPTH = 4  # maximum depth of nested objects whose values become columns
_MAX_EXAMPLES = 1000  # maximum number of values examined to decide whether a list holds songs
_PLAYLISTS = "playlists"

Path = tuple[str, ...]


@dataclass(frozen=True)
class JsonColumn:
    """A column of JSON objects: the keys that lead to its values, and their types except null."""

    path: Path
    types: set[type]

    @property
    def is_text(self) -> bool:
        """Whether all values in the sample are text."""
        return self.types <= {str}

    @property
    def kind(self) -> PayloadKind | None:
        """The payload kind of the values, or None if they are text."""
        if self.types == {bool}:
            return "boolean"
        if self.types == {int}:
            return "integer"
        return "float" if self.types and self.types <= {int, float} else None


@dataclass(frozen=True)
class Layout:
    """The columns of JSON objects.

    - `songs`: the path of the list of songs in each object, or () if each object is a song.
    - `columns`: the columns by name. Names are dotted. Those of songs in a list begin with the
      name of the list, but their paths begin at the song.
    - `unread`: the names of other lists of songs.
    - `object_keys`, `song_keys`: the keys that occur in objects and in the songs of a list, grouped
      by the path of the (nested) object that contains them.
    """

    songs: Path
    columns: Mapping[str, JsonColumn]
    names: ColumnNames
    unread: tuple[str, ...]
    object_keys: Mapping[Path, set[str]]
    song_keys: Mapping[Path, set[str]]

    def find_late_names(self, objects: Sequence[Any], songs: Sequence[Any]) -> set[str]:
        """Return the dotted names of keys that do not occur in the sample of the file."""
        names = {".".join(path) for path in _find_late(objects, self.object_keys)}
        names |= {".".join((*self.songs, *path)) for path in _find_late(songs, self.song_keys)}
        return {name.encode("utf-8", "backslashreplace").decode() for name in names}


def detect_layout(objects: Iterable[Any], file: object) -> Layout:
    """Return the layout of the values that are objects.

    Raises `FileError` if it is unclear which of several lists contains the songs.
    """
    outer = _Columns(objects)
    lists = outer.song_lists()
    require_one_list(lists, file)
    songs = lists[0] if lists else ""
    inner = _Columns(outer.lists[songs] if songs else ())
    columns = {
        name: column
        for name, column in outer.columns().items()
        if not songs or (name != songs and not name.startswith(f"{songs}."))
    }
    outer_names = tuple(columns)
    columns |= {f"{songs}.{name}": column for name, column in inner.columns().items()}
    names = ColumnNames(
        outer_names,
        tuple(columns)[len(outer_names) :],
        {name for name, column in columns.items() if column.kind == "boolean"},
    )
    path = outer.paths[songs] if songs else ()
    return Layout(path, columns, names, lists[1:], outer.keys, inner.keys)


def find_list(document: Any, file: object) -> str | None:
    """Return the key of the list of objects in a document.

    The key is "" if the document itself is the list, and None if the document is a single object.
    Raises `FileError` if the document contains several lists of playlists, none of which is called
    "playlists".
    """
    if not isinstance(document, dict):
        return ""
    lists = {name: value for name, value in document.items() if _has_objects(value)}
    playlists = list(find_lists(document, _PLAYLISTS))
    if any(map(_has_objects, playlists)) or (playlists and not lists):
        return _PLAYLISTS
    names = [name for name, elements in lists.items() if _are_playlists(elements)]
    if len(names) > 1:
        raise FileError(
            f"{file} holds several lists of playlists: {quote(names)}: save each to a file"
        )
    return names[0] if names else None


def find_lists(document: Any, key: str | None) -> Iterator[list[Any]]:
    """Yield the lists of a parsed JSON document whose elements `JsonStream.read_objects` returns.

    If `key` is None, the document itself is the only element. If `key` is empty, the document is
    the list. Otherwise, the lists are all values of this key, at any depth of nested objects.
    """
    if key is None:
        yield [document]
    elif isinstance(document, list):
        if not key:
            yield document
    elif isinstance(document, dict):
        for name, value in document.items():
            if name == key and isinstance(value, list):
                yield value
            elif isinstance(value, dict):
                yield from find_lists(value, key)


def holds_songs(elements: Sequence[Any]) -> bool:
    """Return whether the objects in a list are songs, or playlists with songs."""
    return are_songs(list(_Columns(elements[:_MAX_EXAMPLES]).columns())) or _are_playlists(elements)


def values_at(items: Sequence[Any], path: Path) -> Sequence[Any]:
    """Return the value at `path` in each item, or None for an item without such a value."""
    for key in path:
        try:
            items = [item.get(key) for item in items]
        except AttributeError:  # not all items are objects
            items = [item.get(key) if isinstance(item, dict) else None for item in items]
    return items


def _are_playlists(elements: Sequence[Any]) -> bool:
    """Return whether objects contain lists of songs, or are songs that name their playlists."""
    columns = _Columns(elements[:_MAX_EXAMPLES])
    return bool(columns.song_lists()) or name_own_playlists(list(columns.columns()))


def _has_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(element, dict) for element in value)


def _find_late(items: Sequence[Any], keys: Mapping[Path, set[str]]) -> Iterator[Path]:
    """Yield the path of each key of `items` that is not in `keys`."""
    for path, known in keys.items():
        objects = [value for value in values_at(items, path) if isinstance(value, dict)]
        for key in set[str]().union(*objects) - known:
            yield (*path, key)


class _Columns:
    """Collects the columns of all objects among `values`, and the objects in their lists."""

    def __init__(self, values: Iterable[Any]) -> None:
        self.paths: dict[str, Path] = {}
        self.lists: dict[str, list[Any]] = {}
        self.keys: dict[Path, set[str]] = {}
        self._types: dict[str, set[type]] = {}
        self._shapes: set[tuple[Path, tuple[str, ...], tuple[type, ...]]] = set()
        for value in values:
            if isinstance(value, dict):
                self._add(value, "", ())
        # If all values of a column in the sample are null, later values may be objects.
        for name, types in self._types.items():
            if not types:
                self.keys.setdefault(self.paths[name], set())

    def _add(self, item: Mapping[str, Any], prefix: str, path: Path) -> None:
        """Add the columns of an object at `path`. Their names begin with `prefix`."""
        shape = (path, tuple(item), tuple(map(type, item.values())))
        if shape in self._shapes and dict not in shape[2] and list not in shape[2]:
            return  # all columns of the object are known
        self._shapes.add(shape)
        self.keys.setdefault(path, set()).update(item)
        for key, value in item.items():
            name = prefix + (key.replace(".", "_") if "." in key else key)
            if isinstance(value, dict):
                if len(path) + 1 < _MAX_DEPTH:
                    self._add(value, f"{name}.", (*path, key))
                continue
            self.paths.setdefault(name, (*path, key))
            types = self._types.setdefault(name, set())
            if value is not None:
                types.add(type(value))
            if len(path) <= 1 and _has_objects(value):
                self.lists.setdefault(name, []).extend(value)

    def columns(self) -> dict[str, JsonColumn]:
        """Return the columns by name.

        A name that is null in some objects and an object in others is not a column.
        """
        parents = {name.rpartition(".")[0] for name in self._types}
        return {
            name: JsonColumn(self.paths[name], types)
            for name, types in self._types.items()
            if types or name not in parents
        }

    def song_lists(self) -> tuple[str, ...]:
        """Return the names of the lists of songs, the best one first (see `find_song_lists`)."""
        inner = {
            name: list(_Columns(values[:_MAX_EXAMPLES]).columns())
            for name, values in self.lists.items()
        }
        return find_song_lists([name for name in self.columns() if name not in inner], inner)
