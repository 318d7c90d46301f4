"""Reader for delimited text: detects line ends, delimiter and quoting."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import EmptyFileError, FileError
from ingest.sources.columns.roles import ColumnNames
from ingest.sources.files.content import SAMPLE_SIZE, read_blocks
from ingest.sources.files.encodings import BINARY, find_undecodable, is_binary
from ingest.sources.formats.batch import NOT_UTF8, Batch
from ingest.sources.formats.csv_splitters import (
    MAX_RECORD_LINES,
    RecordShape,
    Split,
    split_standard,
    split_unquoted,
    split_wrapped,
    strip_line_ends,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ingest.sources.files.content import Content, Sample
    from ingest.sources.options import ReadOptions

_MAX_SHOWN = 2000  # maximum number of bytes of a line in messages
_HEAD_SIZE = 1 << 16  # bytes at the start of a file that are searched for the end of the header
# A line before the header, from which Excel reads the delimiter.
_SEPARATOR_LINE = re.compile(r'"?sep=([\x01-\x7f])"?\r?\n?$')
_FORMAT_NAMES = {"\t": "TSV", ",": "CSV", ";": "CSV with semicolons", "|": "text with bars"}
_DELIMITERS = {"csv": ",;", "tsv": "\t", "psv": "|"}
_QUOTING_NAMES = {
    "standard": "standard quoting",
    "wrapped": "wrapped quotes",
    "none": "no quoting",
}
_SAMPLE_STEP = 1000  # lines of a sample to split at a time; must exceed MAX_RECORD_LINES
_MAX_WRAPPED_FAULTS = 0.01  # maximum share of malformed lines for wrapped quotes to be detected


@dataclass(frozen=True)
class _Layout:
    """A known layout of files that have no header.

    `source` is the origin of such files, and `names` are the column names. The values in the column
    "timestamp" match `time`.
    """

    source: str
    delimiter: str
    names: tuple[str, ...]
    time: re.Pattern[str]


_LAYOUTS = (
    _Layout(
        "Last.fm's thousand users",
        "\t",
        ("user", "timestamp", "artist-mbid", "artist", "track-mbid", "track"),
        re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    ),
    _Layout(
        "exported from Last.fm",
        ",",
        ("artist", "album", "track", "timestamp"),
        re.compile(r"\d\d? [A-Z][a-z]{2} \d{4},? \d\d:\d\d"),
    ),
)


class _Splitter(Protocol):
    def __call__(self, lines: pa.Array, shape: RecordShape, *, is_last: bool) -> Split: ...


_SPLITTERS: Mapping[str, _Splitter] = {
    "wrapped": split_wrapped,
    "none": split_unquoted,
    "standard": split_standard,
}


@dataclass(frozen=True)
class CsvFile:
    """A file of delimited text.

    `body_start` is the offset of the first record, in bytes of UTF-8 text, and `first_line` is its
    line number. `first_values` are the fields of the header, or of the first record if there is no
    header. `source` is the origin of a file that has no header but a known layout, otherwise "".
    """

    content: Content
    names: ColumnNames
    delimiter: str
    quoting: str
    line_end: bytes
    body_start: int
    first_line: int
    first_values: tuple[str, ...]
    source: str = ""

    @property
    def remarks(self) -> Sequence[str]:
        """A note for the user if the encoding is uncertain."""
        return self.content.remarks

    @property
    def kind(self) -> str:
        """The format in words, such as `CSV, wrapped quotes`."""
        encoding = self.content.encoding
        return self.content.describe(
            _FORMAT_NAMES.get(self.delimiter, f"text with '{self.delimiter}'"),
            _QUOTING_NAMES[self.quoting],
            "CR line ends" if self.line_end == b"\r" else "",
            "byte order mark" if encoding.is_utf8 and encoding.mark_length else "",
            self.source and f"{self.source}, without a header",
        )

    def kind_of(self, _name: str) -> None:
        """Return None, because all columns are text."""

    def read_batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the records in file order, as batches. `columns` maps roles to column names."""
        names = self.names.outer
        wanted = tuple(names.index(name) for name in columns.values())
        shape = RecordShape(self.delimiter, len(names), wanted)
        split_lines = _SPLITTERS[self.quoting]
        line, rest = self.first_line, b""
        with self.content.open() as stream:
            stream.read(self.body_start)
            for block, is_last in read_blocks(stream, self.line_end, self.content.file):
                lines = cut_lines(rest + block, self.line_end)
                split = split_lines(lines, shape, is_last=is_last)
                yield self._to_batch(lines, split, columns, line, stream.position())
                kept = len(lines) - split.open_lines
                rest = b"".join(lines[kept:].to_pylist())
                line += kept

    def _to_batch(
        self, lines: pa.Array, split: Split, columns: Mapping[str, str], line: int, position: int
    ) -> Batch:
        def show(record: int) -> str:
            raw: bytes = lines[int(split.starts[record])].as_py()
            return raw[:_MAX_SHOWN].rstrip(b"\r\n").decode("utf-8", "backslashreplace")

        faults = {
            record: f"not valid {self.content.encoding.name}" if fault == NOT_UTF8 else fault
            for record, fault in split.faults.items()
        }
        fields = dict(zip(columns, split.fields, strict=True))
        return Batch(line + split.starts, fields, faults, show, position)


