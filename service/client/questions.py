"""Questions to the user on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from catalog.console.terminal import echo, one_line
from catalog.song import full_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nextsong.v1 import recommender_pb2 as pb


def is_interactive() -> bool:
    """Return whether a user can be asked: standard input and standard error are terminals."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())


def ask_for_song(text: str, songs: Sequence[pb.Song]) -> pb.Song | None:
    """Ask the user which of the songs a text means. Returns None if it means none of the songs."""
    echo(f"The catalog does not have {one_line(text)!r}. Did you mean:", err=True)
    for number, song in enumerate(songs, start=1):
        echo(f"  {number}  {one_line(full_name(song.artist, song.title))}", err=True)
    echo("  0  none of them", err=True)
    number = click.prompt("Number", type=click.IntRange(0, len(songs)), default=1, err=True)
    return songs[number - 1] if number else None
