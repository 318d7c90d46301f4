"""The interface of all file formats: files with columns, read as batches of records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from ingest.sources.columns.roles import ColumnNames
    from ingest.sources.values.payload import PayloadKind

_MAX_SHOWN = 5  # maximum number of names in a message

NOT_UTF8 = "not valid UTF-8"
"""Reason why a record with bytes that are not valid text cannot be read."""

NOT_TEXT = "is not valid text"
"""End of the message about a JSON value that is not valid text."""

NO_SONGS = "a playlist without songs"
"""Reason why a record whose list of songs is empty or missing cannot be read."""


@dataclass(frozen=True)
class Batch:
    """A batch of n consecutive records of a file, including unreadable records.

    - `lines` (n, int64): the number of the line on which each record starts, counted from 1 and
      never descending. In Parquet, the number of the row.
    - `fields`: n values for each role. Values are strings, except that positions may be doubles,
      and payload fields may have any plain type.
    - `faults`: the reason why a record cannot be read, by the number of the record (0 to n - 1).
      The values of such a record in `fields` are ignored.
    - `show`: a function that takes the number of a record and returns the record as text.
    - `position`: number of bytes on disk that have been read.
    - `late_names`: names of values that are not read, because they do not occur at the start of the
      file (the first `SAMPLE_SIZE` bytes).
    - `unread_lists`: names of lists of songs that are not read.
    """

    lines: NDArray[np.int64]
    fields: Mapping[str, pa.Array]
    faults: Mapping[int, str]
    show: Callable[[int], str]
    position: int
    late_names: Collection[str] = ()
    unread_lists: Sequence[str] = ()


class PlaylistFile(Protocol):
    """A playlist file whose format and columns are known."""

    @property
    def kind(self) -> str:
        """The format in words, such as `CSV, wrapped quotes`."""

    @property
    def names(self) -> ColumnNames:
        """The names of the columns, in order."""

    @property
    def remarks(self) -> Sequence[str]:
        """Notes for the user that are known before reading, such as the names of unread lists."""

    def kind_of(self, name: str) -> PayloadKind | None:
        """Return the payload kind of a column, or None if the column is text."""

    def read_batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the records in file order, as batches. `columns` maps roles to column names."""


def describe_unread(lists: Collection[str]) -> tuple[str, ...]:
    """Return a note about lists of songs that are not read, if there are any."""
    return (f"not read: {quote([*lists])}",) if lists else ()


def quote(names: Sequence[str]) -> str:
    """Return the first few names, in quotes and separated by commas."""
    more = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_MAX_SHOWN]) + more
