"""Whole blocks of JSON objects to rows, with Arrow's parser."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ingest.sources.formats import json_layout
from ingest.sources.formats.json_layout import PLACE
from ingest.sources.payload import PREFIX, as_text
from ingest.sources.source import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ingest.sources.formats.json_layout import Layout

_TYPES = {
    json_layout.TEXT: pa.string(),
    json_layout.INTEGER: pa.int64(),
    json_layout.FLOAT: pa.float64(),
    json_layout.BOOLEAN: pa.bool_(),
    "": pa.null(),
}
_WRAPPED = "objects"


class Blocks:
    """Parses whole blocks of objects with Arrow; gives None where they are not as expected."""

    def __init__(self, layout: Layout, columns: Mapping[str, str], label: str) -> None:
        self._layout = layout
        self._columns = columns
        self._label = label
        wanted = [name for name in columns.values() if name != PLACE]
        kinds = [layout.kinds.get(name, "") for name in wanted]
        self._possible = (
            layout.is_plain
            and "." not in layout.tracks
            and all(kind in _TYPES for kind in kinds)
            and all(
                role.startswith(PREFIX) or layout.kinds.get(name) != json_layout.BOOLEAN
                for role, name in columns.items()
            )
        )
        self._schema = _schema(dict(zip(wanted, kinds, strict=True)), layout.tracks)

    def lines(self, data: bytes, places: NDArray[np.int64], done: int) -> Batch | None:
        """The rows of a block of lines; `places` are the lines of its objects."""
        table = self._parsed(data, self._schema, many=True)
        if table is None or len(table) != len(places):
            return None
        return self._rows(table, places, by_track=False, done=done)

    def document(self, data: bytes, key: str, done: int) -> Batch | None:
        """The rows of a whole document."""
        if not key:
            data = b'{"' + _WRAPPED.encode() + b'":' + data + b"}"
        objects = pa.struct(list(self._schema))
        schema = pa.schema([(key or _WRAPPED, pa.list_(objects))])
        whole = self._parsed(data, schema, many=False)
        if whole is None or len(whole) != 1 or whole.column(0).null_count:
            return None
        elements = whole.column(0).combine_chunks().flatten()
        if elements.null_count:
            return None
        table = pa.table(
            [pc.struct_field(elements, i) for i in range(len(self._schema))], schema=self._schema
        )
        return self._rows(table, np.arange(1, len(table) + 1), by_track=True, done=done)

    def _parsed(self, data: bytes, schema: pa.Schema, *, many: bool) -> pa.Table | None:
        if not self._possible or not data.strip():
            return None
        try:
            if not data.isascii():
                data.decode()
            return pj.read_json(
                io.BytesIO(data),
                read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 16),
                parse_options=pj.ParseOptions(
                    explicit_schema=schema,
                    newlines_in_values=not many,
                    unexpected_field_behavior="ignore",
                ),
            )
        except (pa.ArrowException, UnicodeDecodeError):
            return None

    def _rows(
        self, table: pa.Table, places: NDArray[np.int64], *, by_track: bool, done: int
    ) -> Batch | None:
        tracks = self._layout.tracks
        line, parents = places, None
        fields: dict[str, pa.Array] = {}
        inner: pa.Array = None
        if tracks:
            lists = table[tracks].combine_chunks()
            lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
            inner = lists.flatten()
            if inner.null_count or not lengths.all():
                return None
            parents = pa.array(np.repeat(np.arange(len(table)), lengths))
            line = np.arange(1, len(inner) + 1) if by_track else np.repeat(places, lengths)
        for role, name in self._columns.items():
            if name == PLACE:
                texts = [f"{self._label} {place}" for place in places.tolist()]
                values = pa.array(texts, pa.string()).take(parents)
            elif self._layout.is_inner(name):
                values = _walk(inner, name[len(tracks) + 1 :])
            else:
                top, _, rest = name.partition(".")
                values = table[top].combine_chunks()
                values = _walk(values, rest) if rest else values
                values = values if parents is None else values.take(parents)
            fields[role] = _field(role, values)
        if self._layout.places_songs(self._columns):
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            index = np.arange(len(inner)) - np.repeat(starts, lengths)
            fields["position"] = pa.array(index.astype(np.float64))
        return Batch(line, fields, [], partial(row_text, fields), done)


def _field(role: str, values: pa.Array) -> pa.Array:
    if role == "position":
        return values if pa.types.is_string(values.type) else values.cast(pa.float64())
    return values if role.startswith(PREFIX) else as_text(values)


def _walk(values: pa.Array, path: str) -> pa.Array:
    for name in path.split("."):
        values = pc.struct_field(values, [values.type.get_field_index(name)])
    return values


def _schema(kinds: Mapping[str, str], tracks: str) -> pa.Schema:
    """The Arrow schema of dotted names; the names of songs in the list `tracks` are inside it."""
    tree: dict[str, Any] = {}
    for name, kind in kinds.items():
        branch = tree
        *above, last = name.split(".")
        for part in above:
            branch = branch.setdefault(part, {})
        branch[last] = _TYPES.get(kind, pa.null())
    return pa.schema([(name, _type(value, name == tracks)) for name, value in tree.items()])


def _type(value: Any, is_list: bool = False) -> pa.DataType:
    if isinstance(value, dict):
        struct = pa.struct([(name, _type(inner)) for name, inner in value.items()])
        return pa.list_(struct) if is_list else struct
    return value


def row_text(fields: Mapping[str, pa.Array], i: int) -> str:
    """The values of a row, to be shown."""
    return json.dumps({role: values[i].as_py() for role, values in fields.items()}, default=str)
