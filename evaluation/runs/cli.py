"""The command group `nextsong runs`, which lists, shows and exports the logged runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from catalog.commands.options import (
    complete_release,
    home_option,
    json_only_option,
    json_option,
    one_line_errors,
    print_result,
    quiet_option,
    reporter_for,
)
from catalog.console.terminal import print_json

if TYPE_CHECKING:
    from pathlib import Path

kind_option = click.option(
    "--kind", help="Only runs of this kind: ingest, tune, evaluate or compare."
)
release_option = click.option(
    "--release",
    metavar="ID",
    shell_complete=complete_release,
    help="Only runs of releases whose id begins with ID.",
)


@click.group(short_help="List ingest, tuning and evaluation runs.")
def runs() -> None:
    """List, show and export the runs that are logged in HOME."""


@runs.command(name="list")
@home_option
@kind_option
@release_option
@click.option("--limit", "-n", type=click.IntRange(1), help="Only the newest N runs.")
@json_option
@one_line_errors
def list_(
    home: Path, kind: str | None, release: str | None, limit: int | None, as_json: bool
) -> None:
    """List runs, the oldest first."""
    from evaluation.runs import log, terminal

    logged = log.load(home, kind=kind, release=release, limit=limit)
    if as_json:
        print_json([terminal.to_json(run) for run in logged])
    else:
        terminal.print_runs(logged)


@runs.command()
@click.argument("run")
@home_option
@json_only_option
@one_line_errors
def show(run: str, home: Path) -> None:
    """Print the record of a run as JSON. RUN is an id, or the first characters of an id."""
    from evaluation.runs import log, terminal

    print_json(terminal.to_json(log.find(home, run)))


@runs.command(
    hidden=True,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def plot() -> None:
    """Explain that this command was removed."""
    raise click.UsageError(
        "'runs plot' was removed: list figures with `nextsong runs list`, or read HOME/runs.jsonl "
        "with DuckDB or another tool"
    )


@runs.command()
@click.option(
    "--mlflow",
    "uri",
    required=True,
    metavar="URI",
    help="MLflow tracking server, such as http://127.0.0.1:5000, or any other tracking URI. Needs "
    "the extra 'mlflow'.",
)
@click.option(
    "--experiment", default="nextsong", show_default=True, help="MLflow experiment to write to."
)
@home_option
@kind_option
@release_option
@json_option
@quiet_option
@one_line_errors
def export(
    uri: str,
    experiment: str,
    home: Path,
    kind: str | None,
    release: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write parameters, figures and tags of runs to MLflow, and skip runs already written."""
    from evaluation.runs import log, mlflow_export

    logged = log.load(home, kind=kind, release=release)
    exported = mlflow_export.export(logged, uri, experiment, reporter_for(quiet=quiet))
    result = {"runs": exported, "uri": uri}
    print_result(result, f"{exported} runs written to {uri}", as_json=as_json)
