"""`nextsong evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.commands.options import (
    Decimal,
    complete_release,
    home_option,
    json_option,
    one_line_errors,
    qdrant_server,
    quiet_option,
    reporter_for,
    work_option,
)
from catalog.files import require_writable
from catalog.terminal import echo, json_text, print_json
from service.client.target import require_address

if TYPE_CHECKING:
    from catalog.server.options import QdrantOptions
    from evaluation.judge.result import Evaluation
    from evaluation.protocol.cases import Holdout, Split

holdout_option = click.option(
    "--holdout",
    type=click.Choice(["auto", "last", "random", "half"]),
    default="auto",
    show_default=True,
    help="What is held out of each playlist: its last song, one song at random, or its last half. "
    "auto: the last song, or one at random where the order of playlists says nothing.",
)


@click.group(invoke_without_command=True, short_help="Measure how often held-out songs are found.")
@home_option
@qdrant_server
@work_option
@click.option(
    "--release",
    metavar="ID",
    shell_complete=complete_release,
    help="Release to score.  [default: the current one]",
)
@click.option(
    "--target",
    metavar="HOST:PORT",
    callback=require_address,
    help="Score the service that runs there, over gRPC, instead of the release in process.",
)
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="Which held-out playlists. Choose by validation, and keep test for the last word: its "
    "uses are counted in HOME/runs.jsonl.",
)
@holdout_option
@click.option(
    "--baselines",
    default="quick",
    show_default=True,
    metavar="LIST",
    help="Baselines to score beside it: any of random, popularity, tutorial, word2vec-mean, "
    "item-item, session-knn, rules, als and bpr, with commas; or quick, all or none.",
)
@click.option(
    "--modes",
    default="auto,dense,cooccurrence",
    show_default=True,
    metavar="LIST",
    help="Modes to score; the first is compared with all else. Modes that are the same in this "
    "release are scored once.",
)
@click.option("--sample", type=click.IntRange(1), help="Ask so many playlists, drawn at random.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of random holdouts and samples.",
)
@click.option(
    "--processes", type=click.IntRange(1, 64), help="Processes that search.  [default: all cores]"
)
@click.option(
    "--patience",
    default=10.0,
    type=Decimal(0),
    show_default=True,
    metavar="MINUTES",
    help="Leave out baselines that are expected to take longer.",
)
@click.option(
    "--behaviours/--no-behaviours",
    default=True,
    show_default=True,
    help="Test how answers change when queries do, and odd queries.",
)
@click.option(
    "--recall/--no-recall",
    default=True,
    show_default=True,
    help="Measure what the index finds of what exact search finds.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a report to this HTML file, to be looked at in a browser.",
)
@click.option(
    "--fail-under",
    multiple=True,
    metavar="METRIC=VALUE",
    help="Exit with 1 where a metric is below a value (above it, where lower is better), such as "
    "hr@10=0.05.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@quiet_option
@click.pass_context
@one_line_errors
def evaluate(
    context: click.Context,
    home: Path,
    qdrant: QdrantOptions | None,
    work: Path | None,
    release: str | None,
    target: str | None,
    split: Split,
    holdout: str,
    baselines: str,
    modes: str,
    sample: int | None,
    seed: int,
    processes: int | None,
    patience: float,
    behaviours: bool,
    recall: bool,
    report: Path | None,
    fail_under: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how often a release finds the held-out songs of playlists, beside baselines."""
    if context.invoked_subcommand:
        return
    from catalog.errors import InputError
    from evaluation.baselines.choice import chosen
    from evaluation.judge import gate, harness
    from evaluation.report import page
    from evaluation.runs import history
    from evaluation.systems.location import Place

    try:
        bounds = [gate.bound(text, _holdout(holdout)) for text in fail_under]
        plan = harness.Plan(
            split=split,
            holdout=_holdout(holdout),
            baselines=chosen(baselines),
            modes=tuple(part.strip() for part in modes.split(",") if part.strip()),
            sample=sample,
            seed=seed,
            processes=processes,
            target=target,
            behaviours=behaviours,
            recall=recall,
            patience=60 * patience,
        )
    except InputError as error:  # nothing has been done yet: the command was given wrongly
        raise click.UsageError(str(error)) from error
    if report:
        page.require_libraries()
        require_writable(report)
    reporter = reporter_for(quiet=quiet)
    result = harness.measure(Place(home, qdrant), work or home / "work", plan, reporter, release)
    try:
        _print(result, as_json=as_json)
        if report:
            page.write(result, report, reporter)
    finally:  # even if nobody reads on: the test playlists have been used
        history.keep(home, result, reporter)
    gate.require(result, bounds)


def _print(result: Evaluation, *, as_json: bool) -> None:
    from evaluation.report import terminal

    if as_json:
        for line in result.lines():
            echo(json_text(line))
    else:
        terminal.evaluation(result)


def _holdout(text: str) -> Holdout | None:
    return None if text == "auto" else text  # type: ignore[return-value]


@evaluate.command()
@click.argument("before", shell_complete=complete_release)
@click.argument("after", shell_complete=complete_release)
@home_option
@qdrant_server
@work_option
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="Which held-out playlists two releases are asked.",
)
@holdout_option
@click.option(
    "--sample", type=click.IntRange(1), help="Ask two releases so many playlists, drawn at random."
)
@json_option
@quiet_option
@one_line_errors
def compare(
    before: str,
    after: str,
    home: Path,
    qdrant: QdrantOptions | None,
    work: Path | None,
    split: Split,
    holdout: str,
    sample: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say what got better or worse from BEFORE to AFTER, two recorded runs or two releases.

    Each is given by its id, or the beginning of it. Runs are compared as they were recorded,
    RUN:SYSTEM being another system of it than the first, such as RUN:hybrid or RUN:als; releases
    are asked anew.
    """
    from evaluation.judge import compare as contest
    from evaluation.report import comparison_table
    from evaluation.systems.location import Place

    found = contest.of_names(
        Place(home, qdrant),
        before,
        after,
        work or home / "work",
        reporter_for(quiet=quiet),
        split,
        _holdout(holdout),
        sample,
    )
    if as_json:
        print_json(found.to_json())
    else:
        comparison_table.contest(found)
