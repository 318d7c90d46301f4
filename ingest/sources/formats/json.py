"""JSON files: lines of objects, lists of objects, and slices of the Million Playlist Dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import EmptyFileError, FileError
from ingest.sources.columns import find_roles, is_song_list_name
from ingest.sources.content import read_blocks
from ingest.sources.formats.json_layout import (
    detect_layout,
    find_list,
    holds_lists,
    quote,
    value_at,
)
from ingest.sources.formats.json_records import MalformedLine, collect_records, to_batch
from ingest.sources.formats.json_stream import MAX_VALUE_SIZE, JsonStream, describe_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.sources.content import ByteStream, Content, Sample
    from ingest.sources.files import SourceFile
    from ingest.sources.formats.batch import Batch
    from ingest.sources.formats.json_layout import Layout
    from ingest.sources.formats.json_records import JsonRecords
    from ingest.sources.payload import PayloadKind

_LINE_END = "\n"
_BETWEEN_LINES = ",\n"  # with a line end, so that no text goes on in the next line
BATCH_SIZE = 1 << 16  # songs of a document
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
                yield to_batch(records, columns, self.content.file.label, stream.position())

    def _read_lines(self, stream: ByteStream) -> Iterator[JsonRecords]:
        line = 1
        for block, _ in read_blocks(stream, b"\n", self.content.file):
            values, indices, line_count = _parse_lines(block.decode("utf-8", "surrogateescape"))
            yield collect_records(self.layout, values, line + indices)
            line += line_count

    def _read_documents(self, stream: ByteStream) -> Iterator[JsonRecords]:
        values: list[Any] = []
        number, line, song_count = 1, 1, 0
        for value in JsonStream(stream.read, self.content.file).read_objects(self.key):
            values.append(value)
            songs = value_at(value, self.layout.songs_path) if self.layout.songs else None
            song_count += len(songs) if isinstance(songs, list) else 1
            if song_count >= BATCH_SIZE:
                numbers = number + np.arange(len(values))
                records = collect_records(self.layout, values, numbers, line)
                yield records
                number, line = number + len(values), line + records.song_count
                values, song_count = [], 0
        yield collect_records(self.layout, values, number + np.arange(len(values)), line)


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
    values, _, _ = _parse_lines(text)
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


def _parse_lines(text: str) -> tuple[list[Any], NDArray[np.int64], int]:
    """Parse lines of JSON.

    Returns the values of the lines that are not blank, their indices, and the number of lines.

    The lines are parsed all at once or, if that fails, each by itself.
    """
    text = text.removesuffix("\n")
    line_count = text.count("\n") + 1
    try:
        values: list[Any] = json.loads(f"[{text.replace(_LINE_END, _BETWEEN_LINES)}]")
    except (ValueError, RecursionError):
        values = []
    if len(values) == line_count:
        return values, np.arange(line_count), line_count
    lines = text.split("\n")
    filled = [n for n, line in enumerate(lines) if line and not line.isspace()]
    values = [_parse_line(lines[n]) for n in filled]
    return values, np.array(filled, np.int64), line_count


def _parse_line(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return MalformedLine(line, describe_problem(error))
