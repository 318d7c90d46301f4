"""Which kind of file an input is, and which of its columns plays which role."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.errors import ColumnError, FileError
from ingest.sources.columns import find_column, find_columns, roles_in
from ingest.sources.content import content_of
from ingest.sources.files import state_of
from ingest.sources.formats.delimited import Delimited, open_delimited
from ingest.sources.formats.json_source import is_json, open_json
from ingest.sources.formats.parquet import MAGIC, open_parquet
from ingest.sources.payload import Tally, settled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ingest.sources.files import Input
    from ingest.sources.payload import Given
    from ingest.sources.source import How, Source


_AGAIN = "download or pack it again"
_TRUNCATED = "Truncated compressed stream"  # what Arrow says of it


@dataclass(frozen=True)
class Opened:
    """An input, its state when it was opened, and what plays which role in it."""

    input: Input
    state: tuple[int, int, int]
    source: Source
    columns: Mapping[str, str]


def open_input(file: Input, given: Mapping[str, str], how: How) -> Opened:
    """Find out how an input is to be read. Raises FileError and ColumnError."""
    with readable(file):
        state = state_of(file.path)
        source = _source(file, how)
    names = list(source.names)
    suggested = {role: name for role, name in source.suggested.items() if role not in given}
    try:
        columns = find_columns(names, {**suggested, **given}, Path(str(file)))
    except ColumnError as error:
        raise ColumnError(f"{error}{_first_line(source, how)}") from error
    for extra in how.payload:
        name = _payload_column(names, extra.column)
        if name is None:
            raise ColumnError(
                f"{file}: there is no column '{extra.column}' (--payload {extra.field}); "
                f"the columns found are {', '.join(repr(name) for name in names[:20])}"
            )
        columns[extra.role] = name
    return Opened(file, state, source, columns)


def _first_line(source: Source, how: How) -> str:
    """What to add where the columns of delimited text are not known by their names."""
    if not isinstance(source, Delimited) or (how.header and roles_in(source.names)):
        return ""
    values = [f"{at} ({value[:30]!r})" for at, value in enumerate(source.first[:9], start=1)]
    more = ", ..." if len(source.first) > 9 else ""
    called = f"the columns are called {', '.join(values)}{more}"
    if how.header:
        return f"; if the first line is a row already, say --no-header: {called}"
    return f"; {called}"


def _payload_column(names: Sequence[str], column: str) -> str | None:
    """The column of this name; a song's own before one of its whole playlist."""
    inner = [name for name in names if "." in name]
    return find_column(inner, column) or find_column(names, column)


def _source(file: Input, how: How) -> Source:
    head = b""
    if not file.member:
        with file.path.open("rb") as handle:
            head = handle.read(len(MAGIC))
    if how.format == "parquet" or (how.format == "auto" and head == MAGIC):
        if file.member:
            raise FileError(f"{file}: unpack the archive first, to read Parquet")
        return open_parquet(file.path, file.label)
    if head == MAGIC:
        raise FileError(f"{file} is a Parquet file, not {how.format}: leave --format out")
    content = content_of(file, how.encoding)
    if how.format == "auto" and content.head(len(MAGIC))[0] == MAGIC:
        raise FileError(f"{file} is packed Parquet: unpack it first")
    if how.format in {"jsonl", "json", "mpd"}:
        return open_json(content, lines=how.format == "jsonl")
    with content.flow() as flow:
        json_like = how.format == "auto" and is_json(flow.read(1 << 10))
    return open_json(content) if json_like else open_delimited(content, how)


def tallies_of(opened: Sequence[Opened], how: How) -> dict[str, Tally]:
    """A tally for each payload field, of the kind that all files agree on."""
    natural: list[dict[str, Given]] = []
    for file in opened:
        found = {extra.role: file.source.kind_of(file.columns[extra.role]) for extra in how.payload}
        natural.append({role: kind for role, kind in found.items() if kind is not None})
    return {name: Tally(kind) for name, kind in settled(how.payload, natural).items()}


@contextmanager
def readable(file: Input) -> Iterator[None]:
    """What goes wrong with the file itself becomes a FileError."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileError(f"{file} does not exist") from error
    except PermissionError as error:
        raise FileError(f"{file} may not be read: check its permissions") from error
    except EOFError as error:
        raise FileError(f"{file} is cut short: {_AGAIN}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise FileError(f"{file} is damaged ({error}): {_AGAIN}") from error
    except (OSError, pa.ArrowException, NotImplementedError) as error:
        if _TRUNCATED in str(error):
            raise FileError(f"{file} is cut short: {_AGAIN}") from error
        raise FileError(f"{file} cannot be read: {error}") from error
