"""Split lines of delimited text into fields. There are three kinds of quoting:

    wrapped    every field is in quotes, and quotes inside are plain characters
    none       a quote is a plain character
    standard   RFC 4180: fields may be in quotes, quotes inside are doubled, and a field in
               quotes may contain delimiters and line ends

Lines are given as an Arrow binary array and include their line ends. Only lines that contain a
quote, in standard quoting, are parsed one by one in Python. All other lines are split by Arrow.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.sources.files.encodings import find_undecodable, is_encodable
from ingest.sources.formats.batch import NOT_UTF8

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MAX_RECORD_LINES = 100  # limits how many lines an unclosed quote can affect
_MAX_FIELD_SIZE = 1 << 24  # characters; large, because even unread columns may have long fields
_UNCLOSED = "unexpected end of data"  # message of csv.Error if input ends inside quotes


@dataclass(frozen=True)
class RecordShape:
    """The delimiter, the number of fields of a record, and the indices of the wanted fields."""

    delimiter: str
    width: int
    wanted: tuple[int, ...] = ()


@dataclass(frozen=True)
class Split:
    """The n records in a block of lines.

    - `starts` (n, int64, ascending): the index of each record's first line.
    - `fields`: for each wanted field, an array of n strings.
    - `faults`: the reason why a record is malformed, by record number. The fields of such a record
      are null.
    - `open_lines`: number of lines at the end that belong to an incomplete record. This record is
      not one of the n records.
    """

    starts: NDArray[np.int64]
    fields: list[pa.Array]
    faults: Mapping[int, str] = field(default_factory=dict)
    open_lines: int = 0


def split_unquoted(lines: pa.Array, shape: RecordShape, *, is_last: bool = True) -> Split:  # noqa: ARG001
    """Split `lines` at every delimiter. Empty lines are skipped."""
    bare = strip_line_ends(lines)
    undecodable = find_undecodable(bare)
    records = _Records()
    records.fail(undecodable, NOT_UTF8)
    records.split(bare, (_lengths(bare) > 0) & ~undecodable, shape.delimiter, shape)
    return records.collect(shape)


def split_wrapped(lines: pa.Array, shape: RecordShape, *, is_last: bool = True) -> Split:  # noqa: ARG001
    """Split `lines` at every sequence of quote, delimiter and quote. Empty lines are skipped."""
    bare = strip_line_ends(lines)
    lengths, undecodable = _lengths(bare), find_undecodable(bare)
    wrapped = _are_wrapped(bare, lengths)
    records = _Records()
    records.fail(undecodable, NOT_UTF8)
    records.fail((lengths > 0) & ~wrapped & ~undecodable, "does not begin and end with a quote")
    inside = pc.binary_slice(bare, 1, -1)
    records.split(inside, wrapped & ~undecodable, f'"{shape.delimiter}"', shape)
    return records.collect(shape)


def split_standard(lines: pa.Array, shape: RecordShape, *, is_last: bool = True) -> Split:
    """Split `lines` as RFC 4180 specifies. Empty lines outside quotes are skipped.

    If a record is malformed, only its first line is rejected, and reading continues at the next
    line. A record of several lines counts as malformed if it has the wrong number of fields, or
    more than `MAX_RECORD_LINES` lines. If `is_last` is not set, a record that is incomplete at the
    last line is left for the next call (see `Split.open_lines`).
    """
    bare = strip_line_ends(lines)
    undecodable = find_undecodable(bare)
    quoted = pc.match_substring(bare, pattern=b'"').to_numpy(zero_copy_only=False)
    records = _Records()
    taken, open_lines = records.parse(lines, quoted | undecodable, shape, is_last=is_last)
    records.split(bare, (_lengths(bare) > 0) & ~taken, shape.delimiter, shape)
    return records.collect(shape, open_lines)


class _Records:
    """Collects the records in a block of lines. Records may be added in any order."""

    def __init__(self) -> None:
        self._starts: list[NDArray[np.int64]] = []
        self._fields: list[list[pa.Array]] = []
        self._faults: dict[int, str] = {}  # reasons by line index

    def fail(self, flags: NDArray[np.bool_], reason: str) -> None:
        """Add one malformed record per flagged line."""
        self._faults |= dict.fromkeys(np.flatnonzero(flags).tolist(), reason)

    def split(
        self, text: pa.Array, flags: NDArray[np.bool_], separator: str, shape: RecordShape
    ) -> None:
        """Add one record per flagged line, split at every separator."""
        starts = np.flatnonzero(flags)
        chosen = text if len(starts) == len(text) else text.take(pa.array(starts))
        parts = pc.split_pattern(chosen.cast(pa.string()), pattern=separator)
        widths = pc.list_value_length(parts).to_numpy()
        wrong = np.flatnonzero(widths != shape.width)
        if len(wrong):
            for start, width in zip(starts[wrong].tolist(), widths[wrong].tolist(), strict=True):
                self._faults[start] = _describe_width(shape.width, width)
            right = np.flatnonzero(widths == shape.width)
            parts, starts = parts.take(pa.array(right)), starts[right]
        values = parts.flatten()
        first = np.arange(len(starts)) * shape.width
        self._starts.append(starts)
        self._fields.append([values.take(pa.array(first + i)) for i in shape.wanted])

    def parse(
        self, lines: pa.Array, flags: NDArray[np.bool_], shape: RecordShape, *, is_last: bool
    ) -> tuple[NDArray[np.bool_], int]:
        """Parse the records that start on flagged lines with Python's `csv`, and add them.

        Returns a mask of the lines that belong to these records, and the number of lines at the end
        that belong to an incomplete record.
        """
        csv.field_size_limit(_MAX_FIELD_SIZE)
        taken, open_lines = np.zeros(len(lines), bool), 0
        starts: list[int] = []
        rows: list[list[str]] = []
        raw = lines.to_pylist() if flags.any() else []
        end = 0
        for start in np.flatnonzero(flags).tolist():
            if start < end:
                continue
            record = _parse_record(raw, start, shape)
            if record.is_unclosed and not is_last and start + MAX_RECORD_LINES > len(lines):
                taken[start:], open_lines = True, len(lines) - start
                break
            end = start + record.lines
            taken[start:end] = True
            if record.fault:
                self._faults[start] = record.fault
            else:
                starts.append(start)
                rows.append(record.fields)
        self._starts.append(np.array(starts, np.int64))
        self._fields.append([pa.array([row[i] for row in rows], pa.string()) for i in shape.wanted])
        return taken, open_lines

    def collect(self, shape: RecordShape, open_lines: int = 0) -> Split:
        """Return all records in the order of their lines."""
        groups = [
            (starts, fields)
            for starts, fields in zip(self._starts, self._fields, strict=True)
            if len(starts)
        ]
        if len(groups) == 1 and not self._faults:
            return Split(*groups[0], open_lines=open_lines)
        faulty = np.array(sorted(self._faults), np.int64)
        groups.append((faulty, [pa.nulls(len(faulty), pa.string())] * len(shape.wanted)))
        starts = np.concatenate([starts for starts, _ in groups])
        order = np.argsort(starts)
        columns = zip(*(fields for _, fields in groups), strict=True)
        fields = [pa.concat_arrays(column).take(pa.array(order)) for column in columns]
        starts = starts[order]
        numbers = np.searchsorted(starts, faulty).tolist()
        faults = {n: self._faults[line] for n, line in zip(numbers, faulty.tolist(), strict=True)}
        return Split(starts, fields, faults, open_lines)


@dataclass(frozen=True)
class _Record:
    fields: list[str]
    lines: int = 1
    fault: str = ""
    is_unclosed: bool = False


def _parse_record(raw: Sequence[bytes], start: int, shape: RecordShape) -> _Record:
    """Parse the record that starts at line index `start`, with Python's `csv`."""
    for stop in (start + 1, start + MAX_RECORD_LINES):  # most records have one line
        lines = (line.decode("utf-8", "surrogateescape") for line in raw[start:stop])
        reader = csv.reader(lines, delimiter=shape.delimiter, strict=True)
        try:
            fields = next(reader)
            break
        except csv.Error as error:
            message = str(error)
        if message != _UNCLOSED:
            is_lone_cr = "new-line" in message
            fault = (
                "a lone carriage return outside quotes"
                if is_lone_cr
                else f"malformed quotes: {message}"
            )
            return _Record([], fault=fault)
    else:
        return _Record([], fault="a quote is opened here and not closed", is_unclosed=True)
    if len(fields) != shape.width:
        fault = _describe_width(shape.width, len(fields))
        if reader.line_num > 1:
            fault = (
                f"a quote is opened here and the record, of {reader.line_num} lines, "
                f"has {len(fields)} fields instead of {shape.width}"
            )
        return _Record([], fault=fault)
    if not is_encodable("".join(fields)):
        return _Record([], reader.line_num, NOT_UTF8)
    return _Record(fields, reader.line_num)


def strip_line_ends(lines: pa.Array) -> pa.Array:
    """Return `lines` without LF, CR LF or CR at the end."""
    bare = lines
    for end in (b"\n", b"\r"):
        has_end = pc.ends_with(bare, pattern=end)
        if pc.all(has_end).as_py():
            bare = pc.binary_slice(bare, 0, -1)
        elif pc.any(has_end).as_py():
            bare = pc.if_else(has_end, pc.binary_slice(bare, 0, -1), bare)
    return bare


def _lengths(lines: pa.Array) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.binary_length(lines).to_numpy()
    return lengths


def _are_wrapped(bare: pa.Array, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    first = pc.starts_with(bare, pattern=b'"').to_numpy(zero_copy_only=False)
    last = pc.ends_with(bare, pattern=b'"').to_numpy(zero_copy_only=False)
    both: NDArray[np.bool_] = first & last & (lengths >= 2)
    return both


def _describe_width(expected: int, width: int) -> str:
    return f"expected {expected} fields, found {width}"
