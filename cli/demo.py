"""The command `nextsong demo`, which runs every step on synthetic playlists."""

from __future__ import annotations

from pathlib import Path

import click

from catalog.commands.options import one_line_errors, quiet_option, reporter_for


@click.command(short_help="Show every step on synthetic playlists.")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=Path(".nextsong/demo"),
    show_default=True,
    help="Folder for all files of the demo.",
)
@click.option(
    "--playlists",
    default=8_000,
    show_default=True,
    type=click.IntRange(100, 1_000_000),
    help="Number of playlists to generate.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the synthetic playlists.",
)
@click.option(
    "--write-raw",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Only write synthetic playlists to FILE, in the format of the #nowplaying dataset, "
    "including its broken quotes.",
)
@click.option(
    "--rows",
    default=100_000,
    show_default=True,
    type=click.IntRange(100, 200_000_000),
    help="Number of rows that --write-raw writes.",
)
@quiet_option
@one_line_errors
def demo(
    home: Path, playlists: int, seed: int, write_raw: Path | None, rows: int, quiet: bool
) -> None:
    """Show every step on synthetic playlists, from a file to a recommendation over gRPC."""
    from cli import demo_steps

    reporter = reporter_for(quiet=quiet)
    if write_raw:
        demo_steps.write_raw(write_raw, rows, seed, reporter)
    else:
        demo_steps.run_demo(home, playlists, seed, reporter)
