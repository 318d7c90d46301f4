"""The interface of all file formats: a file has columns, and batches of records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from ingest.sources.payload import PayloadKind

_MAX_SHOWN = 5  # names in a message

NOT_UTF8 = "not valid UTF-8"
"""The fault of a record whose bytes are not text."""

NOT_TEXT = "is not valid text"
"""The end of the message about a JSON value that is not text."""


@dataclass(frozen=True)
class Batch:
    """Consecutive records of a file: n records, readable or not.

    - `lines` (n, int64): the line on which each record starts, from 1, not descending. In Parquet,
      the row.
    - `fields`: n values for each role: strings; doubles for a typed position; any plain type for a
      payload field.
    - `faults`: the reason why a record cannot be read, by the number of the record (0 to n - 1).
      The values of such a record in `fields` are ignored.
    - `show`: a function that returns the text of a record, given its number.
    - `position`: number of bytes of the file on disk that have been read.
    - `late_names`: number of records with each field that is not a column, because its name does
      not occur in the sample of the file.
    - `unread_lists`: names of lists of songs that are passed over.
    """

    lines: NDArray[np.int64]
    fields: Mapping[str, pa.Array]
    faults: Mapping[int, str]
    show: Callable[[int], str]
    position: int
    late_names: Mapping[str, int] = field(default_factory=dict)
    unread_lists: Sequence[str] = ()


class PlaylistFile(Protocol):
    """A playlist file whose format and columns are known."""

    @property
    def kind(self) -> str:
        """The format in words, such as `CSV, wrapped quotes`."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the columns, in order."""

    @property
    def suggested(self) -> Mapping[str, str]:
        """The columns whose roles are clear from the structure of the file, by role."""

    @property
    def remarks(self) -> Sequence[str]:
        """Notes for the user that are known before reading, such as lists that are not read."""

    def kind_of(self, name: str) -> PayloadKind | None:
        """Return the kind of a typed column, or None if it is text."""

    def read_batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """Yield all records, in order, each in one batch; `columns` maps roles to names."""


def describe_unread(lists: Collection[str]) -> tuple[str, ...]:
    """Return a note about lists of songs that are not read, if there are any."""
    return (f"not read: {quote([*lists])}",) if lists else ()


def quote(names: Sequence[str]) -> str:
    """Return the first few names, in quotes."""
    more = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_MAX_SHOWN]) + more
