"""`nextsong ingest`: from playlist files to a release."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from catalog.commands.options import (
    Decimal,
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
from catalog.console.terminal import echo, print_json
from ingest.parameters import Parameters
from ingest.sources.options import FORMATS, QUOTINGS, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import Field

    from catalog.console.progress import Reporter
    from catalog.server.options import CollectionLayout, QdrantOptions
    from catalog.store import OpenRelease, ReleaseStore
    from ingest.sources.payload import PayloadColumn

    Gate = Callable[[OpenRelease, Path], None]

Command = TypeVar("Command", bound="Callable[..., Any]")

_ROLES = ("playlist_id", "playlist_name", "owner", "artist", "title", "position", "track_id")


@dataclass(frozen=True)
class RunHooks:
    """Functions of higher layers that `nextsong ingest run` calls: the context object of click.

    - `make_gate(store, reporter)`: returns the gate of `--gate`.
    - `record(home, run, reporter)`: adds the run, as JSON values, to the log of runs.
    """

    make_gate: Callable[[ReleaseStore, Reporter], Gate]
    record: Callable[[Path, Mapping[str, Any], Reporter], object]


@dataclass(frozen=True)
class ParameterArguments:
    """The parameters of the command line.

    - `values`: all parameters by name, with their defaults.
    - `given`: names of those that are on the command line.
    - `file`: parameter file whose values are used for the others, if any.
    """

    values: dict[str, Any]
    given: frozenset[str]
    file: Path | None


def _parse_columns(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    columns = {}
    for value in values:
        role, equals, name = value.partition("=")
        if not role or not equals:
            raise click.BadParameter(f"'{value}' is not of the form ROLE=NAME")
        if role not in _ROLES:
            raise click.BadParameter(f"no role '{role}'; the roles are {', '.join(_ROLES)}")
        columns[role] = name
    return columns


class Share(click.ParamType[float]):
    """A share, such as 0.05 or 5%."""

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
            self.fail(f"{value!r} must be from 0 to 1, such as 0.05 or 5%", param, ctx)
        return share


def _parse_delimiter(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    value = {"tab": "\t", "\\t": "\t"}.get(value.lower(), value)
    if len(value) > 1 or value in {'"', "\n", "\r"}:
        raise click.BadParameter(f"{value!r} must be one character, and no quote or line break")
    return value


def _check_encoding(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    from catalog.errors import InputError
    from ingest.sources.encodings import find_encoding

    try:
        if value:
            find_encoding(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    return value


def _parse_payload(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[PayloadColumn, ...]:
    from catalog.errors import InputError
    from ingest.sources.payload import parse_payload_columns

    try:
        return parse_payload_columns(values)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


_READING = [
    click.option(
        "--format",
        "file_format",
        type=click.Choice(FORMATS),
        default="auto",
        show_default=True,
        help="Format of the files; auto: detected from their content.",
    ),
    click.option(
        "--delimiter",
        default="",
        callback=_parse_delimiter,
        metavar="CHARACTER",
        help="Delimiter between the fields of text (tab: a tab).  [default: detected]",
    ),
    click.option(
        "--encoding",
        default="",
        callback=_check_encoding,
        help="Encoding of text, such as macroman or shift_jis.  [default: detected: UTF-8, UTF-16 "
        "or Windows-1252]",
    ),
    click.option(
        "--quoting",
        type=click.Choice(QUOTINGS),
        default="auto",
        show_default=True,
        help="ReadOptions fields are quoted; wrapped: all of them, with plain quotes inside.",
    ),
    click.option(
        "--header/--no-header",
        default=True,
        show_default=True,
        help="Whether the first line has the names of the columns; otherwise they are 1, 2, 3.",
    ),
    click.option(
        "--payload",
        multiple=True,
        callback=_parse_payload,
        metavar="[FIELD=]COLUMN[:KIND]",
        help="An additional column that is kept with each song and can be filtered on. Kinds: "
        "keyword, integer, float, boolean, text.  [default: as in the file, or keyword]",
    ),
]


def reading_options(command: Command) -> Command:
    """Add the options that say how files are read; the command gets `reading`."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        file_format: Any,
        delimiter: str,
        encoding: str,
        quoting: Any,
        header: bool,
        payload: tuple[PayloadColumn, ...],
        **kwargs: Any,
    ) -> Any:
        reading = ReadOptions(file_format, delimiter, encoding, quoting, header, payload)
        return command(*args, reading=reading, **kwargs)

    return cast("Command", _add(_READING, wrapped))


def parameter_options(command: Command) -> Command:
    """Add an option for each parameter, and `--params`; the command gets `parameters`."""
    names = [parameter.name for parameter in fields(Parameters)]

    @functools.wraps(command)
    def wrapped(*args: Any, parameter_file: Path | None, **kwargs: Any) -> Any:
        source_of = click.get_current_context().get_parameter_source
        values = {name: kwargs.pop(name) for name in names}
        given = frozenset(name for name in names if source_of(name) == ParameterSource.COMMANDLINE)
        parameters = ParameterArguments(values, given, parameter_file)
        return command(*args, parameters=parameters, **kwargs)

    file_option = click.option(
        "--params",
        "parameter_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with parameters (JSON or TOML), as `nextsong tune` writes it. Options override "
        "it.",
    )
    options = [_parameter_option(parameter) for parameter in fields(Parameters)]
    return cast("Command", _add([*options, file_option], wrapped))


