"""Delimited text files: where lines end, which delimiter and dialect, and their records."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import EmptyFileError, FileError
from ingest.sources.content import Content, content_of
from ingest.sources.files import Input
from ingest.sources.formats.dialects import (
    LONGEST_RECORD,
    NOT_UTF8,
    Shape,
    split_plain,
    split_quoted,
    split_wrapped,
    undecodable,
    without_ends,
)
from ingest.sources.source import AUTO, Batch, How, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ingest.sources.content import Flow
    from ingest.sources.formats.dialects import Split

SAMPLE = 8 << 20  # bytes that decide how a file is read
_HEAD = 1 << 16
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r"))
_SEP = re.compile(rb'"?sep=([\x01-\x7f])"?\r?\n?$')  # Excel's line before the header
_MANY = 0.01  # of the first bytes are controls: it is no text
BLOCK = 4 << 20  # bytes read at a time
LONGEST_LINE = 16 << 20
_FORMATS = {"\t": "TSV", ",": "CSV", ";": "CSV with semicolons", "|": "text with bars"}
_DELIMITERS = {"csv": ",;", "tsv": "\t", "psv": "|"}
_DIALECTS = {"standard": "standard quoting", "wrapped": "wrapped quotes", "none": "no quoting"}
_SPLITTERS: dict[str, Callable[..., Split]] = {
    "wrapped quotes": split_wrapped,
    "no quoting": split_plain,
    "standard quoting": split_quoted,
}


@dataclass(frozen=True)
class Delimited:
    """A delimited text file, understood (see `open_delimited`)."""

    content: Content
    names: tuple[str, ...]
    delimiter: str
    dialect: str
    end: bytes
    body: int  # bytes of UTF-8 before the first record
    first_line: int  # its line
    first: tuple[str, ...] = ()  # what stands in the header, or where one would be
    suggested: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    @property
    def kind(self) -> str:
        """How the file was understood, such as `CSV, wrapped quotes`."""
        encoding = self.content.encoding
        parts = [
            _FORMATS.get(self.delimiter, f"text with '{self.delimiter}'"),
            self.dialect,
            "CR line ends" if self.end == b"\r" else "",
            encoding.said if not encoding.is_utf8 else "byte order mark" if encoding.mark else "",
            self.content.packed,
        ]
        return ", ".join(part for part in parts if part)

    def kind_of(self, name: str) -> None:
        """Text says nothing of kinds."""

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """All records, in order; `columns` maps roles to names. Every record is in one batch."""
        places = {role: self.names.index(name) for role, name in columns.items()}
        shape = Shape(self.delimiter, len(self.names), tuple(places.values()))
        splitter = _SPLITTERS[self.dialect]
        number, carried = self.first_line, b""
        with self.content.flow() as flow:
            flow.read(self.body)
            for block, final in blocks(flow, self.end, self.content.source):
                data = carried + block
                lines = cut(data, self.end)
                split = splitter(lines, shape, final=final)
                yield Batch(
                    line=number + split.at,
                    fields=dict(zip(columns, split.fields, strict=True)),
                    refused=[
                        Refusal(number + at, self._reason(reason), _raw(lines, at))
                        for at, reason in split.refused
                    ],
                    text=partial(_raw_of, lines, split.at),
                    done=flow.done(),
                )
                number += len(lines) - split.open
                carried = b"".join(lines[len(lines) - split.open :].to_pylist())

    def _reason(self, reason: str) -> str:
        return f"not valid {self.content.encoding.said}" if reason == NOT_UTF8 else reason


def open_delimited(source: Path | Content, how: How = AUTO) -> Delimited:
    """Find out from its first `SAMPLE` bytes how a delimited text file is to be read.

    Raises FileError when it is empty, has a header only, or is not text.
    """
    if not isinstance(source, Content):
        source = content_of(Input(source, source.name), how.encoding)
    where = source.source
    with source.flow() as flow:
        sample = flow.read(SAMPLE)
        whole = not flow.read(1)
    head = sample[:_HEAD]
    if b"\0" in head and len(head.translate(None, _CONTROLS)) < (1 - _MANY) * len(head):
        raise FileError(f"{where} is a binary file, neither text nor Parquet")
    end = _line_end(sample)
    lines = cut(sample, end)
    if not whole and len(lines):
        lines = lines[:-1]  # it may have been cut short
    blank = _lead(pc.binary_length(without_ends(lines)).to_numpy() > 0)
    if blank == len(lines):
        if whole:
            raise EmptyFileError(f"{where} is empty")
        raise FileError(f"{where}: its first line is longer than {SAMPLE} bytes")
    told = _SEP.match(lines[blank].as_py())
    if told and blank + 1 < len(lines):
        blank += 1
        how = replace(how, delimiter=how.delimiter or told[1].decode())
    delimiter, names, depth = _header(lines[blank:], how)
    first_values = names
    if not how.header:
        names, depth = tuple(str(place) for place in range(1, len(names) + 1)), 0
    rest = lines[blank + depth :]
    if not pc.any(pc.greater(pc.binary_length(without_ends(rest)), 0)).as_py() and whole:
        raise EmptyFileError(f"{where} has a header but no rows")
    bad = undecodable(rest)
    if 2 * np.count_nonzero(bad) > len(rest):
        raise FileError(
            f"{where} is not {source.encoding.said} text: name its encoding with --encoding"
        )
    first = lines[blank].as_py().lstrip()
    dialect = (
        _dialect(rest, Shape(delimiter, len(names)), first.startswith(b'"'), whole)
        if how.quoting == "auto"
        else _DIALECTS[how.quoting]
    )
    body = int(pc.sum(pc.binary_length(lines[: blank + depth])).as_py() or 0)
    return Delimited(
        source,
        names,
        delimiter,
        dialect,
        end,
        body,
        blank + depth + 1,
        first_values,
        remarks=source.remarks,
    )


def cut(data: bytes, end: bytes) -> pa.Array:
    """The lines of `data` as an Arrow binary array, each with its line end; no copy is made."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == end[0]) + 1
    if data and (not len(ends) or ends[-1] != len(data)):
        ends = np.append(ends, len(data))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(ends), buffers)