def open_csv(content: Content, sample: Sample, options: ReadOptions) -> CsvFile:
    """Open delimited text. Line ends, header and quoting are detected from the sample.

    Raises `FileError` if the file is not text, and `EmptyFileError` if the file has no records.
    """
    file = content.file
    if is_binary(sample.data):
        raise FileError(f"{file}: {BINARY}")
    line_end = _detect_line_end(sample.data)
    lines = cut_lines(sample.data, line_end)
    if not sample.is_whole and len(lines):
        lines = lines[:-1]  # the last line may be incomplete
    header_line = _find_filled(lines)
    if header_line == len(lines):
        if sample.is_whole:
            raise EmptyFileError(f"{file} is empty")
        raise FileError(f"{file}: its first line is longer than {SAMPLE_SIZE >> 20} MB")
    separator = _SEPARATOR_LINE.match(lines[header_line].as_py().decode("utf-8", "replace"))
    if separator and header_line + 1 < len(lines):
        header_line += 1
        options = replace(options, delimiter=options.delimiter or separator[1])
    delimiter, first_values, header_lines = _detect_header(lines[header_line:], options)
    layout = _find_layout(first_values, delimiter) if options.header else None
    names = first_values
    if layout or not options.header:
        numbers = tuple(str(n + 1) for n in range(len(first_values)))
        names, header_lines = layout.names if layout else numbers, 0
    body = lines[header_line + header_lines :]
    if sample.is_whole and _find_filled(body) == len(body):
        raise EmptyFileError(f"{file} has a header but no rows")
    if 2 * np.count_nonzero(find_undecodable(body)) > len(body):
        raise FileError(
            f"{file} is not {content.encoding.name} text: name its encoding with --encoding"
        )
    quoting: str = options.quoting
    if quoting == "auto":
        is_header_quoted = lines[header_line].as_py().lstrip().startswith(b'"')
        shape = RecordShape(delimiter, len(names))
        quoting = _detect_quoting(body, shape, is_header_quoted, sample.is_whole)
    before = lines[: header_line + header_lines]
    return CsvFile(
        content,
        ColumnNames(names),
        delimiter,
        quoting,
        line_end,
        body_start=sum(map(len, before.to_pylist())),
        first_line=len(before) + 1,
        first_values=first_values,
        source=layout.source if layout else "",
    )