def _parameter_option(parameter: Field[Any]) -> Callable[[Any], Any]:
    name, default = parameter.name.replace("_", "-"), parameter.default
    text, choices = parameter.metadata["help"], parameter.metadata.get("choices")
    if isinstance(default, bool):
        return click.option(f"--{name}/--no-{name}", default=default, show_default=True, help=text)
    kind: click.ParamType[Any]
    if choices:
        kind = click.Choice(choices)
    else:
        low, high = parameter.metadata["range"]
        kind = Decimal(low, high) if isinstance(default, float) else click.IntRange(low, high)
    shown = default is not None
    return click.option(f"--{name}", type=kind, default=default, show_default=shown, help=text)


def _add(options: list[Callable[[Any], Any]], command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


def log_interruption(command: Command) -> Command:
    """Report Ctrl-C as a JSON line if progress is reported as JSON lines."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            if kwargs["log_format"] != "json":
                raise
            from catalog.console.progress import log

            log("error", error="Interrupted", text="stopped; the current release is unchanged")
            raise click.exceptions.Exit(1) from None

    return cast("Command", wrapped)


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_parse_columns,
    metavar="ROLE=NAME",
    help=f"The file's column for a role: {', '.join(_ROLES[:-1])} or {_ROLES[-1]}. Common names "
    "are recognised; an empty NAME ignores the role.",
)
@reading_options
@home_option
@qdrant_server
@publishing
@work_option
@parameter_options
@click.option(
    "--max-rejects",
    type=Share(),
    default="5%",
    show_default=True,
    help="Share of rejected rows above which nothing is published.",
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
@click.pass_obj
@one_line_errors
@log_interruption
def run(
    hooks: RunHooks,
    /,
    files: tuple[Path, ...],
    columns: Mapping[str, str],
    reading: ReadOptions,
    home: Path,
    work: Path | None,
    qdrant: QdrantOptions | None,
    layout: CollectionLayout,
    keep: int,
    parameters: ParameterArguments,
    max_rejects: float,
    force: bool,
    gate: bool,
    as_json: bool,
    quiet: bool,
    log_format: str,
) -> None:
    """Read FILEs of playlists, learn from them and publish a release.

    A FILE is CSV, TSV, Parquet, JSON lines or a slice of the Million Playlist Dataset, also packed
    (.gz, .zst, .bz2, .zip); or a folder of such files, or a pattern such as 'mpd.slice.*.json'; or
    - for text (not packed) on standard input.
    """
    from catalog.open_store import open_store
    from ingest import pipeline
    from ingest.report import describe_run, run_record
    from ingest.saved_parameters import ParameterFile, read_parameter_file

    start = time.perf_counter()
    store = open_store(home, qdrant, layout=layout, keep=keep)
    reporter = reporter_for(quiet=quiet, log_format=log_format)
    saved = read_parameter_file(parameters.file) if parameters.file else ParameterFile()
    on_command_line = {name: parameters.values[name] for name in parameters.given}
    options = pipeline.RunOptions(
        columns=columns,
        reading=reading,
        given=parameters.given | saved.parameters.keys(),
        max_rejects=max_rejects,
        validation=saved.validation,
        study=saved.study,
        force=force,
        gate=hooks.make_gate(store, reporter) if gate else None,
    )
    outcome = pipeline.run(
        files,
        store,
        work or home / "work",
        Parameters(**parameters.values | saved.parameters | on_command_line),
        reporter,
        options,
    )
    record = run_record(outcome) | {"seconds": round(time.perf_counter() - start, 1)}
    hooks.record(home, record, reporter)
    print_result(record, describe_run(outcome), as_json=as_json)


@click.command()
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
    """Show statistics of the playlists of the last run, as figures and as a page with pictures."""
    from ingest.stats.measures import measure
    from ingest.stats.page import write

    found = measure(work or home / "work", reporter_for(quiet=quiet))
    page = write(found, out or home / "stats")
    if as_json:
        print_json(found.to_json())
    else:
        echo(f"{found.playlists:,} playlists, {found.plays:,} plays: see {page}")


@click.command()
@home_option
@work_option
@json_option
@one_line_errors
def report(home: Path, work: Path | None, as_json: bool) -> None:
    """Show the account of the last run: rows read, used and rejected, and findings about them."""
    from ingest.report import as_json as report_json
    from ingest.report import describe_last_run, load_last_run

    stages = load_last_run(work or home / "work")
    if as_json:
        print_json(report_json(stages))
    else:
        echo(describe_last_run(stages))
