"""JSON files: lines of objects, lists of objects, and slices of the Million Playlist Dataset.

Arrow parses whole blocks; a block that it cannot take as it should be, Python reads one object at a
time, to say what is wrong with which.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import FileError
from ingest.delimited import SAMPLE, blocks, cut
from ingest.json_blocks import Blocks, row_text
from ingest.json_layout import Layout, array_of, layout_of, take
from ingest.sources import Batch, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.contents import Content, Flow
    from ingest.payload import Given

LARGEST_DOCUMENT = 256 << 20
"""Bytes up to which a document is parsed at once."""

_OBJECTS = 200  # that decide about the layout
_HEAD = 1 << 20  # characters that tell which list it is
_STEP = 1 << 20  # characters of a large document read at a time
_LONGEST_OBJECT = 64 << 20  # characters
_ROWS = 1 << 16
_KINDS: Mapping[str, Given] = {"integer": "integer", "float": "float", "boolean": "boolean"}
_LIST_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:\s*\[\s*(?=\{)')


@dataclass(frozen=True)
class _Json:
    content: Content
    layout: Layout

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
        number = 1
        with self.content.flow() as flow:
            for data, _ in blocks(flow, b"\n", self.content.source):
                lines = cut(data, b"\n")
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
                refused.append(Refusal(number + at, f"not valid JSON: {_problem(error)}", shown))
        label = self.content.source.label
        return _batch(objects, refused, self.layout, columns, label, None, done)[0]


@dataclass(frozen=True)
class JsonDocument(_Json):
    """A file that is one list of objects, or an object that holds it under `key`.

    Where `key` is None, the whole document is the only object: a playlist.
    """

    key: str | None = ""

    @property
    def kind(self) -> str:
        """How the file was understood."""
        keys = {"tracks.track_uri", "tracks.artist_name", "tracks.track_name", "pid"}
        is_slice = self.key == "playlists" and keys <= set(self.layout.kinds)
        return _said("Million Playlist Dataset" if is_slice else "JSON", self)

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """All rows, in order; a row's line is its number among those of the file, from 1.

        Raises FileError where the document is malformed or cut short.
        """
        where, label = self.content.source, self.content.source.label
        with self.content.flow() as flow:
            data = flow.read(LARGEST_DOCUMENT + 1)
            if len(data) <= LARGEST_DOCUMENT and self.key is not None:
                fast = Blocks(self.layout, columns, label).document(data, self.key, flow.done())
                if fast is not None:
                    yield fast
                    return
            if self.key is None:
                yield self._single(data, columns, flow.done())
                return
            row, objects, size = 1, [], 0
            for at, one in enumerate(_elements(data, flow, self.key, str(where)), start=1):
                objects.append((at, one))
                songs = one.get(self.layout.tracks) if isinstance(one, dict) else None
                size += len(songs) if isinstance(songs, list) else 0
                if size + len(objects) >= _ROWS:
                    batch, rows = _batch(objects, [], self.layout, columns, label, row, flow.done())
                    yield batch
                    row, objects, size = row + rows, [], 0
            yield _batch(objects, [], self.layout, columns, label, row, flow.done())[0]

    def _single(self, data: bytes, columns: Mapping[str, str], done: int) -> Batch:
        try:
            one = json.loads(data.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError) as error:
            raise FileError(f"{self.content.source} is no valid JSON: {_problem(error)}") from error
        label = self.content.source.label
        return _batch([(1, one)], [], self.layout, columns, label, 1, done)[0]


def open_json(content: Content, *, lines: bool | None = None) -> JsonLines | JsonDocument:
    """Find out how a JSON file is laid out; `lines` says that it has an object a line, or has not.

    Raises FileError where it holds no objects.
    """
    where = content.source
    with content.flow() as flow:
        head = flow.read(SAMPLE)
        whole = not flow.read(1)
    text = head.decode("utf-8", "surrogateescape")
    if lines or (lines is None and _is_lines(text, whole=whole)):
        layout = layout_of(_objects_of_lines(text))
        if not layout.kinds:
            raise FileError(f"{where}: its first lines hold no JSON object")
        return JsonLines(content, layout)
    key = _list_key(text, str(where))
    if key is None:
        try:
            layout = layout_of([json.loads(text)])
        except ValueError as error:
            raise FileError(f"{where} is no valid JSON: {_problem(error)}") from error
    else:
        first = (one for _, one in zip(range(_OBJECTS), _some(text, key, str(where)), strict=False))
        layout = layout_of(one for one in first if isinstance(one, dict))
    if not layout.kinds:
        raise FileError(f"{where}: there is no list of objects in it")
    return JsonDocument(content, layout, key)


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
    except ValueError:
        # A first line that is malformed, but followed by objects on lines of their own.
        return rest.startswith("{") and first.startswith("{") and first.rstrip().endswith("}")
    if not isinstance(one, dict):
        return False
    return not (whole and not rest.strip() and isinstance(one.get("playlists"), list))


def _objects_of_lines(text: str) -> Iterator[dict[str, Any]]:
    found = 0
    for line in text.split("\n"):
        try:
            one = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(one, dict):
            yield one
            found += 1
            if found == _OBJECTS:
                return


def _list_key(text: str, where: str) -> str | None:
    """The key of the document's list of objects; "" for a list itself; None for a lone object."""
    start = text.lstrip()[:1]
    if start == "[":
        return ""
    if start != "{":
        raise FileError(f"{where} is no JSON: it begins with neither {{ nor [")
    keys = [match[1] for match in _LIST_KEY.finditer(text[:_HEAD])]
    if "playlists" in keys:
        return "playlists"
    if not keys:
        raise FileError(f"{where}: there is no list of objects in it")
    return None


