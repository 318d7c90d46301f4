"""What every kind of playlist file offers to the reader: its columns and batches of records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from ingest.sources.payload import Extra, Given

Format = Literal["auto", "csv", "tsv", "psv", "jsonl", "json", "mpd", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
Quoting = Literal["auto", "standard", "wrapped", "none"]
QUOTINGS: tuple[Quoting, ...] = get_args(Quoting)


@dataclass(frozen=True)
class How:
    """How files are to be read, where the user knows better than their content tells.

    `format`, `delimiter`, `encoding` and `quoting` are found out where they are "auto" or "".
    Without `header`, the columns of delimited text are called 1, 2, 3. `payload` are the columns
    that travel with each song.
    """

    format: Format = "auto"
    delimiter: str = ""
    encoding: str = ""
    quoting: Quoting = "auto"
    header: bool = True
    payload: tuple[Extra, ...] = ()


AUTO = How()


@dataclass(frozen=True)
class Refusal:
    """A record that could not be read: the line it starts on (1-based), why, and its text."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Batch:
    """Some consecutive records of a file.

    `line` (n, int64) says on which line (1-based; of Parquet: row) each row starts, and rises.
    `fields` maps a role to n values: strings, or doubles where the file has a typed position, or
    of any plain type where the role is a payload field.
    `text` gives the raw text of the i-th row. `done` is how many bytes of the file are behind us.
    """

    line: NDArray[np.int64]
    fields: Mapping[str, pa.Array]
    refused: Sequence[Refusal]
    text: Callable[[int], str]
    done: int


class Source(Protocol):
    """A playlist file that has been opened and understood."""

    @property
    def kind(self) -> str:
        """How the file was understood, such as `CSV, wrapped quotes`."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its columns, in order."""

    @property
    def suggested(self) -> Mapping[str, str]:
        """Columns whose roles are clear from the file's structure, by role."""

    @property
    def remarks(self) -> Sequence[str]:
        """What a person should know of it; complete when all its batches have come."""

    def kind_of(self, name: str) -> Given | None:
        """The kind that the file itself gives a column, or None for text."""

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        """All records, in order; `columns` maps roles to names. Every record is in one batch."""
