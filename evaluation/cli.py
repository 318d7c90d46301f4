"""The command `nextsong evaluate`."""

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
from catalog.console.terminal import echo, json_text, print_json
from catalog.files import require_writable
from service.client.target import require_address

if TYPE_CHECKING:
    from catalog.server.options import QdrantOptions
    from evaluation.judge.result import Evaluation
    from evaluation.protocol.cases import Holdout, Split

split_option = click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="Held-out playlists to score on. Make choices on validation, and use test once at the "
    "end: its uses are counted in HOME/runs.jsonl.",
)
holdout_option = click.option(
    "--holdout",
    type=click.Choice(["auto", "last", "random", "half"]),
    default="auto",
    show_default=True,
    help="Songs held out of each playlist: the last song, one at a random position, or the last "
    "half. auto: the last song, or a random one if playlists are not in play order.",
)


@click.group(invoke_without_command=True, short_help="Measure hit rates on held-out playlists.")
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
    help="Address of a service to score over gRPC, instead of the release in process.",
)
@split_option
@holdout_option
@click.option(
    "--baselines",
    default="quick",
    show_default=True,
    metavar="LIST",
    help="Baselines to score as well: a comma-separated list of random, popularity, tutorial, "
    "word2vec-mean, item-item, session-knn, rules, item-knn, vstan, ease, als and bpr; or quick, "
    "all or none.",
)
@click.option(
    "--modes",
    default="auto,dense,cooccurrence",
    show_default=True,
    metavar="LIST",
    help="Modes to score, separated by commas; all others are compared with the first. Modes that "
    "are the same in this release are scored once.",
)
@click.option(
    "--sample", type=click.IntRange(1), help="Score only N random playlists.", metavar="N"
)
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
    help="Skip baselines that are expected to take longer.",
)
@click.option(
    "--behaviours/--no-behaviours",
    default=True,
    show_default=True,
    help="Test how answers change if queries change, and unusual queries.",
)
@click.option(
    "--recall/--no-recall",
    default=True,
    show_default=True,
    help="Measure the recall of the index, compared with exact search.",
)
@click.option(
    "--new-songs",
    is_flag=True,
    help="Also measure how often songs without plays are recommended: take all plays of 5% of the "
    "songs out of training, and train again.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a report to this HTML file.",
)
@click.option(
    "--fail-under",
    multiple=True,
    metavar="METRIC=VALUE",
    help="Exit with 1 if a metric is below this value (above it, if lower is better), such as "
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
    new_songs: bool,
    report: Path | None,
    fail_under: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how often a release recommends held-out songs, compared with baselines."""
    if context.invoked_subcommand:
        return
    from catalog.errors import InputError
    from evaluation.baselines.choice import parse_names
    from evaluation.judge import gate, harness
    from evaluation.report import page
    from evaluation.runs import history
    from evaluation.systems.location import StoreLocation

    try:
        bounds = [gate.parse_bound(text, _parse_holdout(holdout)) for text in fail_under]
        plan = harness.Plan(
            split=split,
            holdout=_parse_holdout(holdout),
            baselines=parse_names(baselines),
            modes=tuple(part.strip() for part in modes.split(",") if part.strip()),
            sample=sample,
            seed=seed,
            processes=processes,
            target=target,
            behaviours=behaviours,
            recall=recall,
            new_songs=new_songs,
            patience=60 * patience,
        )
    except InputError as error:  # no work has started, so report a usage error
        raise click.UsageError(str(error)) from error
    if report:
        page.require_libraries()
        require_writable(report)
    reporter = reporter_for(quiet=quiet)
    location = StoreLocation(home, qdrant)
    result = harness.measure(location, work or home / "work", plan, reporter, release)
    try:
        _print_result(result, as_json=as_json)
        if report:
            page.write(result, report, reporter)
    finally:  # record the evaluation even if the output fails
        history.record_evaluation(home, result, reporter)
    gate.require_bounds(result, bounds)


def _print_result(result: Evaluation, *, as_json: bool) -> None:
    from evaluation.report import terminal

    if as_json:
        for line in result.lines():
            echo(json_text(line))
    else:
        terminal.print_evaluation(result)


def _parse_holdout(text: str) -> Holdout | None:
    return None if text == "auto" else text  # type: ignore[return-value]


@evaluate.command()
@click.argument("before", shell_complete=complete_release)
@click.argument("after", shell_complete=complete_release)
@home_option
@qdrant_server
@work_option
@split_option
@holdout_option
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="N",
    help="Score two releases on only N random playlists.",
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
    """List the metrics that are better or worse in AFTER than in BEFORE: two releases or two runs.

    Give the id of each, or the first characters of the id. Two releases are scored again. Two runs
    are compared by their recorded figures; RUN:SYSTEM selects a system of the run other than the
    first, such as RUN:hybrid or RUN:als.
    """
    from evaluation.judge.compare import CaseSelection, compare_named
    from evaluation.report import terminal
    from evaluation.systems.location import StoreLocation

    report = compare_named(
        StoreLocation(home, qdrant),
        before,
        after,
        work or home / "work",
        reporter_for(quiet=quiet),
        CaseSelection(split, _parse_holdout(holdout), sample),
    )
    if as_json:
        print_json(report.to_json())
    else:
        terminal.print_changes(report)
