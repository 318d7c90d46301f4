"""Delimited text files: where lines end, which delimiter and dialect, and their records."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import FileError
from ingest.dialects import (
    LONGEST_RECORD,
    Shape,
    split_plain,
    split_quoted,
    split_wrapped,
    undecodable,
    without_ends,
)
from ingest.sources import Batch, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ingest.dialects import Split

SAMPLE = 8 << 20  # bytes that decide how a file is read
BLOCK = 4 << 20  # bytes read at a time
LONGEST_LINE = 16 << 20
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_FORMATS = {"\t": "TSV", ",": "CSV", ";": "CSV with semicolons", "|": "text with bars"}
_SPLITTERS: dict[str, Callable[..., Split]] = {
    "wrapped quotes": split_wrapped,
    "no quoting": split_plain,
    "standard quoting": split_quoted,
}


@dataclass(frozen=True)
class Delimited:
    """A delimited text file, understood (see `open_delimited`)."""

    path: Path
    names: tuple[str, ...]
    delimiter: str
    dialect: str
    end: bytes
    body: int  # byte where the first record starts
    first_line: int  # its line
    bom: bool

    @property
    def kind(self) -> str:
        """How the file was understood, such as `CSV, wrapped quotes`."""
        ends = ", CR line ends" if self.end == b"\r" else ""
        bom = ", byte order mark" if self.bom else ""
        return f"{_FORMATS[self.delimiter]}, {self.dialect}{ends}{bom}"

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """All records, in order; `columns` maps roles to names. Every record is in one batch."""
        shape = Shape(
            self.delimiter,
            len(self.names),
            tuple(self.names.index(name) for name in columns.values()),
        )
        splitter = _SPLITTERS[self.dialect]
        number, carried = self.first_line, b""
        with self.path.open("rb") as handle:
            handle.seek(self.body)
            for block, final in _blocks(handle, self.end, self.path):
                data = carried + block
                lines = cut(data, self.end)
                split = splitter(lines, shape, final=final)
                yield Batch(
                    line=number + split.at,
                    fields=dict(zip(columns, split.fields, strict=True)),
                    refused=[
                        Refusal(number + at, reason, _raw(lines, at))
                        for at, reason in split.refused
                    ],
                    text=partial(_raw_of, lines, split.at),
                    done=handle.tell(),
                )
                number += len(lines) - split.open
                carried = b"".join(lines[len(lines) - split.open :].to_pylist())


def open_delimited(path: Path) -> Delimited:
    """Find out from its first `SAMPLE` bytes how a delimited text file is to be read.

    Raises FileError when it is empty, has a header only, or is not text in UTF-8.
    """
    with path.open("rb") as handle:
        sample = handle.read(SAMPLE)
        whole = not handle.read(1)
    _require_text(sample, path)
    bom = sample.startswith(_BOM)
    start = len(_BOM) if bom else 0
    end = _line_end(sample[start:])
    lines = cut(sample[start:], end)
    if not whole and len(lines):
        lines = lines[:-1]  # it may have been cut short
    blank = _lead(pc.binary_length(without_ends(lines)).to_numpy() > 0)
    if blank == len(lines):
        raise FileError(
            f"{path} is empty" if whole else f"{path}: its first line is longer than {SAMPLE} bytes"
        )
    delimiter, names, depth = _header(lines[blank:])
    rest = lines[blank + depth :]
    if not pc.any(pc.greater(pc.binary_length(without_ends(rest)), 0)).as_py() and whole:
        raise FileError(f"{path} has a header but no rows")
    bad = undecodable(rest)
    if 2 * np.count_nonzero(bad) > len(rest):
        raise FileError(
            f"{path} is not UTF-8 text: convert it first (iconv -f LATIN1 -t UTF-8, for example)"
        )
    first = lines[blank].as_py().lstrip()
    dialect = _dialect(rest, Shape(delimiter, len(names)), first.startswith(b'"'), whole)
    body = start + int(pc.sum(pc.binary_length(lines[: blank + depth])).as_py())
    return Delimited(path, names, delimiter, dialect, end, body, blank + depth + 1, bom)


def cut(data: bytes, end: bytes) -> pa.Array:
    """The lines of `data` as an Arrow binary array, each with its line end; no copy is made."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == end[0]) + 1
    if data and (not len(ends) or ends[-1] != len(data)):
        ends = np.append(ends, len(data))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(ends), buffers)


def _blocks(handle: BinaryIO, end: bytes, path: Path) -> Iterator[tuple[bytes, bool]]:
    rest = b""
    while data := handle.read(BLOCK):
        last = data.rfind(end) + 1
        if last:
            yield rest + data[:last], False
            rest = data[last:]
        else:
            rest += data
        if len(rest) > LONGEST_LINE:
            raise FileError(
                f"{path}: a line is longer than {LONGEST_LINE >> 20} MB: is this a playlist file?"
            )
    yield rest, True


def _raw(lines: pa.Array, at: int) -> str:
    raw: bytes = lines[at].as_py()
    return raw[:2000].rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def _raw_of(lines: pa.Array, at: NDArray[np.int64], i: int) -> str:
    return _raw(lines, int(at[i]))


def _lead(flags: NDArray[np.bool_]) -> int:
    return int(np.argmax(flags)) if flags.any() else len(flags)


def _require_text(sample: bytes, path: Path) -> None:
    if sample.startswith(_UTF16_BOMS):
        raise FileError(f"{path} is UTF-16 text: convert it first (iconv -f UTF-16 -t UTF-8)")
    if b"\0" in sample[: 1 << 16]:
        raise FileError(f"{path} is a binary file, neither text nor Parquet")


def _line_end(sample: bytes) -> bytes:
    """CR where the header line ends with a lone CR, else LF (a CR before it is dropped later)."""
    quoted = False
    for match in re.finditer(rb'"|\r\n|\r|\n', sample[: 1 << 16]):
        if match[0] == b'"':
            quoted = not quoted
        elif not quoted:
            return b"\r" if match[0] == b"\r" else b"\n"
    return b"\n" if b"\n" in sample or b"\r" not in sample else b"\r"


def _header(lines: pa.Array) -> tuple[str, tuple[str, ...], int]:
    """Delimiter, column names, and how many lines the header takes."""
    texts = [raw.decode("utf-8", "replace") for raw in lines[:LONGEST_RECORD].to_pylist()]
    best: tuple[str, tuple[str, ...], int] = ("\t", (), 1)
    for delimiter in _FORMATS:
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
