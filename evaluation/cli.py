"""`nextsong evaluate` and `nextsong demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.cli import home_option, one_line_errors, quiet_option, reporter_for, work_option

if TYPE_CHECKING:
    from evaluation.protocol import Split


@click.command(short_help="Measure how often held-out songs are found.")
@home_option
@work_option
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="test",
    show_default=True,
    help="Which held-out playlists.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@quiet_option
@one_line_errors
def evaluate(
    home: Path,
    work: Path | None,
    split: Split,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how often the current release finds the held-out last song of a playlist.

    It is scored in each mode: by Word2Vec, by co-occurrence and by both; beside popularity and
    beside the tutorials' way, Word2Vec neighbours of the last song.
    """
    from catalog.embedded import EmbeddedHome
    from evaluation import harness, show

    release = EmbeddedHome(home).open()
    result = harness.evaluate(release, work or home / "work", split, reporter_for(quiet=quiet))
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2))
    else:
        show.evaluation(result)


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
@click.option("--seed", default=0, show_default=True, help="Other seeds invent other songs.")
@quiet_option
@one_line_errors
def demo(home: Path, playlists: int, seed: int, quiet: bool) -> None:
    """Show the whole road on invented playlists, from a file to an answer over gRPC."""
    from evaluation.demo import run

    run(home, playlists, seed, reporter_for(quiet=quiet))
