"""`nextsong tune`."""

from __future__ import annotations

from pathlib import Path

import click

from catalog.cli import (
    Decimal,
    home_option,
    json_option,
    one_line_errors,
    print_result,
    quiet_option,
    reporter_for,
    work_option,
)


@click.command(short_help="Search parameters that find more held-out songs.")
@home_option
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

    It starts from that run's parameters. Trials are judged on the validation playlists, and what
    was chosen, once, on the test playlists. Weak trials are ended early. A run that was stopped
    goes on where it was.
    """
    from catalog.storage import write_atomically
    from evaluation import runs, tune_page
    from evaluation import tune as tuning
    from ingest.parameter_files import text_of

    work, study = work or home / "work", study or home / "tune"
    budget = tuning.Budget(trials or (None if minutes else 60), minutes, processes)
    reporter = reporter_for(quiet=quiet)
    outcome = tuning.tune(work, study, tuning.start_of(work, seed), budget, reporter)
    runs.note(home, "tune", tuning.payload(outcome), reporter)
    target = out or study / "tuned.json"
    write_atomically(target, text_of(outcome))
    page = tune_page.write(outcome, tuning.studies(work, study), study)
    result = {"parameters": str(target), "report": str(page), "outcome": outcome}
    text = (
        f"parameters  {target}: nextsong ingest run --params {target} FILE...\nreport      {page}"
    )
    print_result(result, text, as_json=as_json)
