"""Options for reading playlist files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from ingest.sources.payload import PayloadColumn

Format = Literal["auto", "csv", "tsv", "psv", "jsonl", "json", "mpd", "parquet", "m3u", "xspf"]
FORMATS: tuple[Format, ...] = get_args(Format)
Quoting = Literal["auto", "standard", "wrapped", "none"]
QUOTINGS: tuple[Quoting, ...] = get_args(Quoting)

MIN_PLAY = 30.0
"""Minimum length in seconds of a play that counts, as in Spotify's count of streams."""


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading files, for the cases in which their content is ambiguous.

    `format`, `delimiter`, `encoding` and `quoting` are detected if they are "auto" or "". Without
    `header`, the columns of delimited text are called 1, 2, 3. `payload` lists the columns that
    are stored with each song. Plays shorter than `min_play` seconds are left out, if the file has
    the lengths of plays.
    """

    format: Format = "auto"
    delimiter: str = ""
    encoding: str = ""
    quoting: Quoting = "auto"
    header: bool = True
    payload: tuple[PayloadColumn, ...] = ()
    min_play: float = MIN_PLAY


DEFAULT_OPTIONS = ReadOptions()