def cut_lines(data: bytes, line_end: bytes) -> pa.Array:
    """Return the lines of `data` as an Arrow binary array, each with its line end."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == line_end[0]) + 1
    if data and (not len(ends) or ends[-1] != len(data)):
        ends = np.append(ends, len(data))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(ends), buffers)


def _find_filled(lines: pa.Array) -> int:
    """Return the index of the first non-empty line, or the number of lines if all are empty."""
    filled = pc.binary_length(strip_line_ends(lines)).to_numpy() > 0
    return int(np.argmax(filled)) if filled.any() else len(lines)


def _detect_line_end(sample: bytes) -> bytes:
    """Return CR if the header ends with a lone CR, else LF. A CR before LF is removed later."""
    is_quoted = False
    for match in re.finditer(rb'"|\r\n|\r|\n', sample[:_HEAD_SIZE]):
        if match[0] == b'"':
            is_quoted = not is_quoted
        elif not is_quoted:
            return b"\r" if match[0] == b"\r" else b"\n"
    return b"\n" if b"\n" in sample or b"\r" not in sample else b"\r"


def _detect_header(lines: pa.Array, options: ReadOptions) -> tuple[str, tuple[str, ...], int]:
    """Return the delimiter with the most columns, the column names, and the header's line count."""
    delimiters = options.delimiter or _DELIMITERS.get(options.format, "".join(_FORMAT_NAMES))
    texts = [raw.decode("utf-8", "replace") for raw in lines[:MAX_RECORD_LINES].to_pylist()]
    best: tuple[str, tuple[str, ...], int] = ("\t", (), 1)
    for delimiter in delimiters:
        reader = csv.reader(texts, delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            names, line_count = next(reader) or [""], reader.line_num
        except csv.Error:
            names, line_count = texts[0].rstrip("\r\n").split(delimiter), 1
        if len(names) > len(best[1]):
            names = [name.strip().strip('"').strip() for name in names]
            best = (delimiter, tuple(names), line_count)
    return best


def _find_layout(values: Sequence[str], delimiter: str) -> _Layout | None:
    """Return the known layout that matches the first record of a file, or None."""
    for layout in _LAYOUTS:
        if layout.delimiter == delimiter and len(layout.names) == len(values):
            time = values[layout.names.index("timestamp")]
            if layout.time.fullmatch(time):
                return layout
    return None


def _detect_quoting(
    lines: pa.Array, shape: RecordShape, is_header_quoted: bool, is_whole: bool
) -> str:
    """Return the kind of quoting: "wrapped", "none" or "standard" (see `csv_splitters`)."""
    all_fields = replace(shape, wanted=tuple(range(shape.width)))
    has_tabs = shape.delimiter == "\t"
    if not pc.any(pc.match_substring(lines, pattern=b'"')).as_py():
        return "none" if has_tabs and not is_header_quoted else "standard"
    wrapped = split_wrapped(lines, all_fields, is_last=is_whole)
    wrapped_faults = len(wrapped.faults)
    if (
        wrapped_faults <= max(1, _MAX_WRAPPED_FAULTS * len(lines))
        and _count_undoubled(wrapped.fields) > 0
        and _count_standard_faults(lines, shape, is_whole, stop_at=wrapped_faults + 1)
        > wrapped_faults
    ):
        return "wrapped"
    if is_header_quoted:
        return "standard"
    fault_count = _count_standard_faults(lines, shape, is_whole)
    unquoted = split_unquoted(lines, all_fields, is_last=is_whole)
    evidence = _count_evidence(unquoted.fields, has_tabs)
    if has_tabs and fault_count == len(unquoted.faults):
        return "standard" if evidence > 0 else "none"
    return "none" if len(unquoted.faults) < fault_count and evidence <= 0 else "standard"


def _count_standard_faults(
    lines: pa.Array, shape: RecordShape, is_whole: bool, stop_at: int | None = None
) -> int:
    """Return the number of malformed records in standard quoting; stop counting at `stop_at`."""
    count, start = 0, 0
    while start < len(lines) and (stop_at is None or count < stop_at):
        part = lines[start : start + _SAMPLE_STEP]
        is_last = start + len(part) == len(lines)
        split = split_standard(part, shape, is_last=is_last and is_whole)
        count += len(split.faults)
        start += len(part) if is_last else len(part) - split.open_lines
    return count


def _count_undoubled(fields: Sequence[pa.Array]) -> int:
    """Return the number of fields with undoubled quotes, minus those with only doubled quotes."""
    difference = 0
    for values in fields:
        with_quotes = values.filter(pc.match_substring(values, pattern='"'))
        single = _count_single_quotes(with_quotes)
        difference += single - (len(with_quotes) - single)
    return difference


def _count_evidence(fields: Sequence[pa.Array], has_tabs: bool) -> int:
    """Return the number of fields quoted as RFC 4180 specifies, minus the number of violations.

    Text with tabs is rarely quoted. In such text, a quoted field without inner quotes counts only
    if all fields of the column are quoted, because the quotes may be part of a title.
    """
    evidence = 0
    for values in fields:
        with_quotes = values.filter(pc.match_substring(values, pattern='"'))
        is_quoted = _are_quoted(with_quotes)
        inside = pc.utf8_slice_codeunits(with_quotes.filter(is_quoted), 1, -1)
        ruled_out = _count_single_quotes(inside) * 2 + len(with_quotes) - len(inside)
        filled = int(pc.sum(pc.not_equal(values, "")).as_py() or 0)
        if has_tabs and not 1 < len(inside) == filled:
            inside = inside.filter(pc.match_substring(inside, pattern='"'))
        evidence += len(inside) - ruled_out
    return evidence


def _are_quoted(values: pa.Array) -> pa.Array:
    ends = pc.and_(pc.starts_with(values, pattern='"'), pc.ends_with(values, pattern='"'))
    return pc.and_(ends, pc.greater_equal(pc.binary_length(values), 2))


def _count_single_quotes(values: pa.Array) -> int:
    """Return the number of values that contain a quote that is not doubled."""
    without_pairs = pc.replace_substring(values, pattern='""', replacement="")
    return int(pc.sum(pc.match_substring(without_pairs, pattern='"')).as_py() or 0)
