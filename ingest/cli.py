"""`nextsong ingest`: from playlist files to a release."""

from __future__ import annotations

import functools
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from catalog.commands.options import (
    Decimal,
    from_above,
    home_option,
    json_option,
    log_format_option,
    one_line_errors,
    print_result,
    publishing,
    qdrant_server,
    quiet_option,
    reporter_for,
    work_option,
)
from catalog.terminal import echo, print_json
from ingest.parameters import Parameters
from ingest.sources.options import FORMATS, QUOTINGS, Format, Quoting, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from catalog.server.options import Layout, QdrantOptions
    from ingest.sources.payload import PayloadColumn

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


class Share(click.ParamType[float]):
    """A share, as 0.05 or 5%."""

    name = "share"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share, from 0 to 1, or fail."""
        try:
            text = str(value).strip()
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is no share: write 5% or 0.05", param, ctx)
        return share


def _delimiter(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    value = {"tab": "\t", "\\t": "\t"}.get(value.lower(), value)
    if len(value) > 1 or value in {'"', "\n", "\r"}:
        raise click.BadParameter(f"{value!r} is not one character that can stand between fields")
    return value


def _encoding(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    from catalog.errors import InputError
    from ingest.sources.encodings import find_encoding

    try:
        if value:
            find_encoding(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    return value


def _payload(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[PayloadColumn, ...]:
    from catalog.errors import InputError
    from ingest.sources.payload import parse_payload_columns

    try:
        return parse_payload_columns(values)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


def reading_options(command: Command) -> Command:
    """Add the options that say how files are read, where their content does not tell."""
    for option in reversed(
        [
            click.option(
                "--format",
                "file_format",
                type=click.Choice(FORMATS),
                default="auto",
                show_default=True,
                help="What the files are; auto: told by their content.",
            ),
            click.option(
                "--delimiter",
                default="",
                callback=_delimiter,
                metavar="CHARACTER",
                help="What stands between fields of text (tab: a tab).  [default: found out]",
            ),
            click.option(
                "--encoding",
                default="",
                callback=_encoding,
                help="Encoding of text, such as macroman or shift_jis.  [default: detected: UTF-8, "
                "UTF-16 or Windows-1252]",
            ),
            click.option(
                "--quoting",
                type=click.Choice(QUOTINGS),
                default="auto",
                show_default=True,
                help="How fields are quoted; wrapped: all of them, with plain quotes inside.",
            ),
            click.option(
                "--header/--no-header",
                default=True,
                show_default=True,
                help="Whether the first line names the columns; without it they are 1, 2, 3.",
            ),
            click.option(
                "--payload",
                multiple=True,
                callback=_payload,
                metavar="[FIELD=]COLUMN[:KIND]",
                help="A further column that travels with each song, to be filtered on. Kinds: "
                "keyword, integer, float, boolean, text.  [default: as in the file, or keyword]",
            ),
        ]
    ):
        command = option(command)
    return command


def parameter_options(command: Command) -> Command:
    """Add an option for each field of `Parameters`, with its default and its help."""
    for parameter in reversed(fields(Parameters)):
        name = parameter.name.replace("_", "-")
        default, text = parameter.default, parameter.metadata["help"]
        choices = parameter.metadata.get("choices")
        if choices:
            option = click.option(
                f"--{name}",
                type=click.Choice(choices),
                default=default,
                show_default=True,
                help=text,
            )
        elif isinstance(default, bool):
            option = click.option(
                f"--{name}/--no-{name}", default=default, show_default=True, help=text
            )
        else:
            low, high = parameter.metadata["range"]
            number = Decimal(low, high) if isinstance(default, float) else click.IntRange(low, high)
            option = click.option(
                f"--{name}",
                type=number,
                default=default,
                show_default=default is not None,
                help=text,
            )
        command = option(command)
    return command


def stopped_as_json(command: Command) -> Command:
    """Say that Ctrl-C ended the command as a JSON line too, where progress comes as such."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            if kwargs["log_format"] != "json":
                raise
            from catalog.progress import log

            log("error", error="Interrupted", text="stopped; the current release is as it was")
            raise click.exceptions.Exit(1) from None

    return wrapped  # type: ignore[return-value]


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
@reading_options
@home_option
@qdrant_server
@publishing
@work_option
@parameter_options
@click.option(
    "--params",
    "parameter_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Parameters from a file (JSON or TOML) as `nextsong tune` writes it; options go first.",
)
@click.option(
    "--max-rejects",
    type=Share(),
    default="5%",
    show_default=True,
    help="Share of rejected rows beyond which nothing is published.",
)
@click.option("--force", is_flag=True, help="Redo every stage and publish again.")
@click.option(
    "--gate",
    is_flag=True,
    help="Publish only if the new release is not significantly worse than the current one on the "
    "validation playlists.",
)
@json_option
@quiet_option
@log_format_option
@one_line_errors
@stopped_as_json
def run(
    files: tuple[Path, ...],
    columns: Mapping[str, str],
    file_format: Format,
    delimiter: str,
    encoding: str,
    quoting: Quoting,
    header: bool,
    payload: tuple[PayloadColumn, ...],
    home: Path,
    work: Path | None,
    qdrant: QdrantOptions | None,
    layout: Layout,
    keep: int,
    parameter_file: Path | None,
    max_rejects: float,
    force: bool,
    gate: bool,
    as_json: bool,
    quiet: bool,
    log_format: str,
    **parameters: Any,
) -> None:
    """Read FILEs of playlists, learn from them and publish a release.

    A FILE is CSV, TSV, Parquet, JSON lines or a slice of the Million Playlist Dataset, also packed
    (.gz, .zst, .bz2, .zip); or a folder of such files, or a pattern such as 'mpd.slice.*.json'; or
    - for text (not packed) on standard input.
    """
    from catalog.open_store import open_store
    from ingest import parameter_files, pipeline
    from ingest import report as account

    how = ReadOptions(file_format, delimiter, encoding, quoting, header, payload)
    source_of = click.get_current_context().get_parameter_source
    place = open_store(home, qdrant, layout=layout, keep=keep)
    reporter = reporter_for(quiet=quiet, log_format=log_format)
    start = time.perf_counter()
    told = {name for name in parameters if source_of(name) == ParameterSource.COMMANDLINE}
    chosen = parameter_files.read(parameter_file) if parameter_file else parameter_files.NONE
    parameters |= {name: value for name, value in chosen.parameters.items() if name not in told}
    outcome = pipeline.run(
        files,
        columns,
        place,
        work or home / "work",
        Parameters(**parameters),
        reporter,
        how=how,
        told=told | chosen.parameters.keys(),
        validation=chosen.validation,
        study=chosen.study,
        max_rejects=max_rejects,
        force=force,
        gate=from_above("gate")(place, reporter) if gate else None,
    )
    recorded = account.payload(outcome) | {"seconds": round(time.perf_counter() - start, 1)}
    from_above("record")(home, "ingest", recorded, reporter)
    print_result(recorded, account.of(outcome), as_json=as_json)


@ingest.command()
@home_option
@work_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the page and its pictures.  [default: HOME/stats]",
)
@json_option
@quiet_option
@one_line_errors
def stats(home: Path, work: Path | None, out: Path | None, as_json: bool, quiet: bool) -> None:
    """Show what the playlists of the last run are made of: a page with pictures, and figures."""
    from ingest.stats import measures as figures
    from ingest.stats import page as stats_page

    found = figures.measure(work or home / "work", reporter_for(quiet=quiet))
    page = stats_page.write(found, out or home / "stats")
    if as_json:
        print_json(found.to_json())
    else:
        echo(f"{found.playlists:,} playlists, {found.plays:,} plays: see {page}")


@ingest.command()
@home_option
@work_option
@json_option
@one_line_errors
def report(home: Path, work: Path | None, as_json: bool) -> None:
    """Show the account of the last run: what was read, used and rejected, and what it means."""
    from ingest import report as account

    stages = account.load(work or home / "work")
    if as_json:
        print_json(account.as_json(stages))
    else:
        echo(account.report(stages))
