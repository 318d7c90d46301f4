"""Options for reading playlist files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from ingest.sources.values.payload import PayloadColumn

Format = Literal["auto", "csv", "tsv", "psv", "jsonl", "json", "mpd", "parquet", "m3u", "xspf"]
FORMATS: tuple[Format, ...] = get_args(Format)
Quoting = Literal["auto", "standard", "wrapped", "none"]
QUOTINGS: tuple[Quoting, ...] = get_args(Quoting)

COLUMN_FLAG = "--column"
"""The option that names the columns of playlist files."""

MIN_PLAY = 30.0
"""Default minimum length of a play that counts, in seconds. Spotify uses the same minimum."""


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading files, needed only if the content of the files is ambiguous.

    `format`, `delimiter`, `encoding` and `quoting` are detected if they are "auto" or "". If
    `header` is false, the columns of delimited text are called 1, 2, 3 and so on. `payload` lists
    additional columns to store with each song. If the file has the lengths of plays, plays shorter
    than `min_play` seconds are ignored. `column_flag` is the option for naming columns in messages.
    """

    format: Format = "auto"
    delimiter: str = ""
    encoding: str = ""
    quoting: Quoting = "auto"
    header: bool = True
    payload: tuple[PayloadColumn, ...] = ()
    min_play: float = MIN_PLAY
    column_flag: str = COLUMN_FLAG


DEFAULT_OPTIONS = ReadOptions()
