"""`nextsong runs`: what was ingested, tuned and evaluated, and how figures went over time."""

from __future__ import annotations

from pathlib import Path

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
from catalog.terminal import print_json

kind_option = click.option("--kind", help="Only runs of this kind: ingest, tune, evaluate ...")
release_option = click.option(
    "--release",
    metavar="ID",
    shell_complete=complete_release,
    help="Only runs of releases whose id begins so.",
)


@click.group(short_help="List and plot what was ingested, tuned and evaluated.")
def runs() -> None:
    """List, show and plot the runs that HOME remembers."""


@runs.command(name="list")
@home_option
@kind_option
@release_option
@click.option("--limit", "-n", type=click.IntRange(1), help="Only the newest so many.")
@json_option
@one_line_errors
def list_(
    home: Path, kind: str | None, release: str | None, limit: int | None, as_json: bool
) -> None:
    """List runs, the oldest first."""
    from evaluation.runs import log, terminal

    found = log.load(home, kind=kind, release=release, limit=limit)
    if as_json:
        print_json([terminal.to_json(run) for run in found])
    else:
        terminal.listed(found)


@runs.command()
@click.argument("run")
@home_option
@json_only_option
@one_line_errors
def show(run: str, home: Path) -> None:
    """Print all that is known of one RUN, given by its id or the beginning of it, as JSON."""
    from evaluation.runs import log, terminal

    print_json(terminal.to_json(log.find(home, run)))


def _drawing(
    _context: click.Context, _parameter: click.Parameter, path: Path | None
) -> Path | None:
    if path and path.suffix not in {".svg", ".png", ".pdf"}:
        raise click.BadParameter(f"{path} ends in neither .svg, .png nor .pdf")
    return path


@runs.command()
@home_option
@kind_option
@release_option
@click.option(
    "--metric",
    default="hr@100",
    show_default=True,
    help="Figure to plot, such as hr@10, mrr@10 or coverage@100.",
)
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    help="Only evaluations of this split.  [default: both]",
)
@click.option(
    "--holdout",
    type=click.Choice(["last", "random", "half"]),
    help="Only evaluations that held this out of each playlist.  [default: all]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_drawing,
    help="Draw to this file (.svg, .png or .pdf).  [default: bars in the terminal]",
)
@json_option
@one_line_errors
def plot(
    home: Path,
    kind: str | None,
    release: str | None,
    metric: str,
    split: str | None,
    holdout: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Plot a figure over time, run by run, each split and holdout for itself."""
    from evaluation.runs import log, terminal

    found = log.load(home, kind=kind, release=release)
    points = terminal.points(found, metric, split, holdout)
    if out:
        terminal.draw(points, metric, out)
        result = {"runs": len(points), "file": str(out)}
        print_result(result, f"{len(points)} runs: {out}", as_json=as_json)
    elif as_json:
        print_json([terminal.point_to_json(point) for point in points])
    else:
        terminal.bars(points, metric)


@runs.command()
@click.option(
    "--mlflow",
    "uri",
    required=True,
    metavar="URI",
    help="Tracking server of MLflow, as http://127.0.0.1:5000, or anything else that it takes for "
    "one; needs the extra 'mlflow'.",
)
@click.option("--experiment", default="nextsong", show_default=True, help="Experiment to write to.")
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
    """Write runs to MLflow: parameters, figures and tags; those that are there already stay."""
    from evaluation.runs import log, mlflow_export

    found = log.load(home, kind=kind, release=release)
    new = mlflow_export.export(found, uri, experiment, reporter_for(quiet=quiet))
    result = {"runs": new, "uri": uri}
    print_result(result, f"{new} runs written to {uri}", as_json=as_json)
