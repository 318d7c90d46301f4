"""Parse JSON lines: blocks of plain objects at once, other lines one by one."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from ingest.sources.files.encodings import is_encodable
from ingest.sources.formats.batch import Batch
from ingest.sources.formats.json_records import MalformedLine, show_value, to_array
from ingest.sources.formats.json_stream import describe_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ingest.sources.formats.json_layout import Layout

_CHUNK_SIZE = 1000  # lines at a time, so few that their values fit into the processor cache
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def parse_lines(data: bytes) -> tuple[list[Any], NDArray[np.int64], int]:
    """Parse lines of JSON.

    Returns the values of the non-blank lines, the indices of these lines, and the total number of
    lines. The value of an invalid line is a `MalformedLine`.
    """
    lines = _split_lines(data)
    filled = [n for n, line in enumerate(lines) if line and not line.isspace()]
    return [_parse_line(lines[n]) for n in filled], np.array(filled, np.int64), len(lines)


def _parse_line(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except _ERRORS:
        text = line.decode("utf-8", "surrogateescape")
    try:
        # Unlike msgspec, Python's parser accepts NaN, lone surrogates and invalid UTF-8. This way,
        # a value with invalid text does not make the whole line malformed.
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return MalformedLine(text, describe_problem(error))


def _split_lines(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n")


def can_parse_plain_lines(layout: Layout, columns: Mapping[str, str]) -> bool:
    """Return whether `PlainLineParser` can be used.

    Each object must be a song, all columns must be top-level keys, and all keys must be valid text.
    """
    if layout.songs:
        return False
    are_top_level = all(len(layout.columns[name].path) == 1 for name in columns.values())
    return are_top_level and all(map(is_encodable, layout.object_keys[()]))


class PlainLineParser:
    """Parses blocks of lines that are songs without nested columns, faster than `parse_lines`.

    `columns` maps roles to column names. A block can be parsed if its objects have no unknown keys,
    and if columns that contain only text in the sample contain only text or null in the block.
    """

    def __init__(self, layout: Layout, columns: Mapping[str, str]) -> None:
        texts = {column.path[0] for column in layout.columns.values() if column.is_text}
        field_of = {key: f"field_{n}" for n, key in enumerate(sorted(layout.object_keys[()]))}
        fields: list[tuple[str, Any, None]] = [
            (field, str | None if key in texts else Any, None) for key, field in field_of.items()
        ]
        names = {field: key for key, field in field_of.items()}
        kind = msgspec.defstruct("Line", fields, rename=names, forbid_unknown_fields=True, gc=False)
        self._decoder = msgspec.json.Decoder(kind)
        self._columns = {role: layout.columns[name] for role, name in columns.items()}
        self._getters = {
            role: attrgetter(field_of[column.path[0]]) for role, column in self._columns.items()
        }

    def parse(self, data: bytes, first_line: int, position: int) -> Batch | None:
        """Return the records of a block, or None if it cannot be parsed."""
        lines = _split_lines(data)
        parts: dict[str, list[pa.Array]] = {role: [] for role in self._columns}
        faults: dict[int, str] = {}
        for start in range(0, len(lines), _CHUNK_SIZE):
            try:
                items = list(map(self._decoder.decode, lines[start : start + _CHUNK_SIZE]))
            except _ERRORS:
                return None
            for role, column in self._columns.items():
                values = list(map(self._getters[role], items))
                if column.is_text:
                    parts[role].append(pa.array(values, pa.string()))
                    continue
                array, problems = to_array(role, values)
                parts[role].append(array)
                for index, problem in problems.items():
                    faults.setdefault(start + index, f"{role} {problem}")
        if any(part.type != arrays[0].type for arrays in parts.values() for part in arrays):
            return None
        fields = {role: pa.concat_arrays(arrays) for role, arrays in parts.items()}

        def show(record: int) -> str:
            return show_value(json.loads(lines[record]))

        return Batch(first_line + np.arange(len(lines)), fields, faults, show, position)