def blocks(flow: Flow, end: bytes, where: Input) -> Iterator[tuple[bytes, bool]]:
    """Whole lines, BLOCK bytes or so at a time, and whether they are the last."""
    rest = b""
    while data := flow.read(BLOCK):
        last = data.rfind(end) + 1
        if last:
            yield rest + data[:last], False
            rest = data[last:]
        else:
            rest += data
        if len(rest) > LONGEST_LINE:
            raise FileError(
                f"{where}: a line is longer than {LONGEST_LINE >> 20} MB: is this a playlist file?"
            )
    yield rest, True


def _raw(lines: pa.Array, at: int) -> str:
    raw: bytes = lines[at].as_py()
    return raw[:2000].rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def _raw_of(lines: pa.Array, at: NDArray[np.int64], i: int) -> str:
    return _raw(lines, int(at[i]))


def _lead(flags: NDArray[np.bool_]) -> int:
    return int(np.argmax(flags)) if flags.any() else len(flags)


def _line_end(sample: bytes) -> bytes:
    """CR where the header line ends with a lone CR, else LF (a CR before it is dropped later)."""
    quoted = False
    for match in re.finditer(rb'"|\r\n|\r|\n', sample[: 1 << 16]):
        if match[0] == b'"':
            quoted = not quoted
        elif not quoted:
            return b"\r" if match[0] == b"\r" else b"\n"
    return b"\n" if b"\n" in sample or b"\r" not in sample else b"\r"


def _header(lines: pa.Array, how: How) -> tuple[str, tuple[str, ...], int]:
    """Delimiter, column names, and how many lines the header takes."""
    delimiters = how.delimiter or _DELIMITERS.get(how.format, "".join(_FORMATS))
    texts = [raw.decode("utf-8", "replace") for raw in lines[:LONGEST_RECORD].to_pylist()]
    best: tuple[str, tuple[str, ...], int] = ("\t", (), 1)
    for delimiter in delimiters:
        reader = csv.reader(texts, delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            names, depth = next(reader) or [""], reader.line_num
        except csv.Error:
            names, depth = texts[0].rstrip("\r\n").split(delimiter), 1
        if len(names) > len(best[1]):
            best = (delimiter, tuple(name.strip().strip('"').strip() for name in names), depth)
    return best


def _dialect(lines: pa.Array, shape: Shape, quoted_header: bool, whole: bool) -> str:
    everything = replace(shape, wanted=tuple(range(shape.width)))
    tabs = shape.delimiter == "\t"
    if not pc.any(pc.match_substring(lines, pattern=b'"')).as_py():
        return "no quoting" if tabs and not quoted_header else "standard quoting"
    faults = len(split_quoted(lines, shape, final=whole).refused)
    wrapped = split_wrapped(lines, everything)
    if (
        len(wrapped.refused) < faults
        and len(wrapped.refused) <= max(1, 0.01 * len(lines))
        and _undoubled(wrapped.fields) > 0
    ):
        return "wrapped quotes"
    if quoted_header:
        return "standard quoting"
    plain = split_plain(lines, everything)
    proof = _proof(plain.fields, shape.delimiter)
    if faults == len(plain.refused) and tabs:
        return "standard quoting" if proof > 0 else "no quoting"
    return "no quoting" if len(plain.refused) < faults and proof <= 0 else "standard quoting"


def _undoubled(fields: Sequence[pa.Array]) -> int:
    """By how many fields quotes that are not doubled outnumber those that are.

    `fields` are without their outer quotes.
    """
    single = doubled = 0
    for values in fields:
        holders = values.filter(pc.match_substring(values, pattern='"'))
        odd = _holds_single(holders)
        single += odd
        doubled += len(holders) - odd
    return single - doubled


def _proof(fields: Sequence[pa.Array], delimiter: str) -> int:
    """By how many fields those that RFC 4180 wrote outnumber those that it could not have written.

    A field that merely stands in quotes may be a title; after a tab, where quoting is rare, it
    counts only when its whole column does so.
    """
    proof = 0
    for values in fields:
        holders = values.filter(pc.match_substring(values, pattern='"'))
        wrapped = _is_wrapped(holders)
        inside = pc.utf8_slice_codeunits(holders.filter(wrapped), 1, -1)
        odd = _holds_single(inside)
        whole = 1 < len(inside) == int(pc.sum(pc.not_equal(values, "")).as_py() or 0)
        if delimiter == "\t" and not whole:
            inside = inside.filter(pc.match_substring(inside, pattern='"'))
        naked = len(holders) - int(pc.sum(wrapped).as_py() or 0)
        proof += len(inside) - 2 * odd - naked
    return proof


def _is_wrapped(values: pa.Array) -> pa.Array:
    ends = pc.and_(pc.starts_with(values, pattern='"'), pc.ends_with(values, pattern='"'))
    return pc.and_(ends, pc.greater_equal(pc.binary_length(values), 2))


def _holds_single(values: pa.Array) -> int:
    pairless = pc.replace_substring(values, pattern='""', replacement="")
    return int(pc.sum(pc.match_substring(pairless, pattern='"')).as_py() or 0)
