"""`nextsong ingest`: from playlist files to a release."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from catalog.cli import home_option, one_line_errors, quiet_option, reporter_for, work_option
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Command = TypeVar("Command", bound="Callable[..., Any]")

_ROLES = "playlist_id, playlist_name, owner, artist, title, position or track_id"


@click.group()
def ingest() -> None:
    """Make a release of playlist files."""


def _columns(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    columns = {}
    for value in values:
        role, equals, name = value.partition("=")
        if not role or not equals:
            raise click.BadParameter(f"'{value}' is not of the form ROLE=NAME")
        if role not in _ROLES.replace(" or ", ", ").split(", "):
            raise click.BadParameter(f"there is no role '{role}'; the roles are {_ROLES}")
        columns[role] = name
    return columns


def parameter_options(command: Command) -> Command:
    """Add an option for each field of `Parameters`, with its default and its help."""
    for parameter in reversed(fields(Parameters)):
        name = parameter.name.replace("_", "-")
        default, text = parameter.default, parameter.metadata["help"]
        if isinstance(default, bool):
            option = click.option(
                f"--{name}/--no-{name}", default=default, show_default=True, help=text
            )
        elif default is None:
            option = click.option(f"--{name}", type=int, help=text)
        else:
            option = click.option(f"--{name}", default=default, show_default=True, help=text)
        command = option(command)
    return command


@ingest.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_columns,
    metavar="ROLE=NAME",
    help=f"The file's column for a role: {_ROLES}. Common names are found without it; an empty "
    "NAME leaves a role out.",
)
@home_option
@work_option
@parameter_options
@click.option("--force", is_flag=True, help="Redo every stage and publish again.")
@quiet_option
@one_line_errors
def run(
    files: tuple[Path, ...],
    columns: Mapping[str, str],
    home: Path,
    work: Path | None,
    force: bool,
    quiet: bool,
    **parameters: Any,
) -> None:
    """Read CSV, TSV or Parquet FILEs of playlists, learn from them and publish a release."""
    from catalog.embedded import EmbeddedHome
    from ingest import account, pipeline

    outcome = pipeline.run(
        files,
        columns,
        EmbeddedHome(home),
        work or home / "work",
        Parameters(**parameters),
        reporter_for(quiet=quiet),
        force=force,
    )
    click.echo(account.of(outcome))
