"""The `nextsong ingest` commands: make a release from playlist files, report on the last run."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from catalog.commands.options import (
    home_option,
    json_option,
    log_format_option,
    one_line_errors,
    print_result,
    publishing_options,
    qdrant_server,
    quiet_option,
    reporter_for,
    work_option,
)
from catalog.console.terminal import echo, print_json
from ingest.options import (
    Share,
    catalog_options,
    column_option,
    parameter_options,
    reading_options,
)
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from catalog.console.progress import Reporter
    from catalog.server.options import CollectionLayout, QdrantOptions
    from catalog.store import OpenRelease, ReleaseStore
    from ingest.options import ParameterArguments
    from ingest.sources.options import ReadOptions

    Gate = Callable[[OpenRelease, Path], None]

Command = TypeVar("Command", bound="Callable[..., Any]")


@dataclass(frozen=True)
class RunHooks:
    """Functions that `nextsong ingest run` needs from packages that `ingest` may not import.

    The package `cli` passes them as click's context object.

    - `make_gate(store, reporter)`: returns the function that `--gate` calls before a new release
      becomes current. The function raises an error if the release must not become current.
    - `record(home, run, reporter)`: adds a description of the run (JSON values) to the run log in
      the folder `home`.
    """

    make_gate: Callable[[ReleaseStore, Reporter], Gate]
    record: Callable[[Path, Mapping[str, Any], Reporter], object]


def log_interruption(command: Command) -> Command:
    """Wrap a command to log Ctrl-C as a JSON line if `--log-format json` is set."""

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
@column_option
@reading_options
@catalog_options
@home_option
@qdrant_server
@publishing_options
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
    catalog: tuple[Path, ...],
    catalog_columns: Mapping[str, str],
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
    """Read playlists from FILE, learn from them and publish a release.

    FILE is CSV, TSV, Parquet, JSON lines, a slice of the Million Playlist Dataset, a history of
    plays or a playlist (M3U, XSPF, JSPF), and may be compressed (.gz, .zst, .bz2, .zip). It can
    also be a folder of such files, a pattern such as 'mpd.slice.*.json', or - for uncompressed text
    on standard input.
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
        catalog=catalog,
        catalog_columns=catalog_columns,
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
    """Show statistics of the last run's playlists, as text and as an HTML page with charts."""
    from ingest.stats.measures import measure
    from ingest.stats.page import write

    statistics = measure(work or home / "work", reporter_for(quiet=quiet))
    page = write(statistics, out or home / "stats")
    if as_json:
        print_json(statistics.to_json())
    else:
        echo(f"{statistics.playlists:,} playlists, {statistics.plays:,} plays: see {page}")


@click.command()
@home_option
@work_option
@json_option
@one_line_errors
def report(home: Path, work: Path | None, as_json: bool) -> None:
    """Report on the last run: the number of rows read, used and rejected, and unusual data."""
    from ingest.report import as_json as report_json
    from ingest.report import describe_last_run, load_last_run

    stages = load_last_run(work or home / "work")
    if as_json:
        print_json(report_json(stages))
    else:
        echo(describe_last_run(stages))
