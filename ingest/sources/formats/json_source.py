"""JSON files: lines of objects, lists of objects, and slices of the Million Playlist Dataset.

Arrow parses whole blocks; a block that it cannot take as it should be, Python reads one object at a
time, to say what is wrong with which.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import EmptyFileError, FileError
from ingest.sources.columns import roles_in
from ingest.sources.formats.delimited import SAMPLE, blocks, cut
from ingest.sources.formats.json_arrangement import (
    LateNames,
    arrangement,
    beside,
    holds_lists,
    require_one_list,
    spread,
)
from ingest.sources.formats.json_blocks import Blocks, row_text
from ingest.sources.formats.json_layout import Layout, array_of, is_usual, layout_of, list_in, take
from ingest.sources.formats.json_stream import LONGEST_OBJECT, Stream, problem
from ingest.sources.source import Batch, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.sources.content import Content
    from ingest.sources.payload import Given

LARGEST_DOCUMENT = 256 << 20
"""Bytes up to which a document is parsed at once."""

_ROWS = 1 << 16
_KINDS: Mapping[str, Given] = {"integer": "integer", "float": "float", "boolean": "boolean"}


@dataclass(frozen=True)
class _Json:
    content: Content
    layout: Layout
    remarks: list[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns, in order."""
        return self.layout.names

    @property
    def suggested(self) -> Mapping[str, str]:
        """The roles that its structure tells."""
        return self.layout.suggested

    def kind_of(self, name: str) -> Given | None:
        """The kind of a column's values in the first objects, or None for text."""
        return _KINDS.get(self.layout.kinds.get(name, ""))


@dataclass(frozen=True)
class JsonLines(_Json):
    """A file with an object a line."""

    @property
    def kind(self) -> str:
        """How the file was understood."""
        return _said("JSON lines", self)

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """All rows, in order; `columns` maps roles to names. A row's line is its object's."""
        fast = Blocks(self.layout, columns, self.content.source.label)
        watch = LateNames(self.layout.names, columns)
        number = 1
        with self.content.flow() as flow:
            for data, _ in blocks(flow, b"\n", self.content.source):
                lines = cut(data, b"\n")
                self.remarks.extend(watch.seen_in(data, number))
                filled = np.flatnonzero(
                    pc.binary_length(pc.ascii_trim_whitespace(_ascii(lines))).to_numpy() > 0
                )
                batch = fast.lines(data, number + filled, flow.done())
                yield batch or self._slow(lines, filled, columns, number, flow.done())
                number += len(lines)

    def _slow(
        self,
        lines: pa.Array,
        filled: NDArray[np.int64],
        columns: Mapping[str, str],
        number: int,
        done: int,
    ) -> Batch:
        objects: list[tuple[int, Any]] = []
        refused: list[Refusal] = []
        for at in filled.tolist():
            text = lines[at].as_py().decode("utf-8", "surrogateescape")
            try:
                objects.append((number + at, json.loads(text)))
            except (ValueError, RecursionError) as error:
                shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                refused.append(Refusal(number + at, f"not valid JSON: {problem(error)}", shown))
        label = self.content.source.label
        return _batch(objects, refused, self.layout, columns, label, None, done)[0]


@dataclass(frozen=True)
class JsonDocument(_Json):
    """Documents, one after the other: lists of objects, or objects that hold one under `key`.

    Where `key` is None, each document is itself an object: a playlist or, where `spread`, several,
    each a list under its name.
    """

    key: str | None = ""
    spread: bool = False

    @property
    def kind(self) -> str:
        """How the file was understood."""
        keys = {"tracks.track_uri", "tracks.artist_name", "tracks.track_name", "pid"}
        is_slice = self.key == "playlists" and keys <= set(self.layout.kinds)
        return _said("Million Playlist Dataset" if is_slice else "JSON", self)

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """All rows, in order; a row's line is its number among those of the file, from 1.

        Raises FileError where a document is malformed or cut short.
        """
        where, label = self.content.source, self.content.source.label
        watch = LateNames(self.layout.names, columns)
        with self.content.flow() as flow:
            data = flow.read(LARGEST_DOCUMENT + 1)
            self.remarks.extend(watch.seen_in(data))
            if len(data) <= LARGEST_DOCUMENT and self.key is not None:
                fast = Blocks(self.layout, columns, label).document(data, self.key, flow.done())
                if fast is not None:
                    yield fast
                    return
            stream = Stream(data, flow, str(where), _longest(self.key)).objects(self.key)
            del data
            row, objects, size = 1, [], 0
            for at, one in enumerate(spread(stream) if self.spread else stream, start=1):
                objects.append((at, one))
                tracks = self.layout.tracks
                songs = list_in(one, tracks) if tracks and isinstance(one, dict) else None
                size += len(songs) if isinstance(songs, list) else 0
                if size + len(objects) >= _ROWS:
                    batch, rows = _batch(objects, [], self.layout, columns, label, row, flow.done())
                    yield batch
                    row, objects, size = row + rows, [], 0
            yield _batch(objects, [], self.layout, columns, label, row, flow.done())[0]


