"""The command `nextsong tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.commands.options import (
    Decimal,
    home_option,
    json_option,
    one_line_errors,
    print_result,
    qdrant_server,
    quiet_option,
    reporter_for,
    work_option,
)

if TYPE_CHECKING:
    from catalog.server.options import QdrantOptions


@click.command(short_help="Search for parameters with a higher hit rate.")
@home_option
@qdrant_server
@work_option
@click.option(
    "--trials",
    type=click.IntRange(6, 100_000),
    help="Number of trials, including those of earlier runs.  [default: 60; with --minutes, as "
    "many as there is time for]",
)
@click.option(
    "--minutes",
    type=Decimal(0.1),
    help="Stop after about this time, and abandon running trials.  [default: no limit]",
)
@click.option(
    "--processes",
    default=2,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Number of trials that run at the same time.",
)
@click.option(
    "--study",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that keeps the trials, so that a later run can continue.  [default: HOME/tune]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the chosen parameters, for `ingest run --params`.  [default: STUDY/tuned.json]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    help="Seed of the training.  [default: the seed of the last ingest run]",
)
@json_option
@quiet_option
@one_line_errors
def tune(
    home: Path,
    qdrant: QdrantOptions | None,
    work: Path | None,
    trials: int | None,
    minutes: float | None,
    processes: int,
    study: Path | None,
    out: Path | None,
    seed: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Search for parameters with a higher hit rate on the playlists of the last ingest run.

    The search starts from the parameters of that run. Each trial is scored on the validation
    playlists, and is stopped early if it is weak. The best parameters are then compared with the
    current release, as scored by `nextsong evaluate`. If they are significantly better, they are
    scored once on the test playlists, and written to a file for `ingest run --params`. Otherwise,
    the file has the initial parameters. A later run continues a study that was stopped.
    """
    from catalog.files import require_writable, write_atomically
    from evaluation.runs import log
    from evaluation.systems.location import StoreLocation
    from evaluation.tune import page
    from evaluation.tune import study as tuning
    from evaluation.tune.outcome import describe, make_log_payload
    from ingest.saved_parameters import format_parameter_file

    work, study = work or home / "work", study or home / "tune"
    target = out or study / "tuned.json"
    page.require_libraries()
    require_writable(target)
    budget = tuning.Budget(trials or (None if minutes else 60), minutes, processes)
    reporter = reporter_for(quiet=quiet)
    start = tuning.read_start(work, seed)
    outcome = tuning.tune(StoreLocation(home, qdrant), work, study, start, budget, reporter)
    write_atomically(target, format_parameter_file(outcome.to_json()))
    log.note(home, "tune", make_log_payload(outcome), reporter)
    report = page.write_report(outcome, study)
    if outcome.better:
        advice = f"{target}: nextsong ingest run --params {target} FILE..."
    else:
        advice = f"no better parameters: {target} has the initial parameters"
    lines = [*describe(outcome), f"parameters  {advice}", f"report      {report}"]
    result = {"parameters": str(target), "report": str(report), "outcome": outcome.to_json()}
    print_result(result, "\n".join(lines), as_json=as_json)
