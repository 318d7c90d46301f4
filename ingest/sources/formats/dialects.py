"""Lines of delimited text to fields, in three dialects.

    wrapped   every field stands in quotes, and quotes inside are plain characters
    plain     there is no quoting: a quote is a plain character
    quoted    RFC 4180: fields may stand in quotes, quotes inside are doubled, and a field in
              quotes may hold delimiters and line ends

Lines come as an Arrow binary array, each with its line end. No Python runs per row, except for the
`quoted` lines that need it: those that are malformed, or go on in the next line.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

LONGEST_RECORD = 100  # lines: an unclosed quote must not swallow the rest of a file
NOT_UTF8 = "not valid UTF-8"
csv.field_size_limit(1 << 24)  # a long field that nobody wants must not cost its row
_UNCLOSED = "unexpected end of data"  # csv.Error, when lines run out inside quotes
_CR = 13
_QUOTE = 34
_SEPARATOR = 31
SEPARATOR = chr(_SEPARATOR)  # in ASCII the separator of units: lines that hold one are not bared


@dataclass(frozen=True)
class Shape:
    """What a record looks like: the delimiter, how many fields, and which of them are wanted."""

    delimiter: str
    width: int
    wanted: tuple[int, ...] = ()


@dataclass(frozen=True)
class Split:
    """What became of some lines.

    `fields` holds one string array for each wanted column, of one length; `at` (int64, rising)
    says on which line each row starts. `refused` are the other records: line and reason. The last
    `open` lines belong to a record whose end has not been seen yet.
    """

    fields: list[pa.Array]
    at: NDArray[np.int64]
    refused: list[tuple[int, str]] = field(default_factory=list)
    open: int = 0


def split_plain(lines: pa.Array, shape: Shape, *, final: bool = True) -> Split:  # noqa: ARG001
    """Split `lines` at every delimiter. Blank lines are no records."""
    bare = without_ends(lines)
    bad = undecodable(bare)
    at = np.flatnonzero((_lengths(bare) > 0) & ~bad)
    return _refuse(_split(_strings(bare, at), at, shape.delimiter, shape), bad)


def split_wrapped(lines: pa.Array, shape: Shape, *, final: bool = True) -> Split:  # noqa: ARG001
    """Split `lines` at quote, delimiter, quote; inner quotes stay. Blank lines are no records."""
    bare = without_ends(lines)
    lengths = _lengths(bare)
    bad = undecodable(bare)
    wrapped = _wrapped(bare, lengths)
    at = np.flatnonzero(wrapped & ~bad)
    split = _split(_strings(pc.binary_slice(bare, 1, -1), at), at, f'"{shape.delimiter}"', shape)
    naked = np.flatnonzero((lengths > 0) & ~wrapped & ~bad)
    split.refused.extend((int(i), "does not begin and end with a quote") for i in naked)
    return _refuse(split, bad)


def split_quoted(lines: pa.Array, shape: Shape, *, final: bool = True) -> Split:
    """Split `lines` by RFC 4180. Blank lines outside quotes are no records.

    A record that is malformed, or spans several lines and has the wrong number of fields or more
    than LONGEST_RECORD lines, is refused with its first line only: reading goes on at the next.
    Unless `final`, a record that is still open at the last line is left to the next call.
    """
    bare = without_ends(lines)
    lengths, bad = _lengths(bare), undecodable(bare)
    quotes = pc.count_substring(bare, pattern=b'"').to_numpy()
    unquoted = (quotes == 0) & (lengths > 0) & ~bad
    paired = (quotes == 2 * shape.width) & _wrapped(bare, lengths) & ~bad
    inside = pc.binary_slice(bare, 1, -1)
    paired &= (
        pc.count_substring(inside, pattern=f'"{shape.delimiter}"'.encode()).to_numpy()
        == shape.width - 1
    )
    irregular = (quotes > 0) & ~paired | bad
    suspects = np.flatnonzero(irregular & ~bad & (quotes % 2 == 0))
    strict, bared = unquote(bare.take(pa.array(suspects)), shape)
    irregular[suspects[strict]] = False
    found = _parse(lines, np.flatnonzero(irregular), shape, final=final)
    unquoted &= ~found.taken
    paired &= ~found.taken
    kept = ~found.taken[suspects[strict]]
    chosen = suspects[strict][kept]
    parts = [found.split]
    if len(chosen):
        text = bared.filter(pa.array(kept)).cast(pa.string())
        parts.append(_split(text, chosen, SEPARATOR, shape))
    for mask, text, separator in (
        (unquoted, bare, shape.delimiter),
        (paired, inside, f'"{shape.delimiter}"'),
    ):
        at = np.flatnonzero(mask)
        parts.append(_split(_strings(text, at), at, separator, shape))
    return _merge(parts, found.split.open)


def unquote(lines: pa.Array, shape: Shape) -> tuple[NDArray[np.bool_], pa.Array]:
    """Which of `lines` are whole records of strict RFC 4180, and those without their quoting.

    Lines come without their ends, and with an even number of quotes each. In those that come back,
    `SEPARATOR` stands between fields. A quote that does not open or close a field is doubled; with
    that and the even number, whether a byte stands in quotes is the parity of the quotes before it.
    """
    none = np.zeros(len(lines), bool), pa.array([], pa.binary())
    if not len(lines):
        return none
    lines = pa.concat_arrays([lines])  # its buffers begin with its own bytes
    _, buffer, content = lines.buffers()
    offsets = np.frombuffer(buffer, np.int32)[lines.offset : lines.offset + len(lines) + 1]
    data = np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    starts, ends = offsets[:-1], offsets[1:]
    quote = data == _QUOTE
    inside = np.logical_xor.accumulate(quote)
    between = (data == ord(shape.delimiter)) & ~inside
    at_start = np.zeros(len(data) + 1, bool)
    at_start[starts] = True
    at_start[1:] |= between
    at_end = np.zeros(len(data) + 1, bool)  # a field ends before this byte
    at_end[ends] = True
    at_end[:-1] |= between
    # Of a doubled quote the first closes and the second opens again; both are in one line.
    again = np.zeros(len(data), bool)
    again[1:] = quote[1:] & quote[:-1] & inside[1:] & ~at_start[1:-1]
    opens, closes = quote & inside, quote & ~inside
    doubled_next = np.append(again[1:], False)
    wrong = opens & ~at_start[:-1] & ~again
    wrong |= closes & ~at_end[1:] & ~doubled_next
    wrong |= (data == _SEPARATOR) | (data == _CR)
    line = np.repeat(np.arange(len(lines)), ends - starts)
    strict = np.bincount(line, wrong, len(lines)) == 0
    strict &= np.bincount(line, between, len(lines)) == shape.width - 1
    if not strict.any():
        return none
    keep = (~quote | (closes & doubled_next)) & strict[line]
    bare = np.where(between, np.uint8(_SEPARATOR), data)[keep]
    lengths = np.bincount(line[keep], minlength=len(lines))[strict]
    places = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    buffers = [None, pa.py_buffer(places), pa.py_buffer(bare)]
    return strict, pa.Array.from_buffers(pa.binary(), len(lengths), buffers)


def without_ends(lines: pa.Array) -> pa.Array:
    """`lines` without their LF, CR LF or CR."""
    bare = lines
    for end in (b"\n", b"\r"):
        ended = pc.ends_with(bare, pattern=end)
        if pc.all(ended).as_py():
            bare = pc.binary_slice(bare, 0, -1)
        elif pc.any(ended).as_py():
            bare = pc.if_else(ended, pc.binary_slice(bare, 0, -1), bare)
    return bare


def undecodable(lines: pa.Array) -> NDArray[np.bool_]:
    """Which of `lines` (n, binary) are not valid UTF-8."""
    bad = np.zeros(len(lines), bool)
    try:
        lines.cast(pa.string())
    except pa.ArrowInvalid:
        _, offsets, data = lines.buffers()
        ends = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
        beyond_ascii = np.flatnonzero(np.frombuffer(data, np.uint8) >= 0x80)
        suspects = np.unique(np.searchsorted(ends, beyond_ascii, side="right") - 1)
        for i in suspects[(suspects >= 0) & (suspects < len(lines))]:
            try:
                lines[int(i)].as_py().decode()
            except UnicodeDecodeError:
                bad[i] = True
    return bad


def _lengths(lines: pa.Array) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.binary_length(lines).to_numpy()
    return lengths


def _wrapped(bare: pa.Array, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    first = pc.starts_with(bare, pattern=b'"').to_numpy(zero_copy_only=False)
    last = pc.ends_with(bare, pattern=b'"').to_numpy(zero_copy_only=False)
    both: NDArray[np.bool_] = first & last & (lengths >= 2)
    return both


def _strings(lines: pa.Array, at: NDArray[np.int64]) -> pa.Array:
    chosen = lines if len(at) == len(lines) else lines.take(pa.array(at))
    return chosen.cast(pa.string())


def _split(text: pa.Array, at: NDArray[np.int64], separator: str, shape: Shape) -> Split:
    parts = pc.split_pattern(text, pattern=separator)
    counts = pc.list_value_length(parts).to_numpy()
    wrong = np.flatnonzero(counts != shape.width)
    refused = [(int(at[i]), _miscount(shape.width, int(counts[i]))) for i in wrong]
    if refused:
        right = np.flatnonzero(counts == shape.width)
        parts, at = parts.take(pa.array(right)), at[right]
    values = parts.flatten()
    first = np.arange(len(at)) * shape.width
    return Split([values.take(pa.array(first + i)) for i in shape.wanted], at, refused)


def _miscount(expected: int, found: int) -> str:
    return f"expected {expected} fields, found {found}"


def _refuse(split: Split, bad: NDArray[np.bool_]) -> Split:
    split.refused.extend((int(i), NOT_UTF8) for i in np.flatnonzero(bad))
    split.refused.sort()
    return split


@dataclass(frozen=True)
class _Parsed:
    split: Split
    taken: NDArray[np.bool_]  # lines that belong to these records


def _parse(lines: pa.Array, starts: NDArray[np.int64], shape: Shape, *, final: bool) -> _Parsed:
    taken = np.zeros(len(lines), bool)
    at: list[int] = []
    rows: list[list[str]] = []
    refused: list[tuple[int, str]] = []
    after, still_open = 0, 0
    for start in starts.tolist():
        if start < after:
            continue
        record = _record(lines, start, shape)
        after = start + record.lines
        if record.lines == 0:
            after = start + 1
            if not final and start + LONGEST_RECORD > len(lines):
                taken[start:] = True
                still_open = len(lines) - start
                break
        taken[start:after] = True
        if record.problem:
            refused.append((start, record.problem))
        else:
            at.append(start)
            rows.append(record.fields)
    fields = [pa.array([row[i] for row in rows], pa.string()) for i in shape.wanted]
    return _Parsed(Split(fields, np.array(at, np.int64), refused, still_open), taken)


@dataclass(frozen=True)
class _Record:
    fields: list[str]
    lines: int  # 0: the lines ran out inside quotes
    problem: str = ""


def _record(lines: pa.Array, start: int, shape: Shape) -> _Record:
    reader = csv.reader(_texts(lines, start), delimiter=shape.delimiter, strict=True)
    try:
        fields = next(reader)
    except csv.Error as error:
        if str(error) == _UNCLOSED:
            return _Record([], 0, "a quote is opened here and not closed")
        if "new-line" in str(error):
            return _Record([], 1, "a lone carriage return outside quotes")
        return _Record([], 1, f"malformed quotes: {error}")
    if len(fields) != shape.width:
        problem = _miscount(shape.width, len(fields))
        if reader.line_num > 1:
            problem = (
                f"a quote is opened here and the record, of {reader.line_num} lines, "
                f"has {len(fields)} fields instead of {shape.width}"
            )
        # Its later lines may be records of their own: it must not take them with it.
        return _Record([], 1, problem)
    if not _encodable(fields):
        return _Record([], reader.line_num, NOT_UTF8)
    return _Record(fields, reader.line_num)


def _texts(lines: pa.Array, start: int) -> Iterator[str]:
    for i in range(start, min(start + LONGEST_RECORD, len(lines))):
        yield lines[i].as_py().decode("utf-8", "surrogateescape")


def _encodable(fields: Sequence[str]) -> bool:
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        return False
    return True


def _merge(parts: Sequence[Split], still_open: int) -> Split:
    refused = sorted(refusal for part in parts for refusal in part.refused)
    filled = [part for part in parts if len(part.at)] or list(parts[:1])
    if len(filled) == 1:
        return Split(filled[0].fields, filled[0].at, refused, still_open)
    at = np.concatenate([part.at for part in filled])
    order = np.argsort(at)
    places = pa.array(order)
    columns = zip(*(part.fields for part in filled), strict=True)
    fields = [pa.concat_arrays(list(column)).take(places) for column in columns]
    return Split(fields, at[order], refused, still_open)