def open_json(content: Content, *, lines: bool | None = None) -> JsonLines | JsonDocument:
    """Find out how a JSON file is laid out; `lines` says that it has an object a line, or has not.

    Raises FileError where it holds no objects.
    """
    where = str(content.source)
    with content.flow() as flow:
        head = flow.read(SAMPLE)
        whole = not flow.read(1)
    text = head.decode("utf-8", "surrogateescape")
    if lines or (lines is None and _is_lines(text, whole=whole)):
        layout = layout_of(_objects_of_lines(text))
        if whole and not text.strip():
            raise EmptyFileError(f"{where} is empty")
        if not layout.kinds:
            raise FileError(f"{where}: its first lines hold no JSON object")
        _require_songs(_objects_of_lines(text) if whole else (), layout, where)
        require_one_list(layout, where)
        return JsonLines(content, layout, [*content.remarks, *beside(layout)])
    if whole and not text.strip():
        raise EmptyFileError(f"{where} is empty")
    if not text.lstrip().startswith(("{", "[")):
        raise FileError(f"{where} is no JSON: it begins with neither {{ nor [")
    found = arrangement(head, where, whole=whole)
    with content.flow() as flow:  # a lone object may be longer than the sample
        sample = head if found.key is not None else flow.read(LARGEST_DOCUMENT + 1)
    stream = Stream(sample, None, where, _longest(found.key)).objects(found.key)
    objects = spread(stream) if found.spread else stream
    every = list(_some(objects, whole=whole or found.key is None))
    if whole and not every:
        raise EmptyFileError(f"{where} holds no playlist: its list is empty")
    first = [one for one in every if isinstance(one, dict)]
    layout = layout_of(first)
    _require_songs(first if whole else (), layout, where)
    is_nothing = found.key is None and len(first) == 1 and not layout.tracks
    if not layout.kinds or (is_nothing and not roles_in(layout.names)):
        raise FileError(f"{where}: there is no list of objects in it")
    require_one_list(layout, where)
    remarks = [*content.remarks, *found.remarks, *beside(layout)]
    return JsonDocument(content, layout, remarks, found.key, found.spread)


def is_json(head: bytes) -> bool:
    """Whether a text that begins so is JSON."""
    return head.lstrip()[:1] in {b"{", b"["}


def _said(what: str, source: _Json) -> str:
    encoding = source.content.encoding
    parts = [what, "" if encoding.is_utf8 else encoding.said, source.content.packed]
    return ", ".join(part for part in parts if part)


def _is_lines(text: str, *, whole: bool) -> bool:
    first, _, rest = text.lstrip().partition("\n")
    try:
        one = json.loads(first)
    except (ValueError, RecursionError):
        # A first line that is malformed, but followed by objects on lines of their own.
        return rest.startswith("{") and first.startswith("{") and first.rstrip().endswith("}")
    if not isinstance(one, dict):
        return False
    is_slice = one.get("playlists") == [] or holds_lists(one)
    return not (whole and not rest.strip() and is_slice)


def _objects_of_lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.split("\n"):
        try:
            one = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(one, dict):
            yield one


def _longest(key: str | None) -> int:
    """The longest object: where documents are objects themselves, it is that of a document."""
    return LONGEST_OBJECT if key is not None else max(LONGEST_OBJECT, LARGEST_DOCUMENT)


def _some(objects: Iterator[Any], *, whole: bool) -> Iterator[Any]:
    none = True
    try:
        for one in objects:
            none = False
            yield one
    except FileError:
        if whole and none:
            raise
        return  # the sample ends in the middle; and what is malformed shows when it is read


def _require_songs(objects: Iterable[Mapping[str, Any]], layout: Layout, where: str) -> None:
    """Raise `EmptyFileError` when all of a file's objects are playlists without songs."""
    if layout.tracks:
        return
    empty = [any(is_usual(name) and value == [] for name, value in one.items()) for one in objects]
    if empty and all(empty):
        raise EmptyFileError(f"{where}: none of its playlists holds a song")


def _batch(
    objects: Iterable[tuple[int, Any]],
    refused: Sequence[Refusal],
    layout: Layout,
    columns: Mapping[str, str],
    label: str,
    first_row: int | None,
    done: int,
) -> tuple[Batch, int]:
    """The rows of objects, and how many songs they hold."""
    taken = take(objects, layout, columns, label, first_row)
    fields = {role: array_of(role, values) for role, values in taken.values.items()}
    order = sorted([*refused, *taken.refused], key=lambda refusal: refusal.line)
    places = np.array(taken.places, np.int64)
    return Batch(places, fields, order, partial(row_text, fields), done), taken.tracks


def _ascii(lines: pa.Array) -> pa.Array:
    """Lines of bytes as an array on which the functions for text work."""
    return pa.Array.from_buffers(pa.string(), len(lines), lines.buffers(), offset=lines.offset)
