"""Reader for JSON: JSON lines, lists of objects, and slices of the Million Playlist Dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import EmptyFileError, FileError
from ingest.sources.columns.roles import PLAYLIST_NUMBER
from ingest.sources.columns.song_lists import has_usual_name
from ingest.sources.files.content import read_blocks
from ingest.sources.formats.batch import NO_SONGS, Batch, describe_unread
from ingest.sources.formats.json_layout import (
    detect_layout,
    find_list,
    find_lists,
    holds_songs,
    values_at,
)
from ingest.sources.formats.json_lines import PlainLineParser, can_parse_plain_lines, parse_lines
from ingest.sources.formats.json_records import to_fields, unfold
from ingest.sources.formats.json_stream import JsonStream, parse_sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from ingest.sources.columns.roles import ColumnNames
    from ingest.sources.files.content import ByteStream, Content, Sample
    from ingest.sources.formats.json_layout import Layout
    from ingest.sources.formats.json_records import JsonRecords
    from ingest.sources.values.payload import PayloadKind

BATCH_SIZE = 1 << 14  # approximate number of songs in a batch from a document
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
        is_slice = self.key == "playlists" and set(self.layout.columns) >= _SLICE_COLUMNS
        name = "JSON lines" if self.is_lines else "Million Playlist Dataset" if is_slice else "JSON"
        return self.content.describe(name)

    @property
    def names(self) -> ColumnNames:
        """The names of the columns.

        Names of columns that belong to songs in a list begin with the name of the list.
        """
        return self.layout.names

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes for the user about an uncertain encoding and about unread lists of songs."""
        return (*self.content.remarks, *describe_unread(self.layout.unread))

    def kind_of(self, name: str) -> PayloadKind | None:
        """Return the payload kind of a column, as detected in the sample, or None if it is text."""
        column = self.layout.columns.get(name)
        return column.kind if column else None

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
            records = unfold(values, self.layout.songs)
            numbers = line + indices
            lines = numbers[records.parents]
            yield self._to_batch(values, numbers, records, lines, columns, stream.position())
            line += line_count

    def _read_documents(self, stream: ByteStream, columns: Mapping[str, str]) -> Iterator[Batch]:
        documents = JsonStream(stream.read, self.content.file)
        number, line = 1, 1
        for values in self._read_values(documents):
            records = unfold(values, self.layout.songs)
            is_song = np.ones(len(records.values), np.int64)
            is_song[[n for n, fault in records.faults.items() if fault == NO_SONGS]] = 0
            batch = self._to_batch(
                values,
                number + np.arange(len(values)),
                records,
                line + np.cumsum(is_song) - is_song,
                columns,
                stream.position(),
            )
            lists = documents.other_lists.items()
            unread = [name for name, elements in lists if holds_songs(elements)]
            yield replace(batch, unread_lists=unread)
            number, line = number + len(values), line + int(is_song.sum())

    def _to_batch(
        self,
        values: list[Any],
        numbers: NDArray[np.int64],
        records: JsonRecords,
        lines: NDArray[np.int64],
        columns: Mapping[str, str],
        position: int,
    ) -> Batch:
        ids: list[str] = []
        if PLAYLIST_NUMBER in columns.values():
            ids = [f"{self.content.file.label} {number}" for number in numbers.tolist()]
        fields, faults = to_fields(self.layout, values, records, columns, ids)
        late = self.layout.find_late_names(values, records.songs if self.layout.songs else ())
        return Batch(lines, fields, faults, records.show, position, late)

    def _read_values(self, documents: JsonStream) -> Iterator[list[Any]]:
        """Yield all objects, in lists with about `BATCH_SIZE` songs each."""
        values: list[Any] = []
        song_count = 0
        for value in documents.read_objects(self.key):
            values.append(value)
            (songs,) = values_at([value], self.layout.songs) if self.layout.songs else [None]
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
    file = content.file
    if sample.is_whole and not sample.data.strip():
        raise EmptyFileError(f"{file} is empty")
    if is_lines is None:
        is_lines = _is_lines(sample)
    key = None
    if is_lines:
        # The last line of a sample may be incomplete.
        data = sample.data if sample.is_whole else sample.data[: sample.data.rfind(b"\n") + 1]
        values, _, _ = parse_lines(data)
    elif looks_like_json(sample.data):
        documents = parse_sample(sample.data, file, is_whole=sample.is_whole)
        key = find_list(documents[0], file)
        values = [
            value for item in documents for elements in find_lists(item, key) for value in elements
        ]
        if sample.is_whole and not values:
            raise EmptyFileError(f"{file} holds no playlist: its list is empty")
    else:
        raise FileError(f"{file} is not JSON: it begins with neither {{ nor [")
    layout = detect_layout(values, file)
    if not layout.columns:
        raise FileError(f"{file}: there is no JSON object in it")
    if sample.is_whole and not layout.songs and all(map(_lacks_songs, values)):
        raise EmptyFileError(f"{file}: none of its playlists holds a song")
    return JsonFile(content, layout, is_lines, key)


def _lacks_songs(value: Any) -> bool:
    """Return whether a value is an object whose list of songs is empty, or no object at all."""
    if not isinstance(value, dict):
        return True
    return any(has_usual_name(name) and songs == [] for name, songs in value.items())


def looks_like_json(start: bytes) -> bool:
    """Return whether a text that begins with `start` is probably JSON."""
    return start.lstrip()[:1] in {b"{", b"["}


def _is_lines(sample: Sample) -> bool:
    """Return whether the first line is an object, and not the whole file."""
    first, _, rest = sample.data.lstrip().partition(b"\n")
    if sample.is_whole and not rest.strip():
        return False
    try:
        return isinstance(json.loads(first.decode("utf-8", "surrogateescape")), dict)
    except (ValueError, RecursionError):
        # The file may consist of JSON lines, the first of which is malformed.
        return rest.startswith(b"{") and first.startswith(b"{") and first.rstrip().endswith(b"}")
