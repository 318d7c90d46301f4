"""Commands that belong to no package below: `nextsong demo`."""

from __future__ import annotations

from pathlib import Path

import click

from catalog.commands.options import one_line_errors, quiet_option, reporter_for


@click.command(short_help="Show the whole road on invented playlists.")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=Path(".nextsong/demo"),
    show_default=True,
    help="Folder for everything that the demo makes.",
)
@click.option(
    "--playlists",
    default=8_000,
    show_default=True,
    type=click.IntRange(100, 1_000_000),
    help="How many playlists to invent.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Other seeds invent other songs.",
)
@click.option(
    "--write-raw",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Only write invented playlists to FILE, in the raw form of the #nowplaying playlists, "
    "with its broken quotes.",
)
@click.option(
    "--rows",
    default=100_000,
    show_default=True,
    type=click.IntRange(100, 200_000_000),
    help="How many rows --write-raw writes.",
)
@quiet_option
@one_line_errors
def demo(
    home: Path, playlists: int, seed: int, write_raw: Path | None, rows: int, quiet: bool
) -> None:
    """Show the whole road on invented playlists, from a file to an answer over gRPC."""
    from cli import demo as steps

    if write_raw:
        steps.write_raw(write_raw, rows, seed, reporter_for(quiet=quiet))
    else:
        steps.run(home, playlists, seed, reporter_for(quiet=quiet))
