"""JSON files: lines of objects, lists of objects, and slices of the Million Playlist Dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import EmptyFileError, FileError
from ingest.sources.columns import PLAYLIST_NUMBER, find_roles, is_song_list_name
from ingest.sources.content import read_blocks
from ingest.sources.encodings import is_encodable
from ingest.sources.formats.batch import Batch
from ingest.sources.formats.json_layout import (
    MAX_DEPTH,
    detect_layout,
    find_list,
    holds_lists,
    quote,
    value_at,
)
from ingest.sources.formats.json_stream import MAX_VALUE_SIZE, JsonStream, describe_problem
from ingest.sources.payload import PREFIX, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.sources.content import ByteStream, Content, Sample
    from ingest.sources.files import SourceFile
    from ingest.sources.formats.json_layout import Layout
    from ingest.sources.payload import PayloadKind

_LINE_END = "\n"
_BETWEEN_LINES = ",\n"  # with a line end, so that no text goes on in the next line
BATCH_SIZE = 1 << 16  # songs of a document
_MAX_SHOWN = 400  # characters of a record
_SLICE_COLUMNS = {"pid", "tracks.track_uri", "tracks.artist_name", "tracks.track_name"}


@dataclass(frozen=True)
class JsonFile:
    """A JSON file. `is_lines` says that each line is an object; else see `JsonStream.read_objects`
    for the meaning of `key`.
    """

    content: Content
    layout: Layout
    is_lines: bool
    key: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The format in words, such as `JSON lines`."""
        is_slice = self.key == "playlists" and set(self.layout.types) >= _SLICE_COLUMNS
        encoding = self.content.encoding
        parts = [
            "JSON lines" if self.is_lines else "Million Playlist Dataset" if is_slice else "JSON",
            "" if encoding.is_utf8 else encoding.name,
            self.content.compression,
        ]
        return ", ".join(part for part in parts if part)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order; those of songs in a list begin with its name."""
        return self.layout.columns.names

    @property
    def suggested(self) -> Mapping[str, str]:
        """The columns whose roles are clear from the structure, by role."""
        return self.layout.suggest_roles()

    def kind_of(self, name: str) -> PayloadKind | None:
        """Return the kind of a column's values in the sample, or None if it is text."""
        return self.layout.kind_of(name)

    def read_batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Yield all records, in order, each in one batch; `columns` maps roles to names.

        The line of a record in a document is its number among the songs of the file, from 1.
        Raises `FileError` if a document is malformed or cut short.
        """
        with self.content.open() as stream:
            read = self._read_lines if self.is_lines else self._read_documents
            for records in read(stream):
                yield self._to_batch(records, columns, stream.position())

    def _read_lines(self, stream: ByteStream) -> Iterator[_Records]:
        line = 1
        for block, _ in read_blocks(stream, b"\n", self.content.file):
            values, indices = _parse_lines(block.decode("utf-8", "surrogateescape"))
            yield _collect_records(self.layout, values, line + np.array(indices, np.int64))
            line += block.count(b"\n")

    def _read_documents(self, stream: ByteStream) -> Iterator[_Records]:
        values: list[Any] = []
        number, line, song_count = 1, 1, 0
        for value in JsonStream(stream.read, self.content.file).read_objects(self.key):
            values.append(value)
            songs = value_at(value, self.layout.songs_path) if self.layout.songs else None
            song_count += len(songs) if isinstance(songs, list) else 1
            if song_count >= BATCH_SIZE:
                numbers = number + np.arange(len(values))
                records = _collect_records(self.layout, values, numbers, line)
                yield records
                number, line = number + len(values), line + int(records.are_counted.sum())
                values, song_count = [], 0
        yield _collect_records(self.layout, values, number + np.arange(len(values)), line)

    def _to_batch(self, records: _Records, columns: Mapping[str, str], position: int) -> Batch:
        faults = dict(records.faults)
        songs = records.songs
        fields = self._convert_texts(songs, columns)
        for role, name in columns.items():
            if role in fields:
                continue
            if name == PLAYLIST_NUMBER:
                label = self.content.file.label
                array = pa.array([f"{label} {number}" for number in records.numbers.tolist()])
                fields[role] = array.take(pa.array(records.parents))
                continue
            path = self.layout.paths[name]
            is_outer = self.layout.songs and name not in self.layout.columns.inner
            values = _extract(records.objects if is_outer else songs, path)
            array, problems = _to_array(role, values, is_deepest=len(path) == MAX_DEPTH)
            if is_outer:
                array = array.take(pa.array(records.parents))
                problems = {
                    record: problems[parent]
                    for record, parent in enumerate(records.parents.tolist())
                    if problems and parent in problems
                }
            fields[role] = array
            for record, problem in problems.items():
                faults.setdefault(record, f"{role} {problem}")
        if self.layout.columns.numbers_songs(columns):
            fields["position"] = pa.array(records.indices.astype(np.float64))
        return Batch(records.lines, fields, faults, records.show, position)

    def _convert_texts(
        self, songs: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
    ) -> dict[str, pa.Array]:
        """Return the columns of songs that are not nested, if all their values are text."""
        keys = {
            role: self.layout.paths[name][0]
            for role, name in columns.items()
            if name in (self.layout.columns.inner or self.layout.columns.outer)
            and len(self.layout.paths[name]) == 1
            and self.layout.types[name] <= {str}
        }
        try:
            texts = pa.array(songs, pa.struct([(key, pa.string()) for key in set(keys.values())]))
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
            return {}
        return {role: pc.struct_field(texts, key) for role, key in keys.items()}


def open_json(content: Content, sample: Sample, *, is_lines: bool | None = None) -> JsonFile:
    """Detect from a sample how a JSON file is laid out.

    `is_lines` says whether each line is an object, if that is known. Raises `FileError` if the file
    holds no objects, and `EmptyFileError` if it holds no records.
    """
    text = sample.data.decode("utf-8", "surrogateescape")
    if sample.is_whole and not text.strip():
        raise EmptyFileError(f"{content.file} is empty")
    if is_lines is None:
        is_lines = _is_lines(text, is_whole=sample.is_whole)
    return _open_lines(content, sample, text) if is_lines else _open_documents(content, sample)


def _open_lines(content: Content, sample: Sample, text: str) -> JsonFile:
    file = content.file
    if not sample.is_whole:
        text = text[: text.rfind("\n") + 1]  # the last line may be incomplete
    values, _ = _parse_lines(text)
    objects = [value for value in values if isinstance(value, dict)]
    layout = detect_layout(objects, file)
    if not layout.types:
        raise FileError(f"{file}: its first lines hold no JSON object")
    _require_songs(objects, layout, sample, file)
    return JsonFile(content, layout, is_lines=True, remarks=_remark_unread(layout.unread))


def _open_documents(content: Content, sample: Sample) -> JsonFile:
    file = content.file
    if not looks_like_json(sample.data):
        raise FileError(f"{file} is not JSON: it begins with neither {{ nor [")
    key, other_lists = find_list(sample, file)
    objects = _read_sample(content, sample, key)
    layout = detect_layout(objects, file)
    _require_songs(objects, layout, sample, file)
    is_other_object = (
        key is None
        and len(objects) == 1
        and not layout.songs
        and not find_roles(layout.columns.names)
    )
    if not layout.types or is_other_object:
        raise FileError(f"{file}: there is no list of objects in it")
    remarks = _remark_unread([*other_lists, *layout.unread])
    return JsonFile(content, layout, is_lines=False, key=key, remarks=remarks)


def _require_songs(
    objects: Sequence[Mapping[str, Any]], layout: Layout, sample: Sample, file: SourceFile
) -> None:
    """Raise `EmptyFileError` if all objects of a file are playlists without songs."""
    if sample.is_whole and not layout.songs and objects and all(map(_lacks_songs, objects)):
        raise EmptyFileError(f"{file}: none of its playlists holds a song")


def _lacks_songs(item: Mapping[str, Any]) -> bool:
    return any(is_song_list_name(name) and value == [] for name, value in item.items())


def _remark_unread(lists: Sequence[str]) -> tuple[str, ...]:
    return (f"not read: {quote(lists)}",) if lists else ()


def looks_like_json(start: bytes) -> bool:
    """Return whether a text that begins like this is JSON."""
    return start.lstrip()[:1] in {b"{", b"["}


def _is_lines(text: str, *, is_whole: bool) -> bool:
    first, _, rest = text.lstrip().partition("\n")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        # A malformed first line, followed by objects on lines of their own.
        return rest.startswith("{") and first.startswith("{") and first.rstrip().endswith("}")
    if not isinstance(value, dict):
        return False
    is_document = value.get("playlists") == [] or holds_lists(value)
    return not (is_whole and not rest.strip() and is_document)


def _read_sample(content: Content, sample: Sample, key: str | None) -> list[Mapping[str, Any]]:
    """Return the objects in a sample of documents."""
    data = sample.data
    if key is None and not sample.is_whole:  # a single object may be longer than the sample
        with content.open() as stream:
            data = stream.read(MAX_VALUE_SIZE)
    values: list[Any] = []
    try:
        values.extend(JsonStream(BytesIO(data).read, content.file).read_objects(key))
    except FileError:
        if not values and (sample.is_whole or key is None):
            raise
        # The sample ends in the middle, or reading will report the problem.
    if sample.is_whole and not values:
        raise EmptyFileError(f"{content.file} holds no playlist: its list is empty")
    return [value for value in values if isinstance(value, dict)]


@dataclass(frozen=True)
class _Malformed:
    """A line that is not valid JSON."""

    text: str
    problem: str


def _parse_lines(text: str) -> tuple[list[Any], Sequence[int]]:
    """Parse lines of JSON; returns the values of those that are not blank, and their indices.

    The lines are parsed all at once or, if that fails, each by itself.
    """
    text = text.removesuffix("\n")
    line_count = text.count("\n") + 1
    try:
        values: list[Any] = json.loads(f"[{text.replace(_LINE_END, _BETWEEN_LINES)}]")
    except (ValueError, RecursionError):
        values = []
    if len(values) == line_count:
        return values, range(line_count)
    lines = text.split("\n")
    filled = [n for n, line in enumerate(lines) if line and not line.isspace()]
    return [_parse_line(lines[n]) for n in filled], filled


def _parse_line(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return _Malformed(line, describe_problem(error))


@dataclass(frozen=True)
class _Records:
    """The songs of some values of a file, and the records among them that are not songs.

    `numbers` are those of the values in the file, and `objects` the values (an empty object for one
    that is not an object). Of each record: its line, the index of its value, its index in the list
    of songs, the record as it is in the file, and whether it counts as a song of the file. `faults`
    are the reasons of those that cannot be read.
    """

    numbers: NDArray[np.int64]
    objects: list[Mapping[str, Any]]
    lines: NDArray[np.int64]
    parents: NDArray[np.int64]
    indices: NDArray[np.int64]
    raw: list[Any]
    are_counted: NDArray[np.bool_]
    faults: Mapping[int, str]

    @property
    def songs(self) -> list[Mapping[str, Any]]:
        """The songs; an empty object for each record that is not a song."""
        if not self.faults:
            return self.raw
        return [{} if n in self.faults else record for n, record in enumerate(self.raw)]

    def show(self, record: int) -> str:
        """Return the text of a record."""
        value = self.raw[record]
        if isinstance(value, _Malformed):
            return value.text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return json.dumps(value, default=str)[:_MAX_SHOWN]


def _collect_records(
    layout: Layout, values: list[Any], numbers: NDArray[np.int64], first_line: int | None = None
) -> _Records:
    """Return the records of some values, which have these numbers in the file.

    The lines of the records are the numbers of their values or, with `first_line`, count the songs.
    """
    raw: list[Any] = []
    counts: list[int] = []  # records of each value
    faults: dict[int, str] = {}
    without_songs: list[int] = []
    for value in values if layout.songs else ():
        songs = value_at(value, layout.songs_path)
        if isinstance(songs, list) and songs:
            counts.append(len(songs))
            raw += songs
            continue
        if isinstance(value, dict):
            without_songs.append(len(raw))
            faults[len(raw)] = "a playlist without songs"
        else:
            faults[len(raw)] = _describe_value(value)
        counts.append(1)
        raw.append(value)
    if not layout.songs:
        raw, counts = values, [1] * len(values)
    reason = "a song that is not a JSON object" if layout.songs else ""
    if set(map(type, raw)) != {dict}:
        for record, value in enumerate(raw):
            if not isinstance(value, dict) and record not in faults:
                faults[record] = reason or _describe_value(value)
    parents = np.repeat(np.arange(len(values)), counts)
    starts = np.cumsum(counts) - counts
    are_counted = np.ones(len(raw), bool)
    are_counted[without_songs] = False
    lines = numbers[parents]
    if first_line is not None:
        lines = first_line + np.cumsum(are_counted) - are_counted
    return _Records(
        numbers,
        [value if isinstance(value, dict) else {} for value in values] if layout.songs else [],
        lines,
        parents,
        np.arange(len(raw)) - np.repeat(starts, counts),
        raw,
        are_counted,
        faults,
    )


def _describe_value(value: Any) -> str:
    """Return why a value of a file that is not an object cannot be read."""
    return (
        f"not valid JSON: {value.problem}" if isinstance(value, _Malformed) else "not a JSON object"
    )


def _extract(items: Sequence[Mapping[str, Any]], path: Sequence[str]) -> list[Any]:
    """Return the value of each object to which the keys of `path` lead, or None."""
    key, *rest = path
    values = [item.get(key) for item in items]
    for key in rest:
        values = [value.get(key) if isinstance(value, dict) else None for value in values]
    return values


def _to_array(
    role: str, values: Sequence[Any], *, is_deepest: bool
) -> tuple[pa.Array, dict[int, str]]:
    """Convert values for a role: positions to doubles if all are numbers, all others to text.

    Payload fields that are all floats or all booleans keep their type. Returns an array of n
    values, and what is wrong with those that cannot be converted, by their index.
    """
    types = set(map(type, values)) - {NoneType}
    try:
        if types <= {str}:
            return pa.array(values, pa.string()), {}
        if role == "position" and types <= {int, float}:
            return pa.array(values, pa.float64()), {}
    except (UnicodeEncodeError, pa.ArrowInvalid, OverflowError):
        pass  # a lone surrogate, or a number that no double holds exactly
    if types == {float}:
        numbers = pa.array(values, pa.float64())
        return (numbers if role.startswith(PREFIX) else as_text(numbers)), {}
    if types == {bool} and role.startswith(PREFIX):
        return pa.array(values, pa.bool_()), {}
    texts: list[str | None] = []
    problems: dict[int, str] = {}
    for n, value in enumerate(values):
        text, problem = _to_text(value, is_payload=role.startswith(PREFIX))
        if isinstance(value, dict) and is_deepest:
            problem = "is an object"
        texts.append(None if problem else text)
        if problem:
            problems[n] = problem
    return pa.array(texts, pa.string()), problems


def _to_text(value: Any, *, is_payload: bool) -> tuple[str | None, str]:
    """Return a value as text, and what is wrong with it, or ""."""
    if isinstance(value, list):  # such as the artists of a song
        items = [item.get("name") if isinstance(item, dict) else item for item in value]
        names = [name for name in items if isinstance(name, str)]
        if len(names) < len(items):
            return None, "is a list"
        value = ", ".join(names)
    if isinstance(value, str):
        return value, "" if is_encodable(value) else "is not valid text"
    if isinstance(value, bool):
        if not is_payload:
            return None, "is true or false, not text"
        return ("true" if value else "false"), ""
    if isinstance(value, float):
        return as_text(pa.array([value]))[0].as_py(), ""
    return (None if value is None or isinstance(value, dict) else str(value)), ""
