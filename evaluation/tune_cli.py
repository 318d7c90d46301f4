"""`nextsong tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.cli import home_option, one_line_errors, quiet_option, reporter_for, work_option

if TYPE_CHECKING:
    from typing import Any


@click.command(short_help="Search parameters that find more held-out songs.")
@home_option
@work_option
@click.option(
    "--trials",
    default=60,
    show_default=True,
    type=click.IntRange(6, 100_000),
    help="How many choices to try, those of earlier runs included.",
)
@click.option(
    "--minutes", type=click.FloatRange(0.1), help="Start no trial after this time.  [default: none]"
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
@click.option("--seed", default=0, show_default=True, help="Seed of the training.")
@quiet_option
@one_line_errors
def tune(
    home: Path,
    work: Path | None,
    trials: int,
    minutes: float | None,
    processes: int,
    study: Path | None,
    out: Path | None,
    seed: int,
    quiet: bool,
) -> None:
    """Search parameters that find more held-out songs of the last ingest run's playlists.

    Trials are judged on the validation playlists, and what was chosen, once, on the test playlists.
    Weak trials are ended early. A run that was stopped goes on where it was.
    """
    from catalog.storage import write_atomically
    from evaluation import runs, tune_page
    from evaluation.tune import Budget, studies
    from evaluation.tune import tune as tuned
    from ingest.parameter_files import text_of
    from ingest.parameters import Parameters

    work, study = work or home / "work", study or home / "tune"
    budget = Budget(trials, minutes, processes)
    outcome: dict[str, Any] = tuned(
        work, study, Parameters(seed=seed), budget, reporter_for(quiet=quiet)
    )
    target = out or study / "tuned.json"
    write_atomically(target, text_of(outcome))
    page = tune_page.write(outcome, studies(work, study), study)
    runs.record(home, "tune", outcome)
    click.echo(f"parameters  {target}: nextsong ingest run --params {target} FILE...")
    click.echo(f"report      {page}")