def _some(text: str, key: str, where: str) -> Iterator[Any]:
    try:
        yield from _elements(text.encode("utf-8", "surrogateescape"), None, key, where)
    except FileError:
        return  # the sample ends in the middle; and what is malformed shows when it is read


def _elements(data: bytes, flow: Flow | None, key: str, where: str) -> Iterator[Any]:
    """The elements of the document's list; `data` is its beginning, `flow` has the rest."""
    decoder = json.JSONDecoder()
    pending = io.BytesIO(data)
    incomplete = b""

    def more() -> str:
        nonlocal incomplete
        raw = pending.read(_STEP) or (flow.read(_STEP) if flow else b"")
        chunk, incomplete = incomplete + raw, b""
        for cut_at in (1, 2, 3):  # a character is not taken apart
            if raw and chunk[-cut_at:][:1] >= b"\xc0":
                chunk, incomplete = chunk[:-cut_at], chunk[-cut_at:]
                break
        return chunk.decode("utf-8", "surrogateescape")

    text, at = more(), 0
    while not at:
        at = _start_of(text, key)
        if not at:
            chunk = more()
            if not chunk or len(text) > _LONGEST_OBJECT:
                raise FileError(f'{where}: there is no list "{key}" of objects in it')
            text += chunk
    while True:
        at = _skip(text, at, ",")
        if at < len(text) and text[at] == "]":
            return
        try:
            if at == len(text):
                raise ValueError("it ends in the middle of a list")
            one, end = decoder.raw_decode(text, at)
            if end == len(text):
                raise ValueError("it ends in the middle of a list")
        except (ValueError, RecursionError) as error:
            chunk = more()
            if not chunk or len(text) - at > _LONGEST_OBJECT:
                raise FileError(
                    f"{where} is no valid JSON, or cut short: {_problem(error)}"
                ) from error
            text, at = text[at:] + chunk, 0
            continue
        yield one
        at = end


def _start_of(text: str, key: str) -> int:
    """Where the list of this key has its first element; 0 if that is not in the text."""
    if not key:
        return text.find("[") + 1
    return next((match.end() for match in _LIST_KEY.finditer(text) if match[1] == key), 0)


def _skip(text: str, at: int, also: str) -> int:
    while at < len(text) and (text[at].isspace() or text[at] in also):
        at += 1
    return at


def _problem(error: Exception) -> str:
    return " ".join(str(error).split())[:100]


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
