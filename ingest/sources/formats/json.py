"""Reader for JSON: JSON lines, lists of objects, and slices of the Million Playlist Dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import EmptyFileError, FileError
from ingest.sources.columns import find_roles, is_song_list_name
from ingest.sources.content import read_blocks
from ingest.sources.formats.batch import describe_unread
from ingest.sources.formats.json_layout import (
    detect_layout,
    find_list,
    holds_lists,
    holds_songs,
    values_at,
)
from ingest.sources.formats.json_lines import PlainLineParser, can_parse_plain_lines, parse_lines
from ingest.sources.formats.json_records import collect_records, to_batch
from ingest.sources.formats.json_stream import MAX_VALUE_SIZE, JsonStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ingest.sources.content import ByteStream, Content, Sample
    from ingest.sources.files import SourceFile
    from ingest.sources.formats.batch import Batch
    from ingest.sources.formats.json_layout import Layout
    from ingest.sources.payload import PayloadKind

BATCH_SIZE = 1 << 16  # approximate number of songs in a batch from a document
_SLICE_COLUMNS = {"pid", "tracks.track_uri", "tracks.artist_name", "tracks.track_name"}


@dataclass(frozen=True)
class JsonFile:
    """A JSON file.

    `is_lines` is set if each line is an object. Otherwise, `key` selects the list of objects in
    each document (see `JsonStream.read_objects`).
    """

    content: Content
    layout: Layout
    is_lines: bool
    key: str | None = None

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
        """The column names, in order.

        Names of columns that belong to songs in a list begin with the name of the list.
        """
        return self.layout.columns.names

    @property
    def suggested(self) -> Mapping[str, str]:
        """The columns whose roles are clear from the structure of the file, by role."""
        return self.layout.suggest_roles()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes for the user about an uncertain encoding and about unread lists of songs."""
        return (*self.content.remarks, *describe_unread(self.layout.unread))

    def kind_of(self, name: str) -> PayloadKind | None:
        """Return the payload kind of a column, as detected in the sample, or None if it is text."""
        return self.layout.kind_of(name)

    def read_batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the records in file order, as batches. `columns` maps roles to column names.

        In JSON documents, the line number of a record is the number of the song in the file,
        counted from 1. Raises `FileError` if a document is malformed or truncated.
        """
        with self.content.open() as stream:
            read = self._read_lines if self.is_lines else self._read_documents
            yield from read(stream, columns)

    def _read_lines(self, stream: ByteStream, columns: Mapping[str, str]) -> Iterator[Batch]:
        is_plain = can_parse_plain_lines(self.layout, columns)
        parser = PlainLineParser(self.layout, columns) if is_plain else None
        line = 1
        for block, _ in read_blocks(stream, b"\n", self.content.file):
            batch = parser.parse(block, line, stream.position()) if parser else None
            if batch:
                yield batch
                line += len(batch.lines)
                continue
            values, indices, line_count = parse_lines(block)
            records = collect_records(self.layout, values, line + indices)
            yield to_batch(records, columns, self.content.file.label, stream.position())
            line += line_count

    def _read_documents(self, stream: ByteStream, columns: Mapping[str, str]) -> Iterator[Batch]:
        documents = JsonStream(stream.read, self.content.file)
        number, line = 1, 1
        for values in self._read_values(documents):
            numbers = number + np.arange(len(values))
            records = collect_records(self.layout, values, numbers, line)
            batch = to_batch(records, columns, self.content.file.label, stream.position())
            other_lists = documents.other_lists.items()
            unread = [name for name, elements in other_lists if holds_songs(elements)]
            yield replace(batch, unread_lists=unread)
            number, line = number + len(values), line + records.song_count

    def _read_values(self, documents: JsonStream) -> Iterator[list[Any]]:
        """Yield all objects, in lists with about `BATCH_SIZE` songs each."""
        values: list[Any] = []
        song_count = 0
        for value in documents.read_objects(self.key):
            values.append(value)
            (songs,) = values_at([value], self.layout.songs_path) if self.layout.songs else [None]
            song_count += len(songs) if isinstance(songs, list) else 1
            if song_count >= BATCH_SIZE:
                yield values
                values, song_count = [], 0
        yield values


def open_json(content: Content, sample: Sample, *, is_lines: bool | None = None) -> JsonFile:
    """Open a JSON file. The layout is detected from the sample.

    `is_lines` tells whether each line is an object; None means that this is detected. Raises
    `FileError` if the file has no objects, and `EmptyFileError` if it has no records.
    """
    text = sample.data.decode("utf-8", "surrogateescape")
    if sample.is_whole and not text.strip():
        raise EmptyFileError(f"{content.file} is empty")
    if is_lines is None:
        is_lines = _is_lines(text, is_whole=sample.is_whole)
    return _open_lines(content, sample) if is_lines else _open_documents(content, sample)


def _open_lines(content: Content, sample: Sample) -> JsonFile:
    file = content.file
    data = sample.data
    if not sample.is_whole:
        data = data[: data.rfind(b"\n") + 1]  # the last line may be incomplete
    values, _, _ = parse_lines(data)
    objects = [value for value in values if isinstance(value, dict)]
    layout = detect_layout(objects, file)
    if not layout.types:
        raise FileError(f"{file}: its first lines hold no JSON object")
    _require_songs(objects, layout, sample, file)
    return JsonFile(content, layout, is_lines=True)


def _open_documents(content: Content, sample: Sample) -> JsonFile:
    file = content.file
    if not looks_like_json(sample.data):
        raise FileError(f"{file} is not JSON: it begins with neither {{ nor [")
    key = find_list(sample, file)
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
    return JsonFile(content, layout, is_lines=False, key=key)


def _require_songs(
    objects: Sequence[Mapping[str, Any]], layout: Layout, sample: Sample, file: SourceFile
) -> None:
    """Raise `EmptyFileError` if all objects in the file are playlists without songs."""
    if sample.is_whole and not layout.songs and objects and all(map(_lacks_songs, objects)):
        raise EmptyFileError(f"{file}: none of its playlists holds a song")


def _lacks_songs(item: Mapping[str, Any]) -> bool:
    return any(is_song_list_name(name) and value == [] for name, value in item.items())


def looks_like_json(start: bytes) -> bool:
    """Return whether a text that begins with `start` is probably JSON."""
    return start.lstrip()[:1] in {b"{", b"["}


def _is_lines(text: str, *, is_whole: bool) -> bool:
    first, _, rest = text.lstrip().partition("\n")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        # JSON lines with a malformed first line.
        return rest.startswith("{") and first.startswith("{") and first.rstrip().endswith("}")
    if not isinstance(value, dict):
        return False
    is_document = value.get("playlists") == [] or holds_lists(value)
    return not (is_whole and not rest.strip() and is_document)


def _read_sample(content: Content, sample: Sample, key: str | None) -> list[Mapping[str, Any]]:
    """Return the objects in the sample. For `key`, see `JsonStream.read_objects`."""
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
        # The sample ends inside a value. If the text is malformed, `read_batches` raises the error.
    if sample.is_whole and not values:
        raise EmptyFileError(f"{content.file} holds no playlist: its list is empty")
    return [value for value in values if isinstance(value, dict)]
