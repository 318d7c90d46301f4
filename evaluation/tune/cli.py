"""`nextsong tune`."""

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


@click.command(short_help="Search parameters that find more held-out songs.")
@home_option
@qdrant_server
@work_option
@click.option(
    "--trials",
    type=click.IntRange(6, 100_000),
    help="How many choices to try, those of earlier runs included.  [default: 60; with --minutes, "
    "as many as there is time for]",
)
@click.option(
    "--minutes",
    type=Decimal(0.1),
    help="Stop after about so long; trials under way are given up.  [default: no bound]",
)
@click.option(
    "--processes",
    default=2,
    show_default=True,
    type=click.IntRange(1, 256),
    help="How many trials at a time.",
)
@click.option(
    "--study",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the trials, from which a later run goes on.  [default: HOME/tune]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for what was chosen, for `ingest run --params`.  [default: STUDY/tuned.json]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    help="Seed of the training.  [default: the last run's]",
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
    """Search parameters that find more held-out songs of the last ingest run's playlists.

    It starts from that run's parameters. Trials are judged on the validation playlists; then the
    choice is compared with the current release, as `nextsong evaluate` scores it. Only a choice
    that is significantly better is offered for `ingest run --params`, and scored, once, on the test
    playlists. Weak trials are ended early. A run that was stopped goes on where it was.
    """
    from catalog.files import require_writable, write_atomically
    from evaluation.runs import log
    from evaluation.systems.location import StoreLocation
    from evaluation.tune import outcome as tune_outcome
    from evaluation.tune import page as tune_page
    from evaluation.tune import study as tuning
    from ingest.parameter_files import text_of

    work, study = work or home / "work", study or home / "tune"
    target = out or study / "tuned.json"
    tune_page.require_libraries()
    require_writable(target)
    budget = tuning.Budget(trials or (None if minutes else 60), minutes, processes)
    reporter = reporter_for(quiet=quiet)
    place, start = StoreLocation(home, qdrant), tuning.start_of(work, seed)
    outcome = tuning.tune(place, work, study, start, budget, reporter)
    write_atomically(target, text_of(outcome))
    log.note(home, "tune", tuning.payload(outcome), reporter)
    page = tune_page.write(outcome, tuning.studies(work, study), study)
    result = {"parameters": str(target), "report": str(page), "outcome": outcome}
    lines = [*tune_outcome.describe(outcome)]
    if outcome["beyond chance"]:
        lines.append(f"parameters  {target}: nextsong ingest run --params {target} FILE...")
    else:
        lines.append(f"parameters  none to offer: {target} has those that the study began with")
    print_result(result, "\n".join([*lines, f"report      {page}"]), as_json=as_json)
