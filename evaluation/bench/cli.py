"""`nextsong bench`: how fast it is on this machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.commands.options import (
    Decimal,
    home_option,
    json_option,
    one_line_errors,
    qdrant_server,
    quiet_option,
    reporter_for,
    storage_option,
)
from catalog.files import require_writable
from catalog.terminal import print_json

if TYPE_CHECKING:
    from catalog.server.options import QdrantOptions, Storage


LEAST_SONGS = 1_000
"""The smallest release that the bench measures."""


class _Numbers(click.ParamType[list[int]]):
    """Whole numbers with commas between."""

    name = "numbers"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(
        self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """Return the numbers, or fail."""
        if isinstance(value, list):
            return value
        try:
            numbers = [int(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"'{value}' is not whole numbers with commas between", param, ctx)
        if min(numbers) < self._least:
            self.fail(f"all must be {self._least:,} or more", param, ctx)
        return numbers


@click.group(short_help="Measure how fast it is on this machine.")
def bench() -> None:
    """Measure how fast it is on this machine."""


@bench.command(short_help="The service under load, beside its engine called directly.")
@home_option
@qdrant_server
@click.option(
    "--sizes",
    type=_Numbers(LEAST_SONGS),
    default="10000,100000",
    show_default=True,
    help="Songs of the invented releases, which are kept in HOME/bench-SIZE.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Songs of a playlist.",
)
@click.option(
    "--limit", type=click.IntRange(1, 500), default=10, show_default=True, help="Songs answered."
)
@click.option(
    "--callers",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    help="Calls under way in a closed loop.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that answer.",
)
@click.option(
    "--seconds",
    type=Decimal(0.1, 3600),
    default=5.0,
    show_default=True,
    help="How long each measurement takes.",
)
@storage_option
@click.option(
    "--rates", type=_Numbers(), help="Calls per second of more open loops, commas between."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the results to this file too, as JSON.",
)
@json_option
@quiet_option
@one_line_errors
def serve(
    home: Path,
    qdrant: QdrantOptions | None,
    sizes: list[int],
    seeds: int,
    limit: int,
    callers: int,
    workers: int,
    seconds: float,
    rates: list[int] | None,
    storage: Storage,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Put the service under load, and call its engine directly, with invented releases.

    On a Qdrant server, releases are published below the prefix with "-bench" added.
    """
    from evaluation.bench import serve as bench_serve

    if out:
        require_writable(out)
    plan = bench_serve.Plan(sizes, seeds, limit, callers, workers, seconds, rates or (), storage)
    if qdrant:
        qdrant = dataclasses.replace(qdrant, prefix=f"{qdrant.prefix}-bench")
    results = bench_serve.run(plan, home, qdrant, reporter_for(quiet=quiet))
    if as_json:
        print_json(bench_serve.to_json(results))
    else:
        bench_serve.show(results)
    if out:
        bench_serve.write_json(results, out)


@bench.command(name="ingest", short_help="An ingest, beside the tutorials' way.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--tutorial/--no-tutorial",
    default=True,
    show_default=True,
    help="Also take the tutorials' way over the same file (the extra `bench`).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the results to this file too, as JSON.",
)
@json_option
@quiet_option
@one_line_errors
def bench_ingest(file: Path, tutorial: bool, out: Path | None, as_json: bool, quiet: bool) -> None:
    """Take FILE, in the raw form of #nowplaying, to a release; show each stage's time and memory.

    Beside it: the tutorials' way, with pandas, SQL and gensim on Python lists.
    """
    from evaluation.bench import ingest as measured
    from ingest.parameters import Parameters

    if out:
        require_writable(out)
    comparison = measured.run(file, Parameters(), reporter_for(quiet=quiet), tutorial=tutorial)
    if as_json:
        print_json(comparison.to_json())
    else:
        measured.show(comparison)
    if out:
        measured.write_json(comparison, out)
