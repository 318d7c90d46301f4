"""Detect the format of a file and the roles of its columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import ColumnError, EmptyFileError, FileError
from ingest.sources.columns.known_names import PODCASTS, fold
from ingest.sources.columns.roles import (
    THIS_FILE,
    find_column,
    find_columns,
    free_columns,
    has_known_name,
)
from ingest.sources.files.content import decode_sample, read_sample
from ingest.sources.formats.batch import quote
from ingest.sources.formats.csv import CsvFile, open_csv
from ingest.sources.formats.json import looks_like_json, open_json
from ingest.sources.formats.m3u import is_m3u, open_m3u
from ingest.sources.formats.parquet import MAGIC, open_parquet
from ingest.sources.formats.track_list import TrackList
from ingest.sources.formats.xspf import is_xspf, open_xspf
from ingest.sources.options import COLUMN_FLAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.sources.files.find import SourceFile
    from ingest.sources.formats.batch import PlaylistFile
    from ingest.sources.options import ReadOptions

_MAX_LISTED = 20  # maximum number of columns in a message


@dataclass(frozen=True)
class OpenedFile:
    """A file whose format has been detected. `columns` maps roles to column names.

    `needs_artist` is set if rows without an artist must be rejected. `remarks` are notes for the
    user about the columns.
    """

    file: SourceFile
    content: PlaylistFile
    columns: Mapping[str, str]
    needs_artist: bool
    remarks: tuple[str, ...] = ()


def open_file(file: SourceFile, given: Mapping[str, str], options: ReadOptions) -> OpenedFile:
    """Detect the format and the columns of a file. `given` maps roles to column names.

    Raises `FileError` and `ColumnError`, and `EmptyFileError` if the file has no songs.
    """
    content = _detect_format(file, options)
    names = content.names.all
    if set(map(fold, names)) >= PODCASTS:
        raise EmptyFileError(f"{file} is a history of podcasts, without songs")
    if isinstance(content, TrackList):
        given = {"playlist_id": THIS_FILE, **given}
    try:
        columns = find_columns(content.names, given, file)
    except ColumnError as error:
        text = f"{error}{_explain_header(content, options)}"
        raise ColumnError(text.replace(COLUMN_FLAG, options.column_flag)) from error
    for field in options.payload:
        name = find_payload_column(names, field.column)
        if name is None:
            raise ColumnError(
                f"{file}: there is no column '{field.column}' (--payload {field.field}); "
                f"the columns found are {', '.join(map(repr, names[:_MAX_LISTED]))}"
            )
        columns[field.role] = name
    remarks = []
    if "artist" not in columns and "artist" not in given:
        remark = _describe_artist(names, columns)
        remarks.append(remark.replace(COLUMN_FLAG, options.column_flag))
    if columns.get("owner") == THIS_FILE:
        remarks.append("no column for the user: each file is taken as the plays of one listener")
    needs_artist = "artist" in columns and not isinstance(content, TrackList)
    return OpenedFile(file, content, columns, needs_artist, tuple(remarks))


def _describe_artist(names: Sequence[str], columns: Mapping[str, str]) -> str:
    """Return a note about the missing artist column."""
    text = (
        f"no column for the artist: items are identified by '{columns['title']}' alone; if "
        f"that is right, use --column artist="
    )
    free = free_columns(names, columns)
    return f"{text}, else name the column of the artist (one of {quote(free)})" if free else text


def _detect_format(file: SourceFile, options: ReadOptions) -> PlaylistFile:
    sample = read_sample(file)
    is_parquet = sample.data.startswith(MAGIC)
    if options.format == "parquet" or (options.format == "auto" and is_parquet):
        if file.member:
            raise FileError(f"{file}: unpack the archive first, to read Parquet")
        if sample.compression:
            raise FileError(f"{file} is compressed Parquet: decompress it first")
        return open_parquet(file)
    if is_parquet:
        raise FileError(f"{file} is a Parquet file, not {options.format}: leave --format out")
    content, sample = decode_sample(file, sample, options.encoding)
    if options.format == "m3u" or (options.format == "auto" and is_m3u(file.name, sample.data)):
        return open_m3u(content)
    if options.format == "xspf" or (options.format == "auto" and is_xspf(sample.data)):
        return open_xspf(content)
    if options.format in {"jsonl", "json", "mpd"}:
        return open_json(content, sample, is_lines=options.format == "jsonl")
    if options.format == "auto" and looks_like_json(sample.data):
        return open_json(content, sample)
    return open_csv(content, sample, options)


def _explain_header(content: PlaylistFile, options: ReadOptions) -> str:
    """Return a hint about the header if the file is delimited text without known column names."""
    if not isinstance(content, CsvFile) or (options.header and has_known_name(content.names.all)):
        return ""
    values = [f"{n} ({value[:30]!r})" for n, value in enumerate(content.first_values[:9], start=1)]
    more = ", ..." if len(content.first_values) > len(values) else ""
    columns = f"the columns are called {', '.join(values)}{more}"
    if options.header:
        return f"; if the first line is already a row, use --no-header: {columns}"
    return f"; {columns}"


def find_payload_column(names: Sequence[str], column: str) -> str | None:
    """Return the column with this name, or None.

    Dotted names, such as those of songs in a list, take precedence.
    """
    inner = [name for name in names if "." in name]
    return find_column(inner, column) or find_column(names, column)
