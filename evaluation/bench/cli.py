"""The command `nextsong bench`."""

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
from catalog.console.terminal import json_text, print_json
from catalog.files import make_folder, require_writable, write_atomically

if TYPE_CHECKING:
    from catalog.server.options import QdrantOptions, Storage


MIN_SONGS = 1_000  # number of songs in the smallest synthetic release


class _Numbers(click.ParamType[list[int]]):
    """A click parameter type for whole numbers that are separated by commas."""

    name = "numbers"

    def __init__(self, minimum: int = 1) -> None:
        self._minimum = minimum

    def convert(
        self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """Return the numbers in the text. Raises `click.BadParameter` if the text is invalid."""
        if isinstance(value, list):
            return value
        try:
            numbers = [int(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"'{value}' is not a list of whole numbers, separated by commas", param, ctx)
        if min(numbers) < self._minimum:
            self.fail(f"each number must be {self._minimum:,} or more", param, ctx)
        return numbers


@click.group(short_help="Measure speed and memory on this machine.")
def bench() -> None:
    """Measure speed and memory on this machine."""


@bench.command(short_help="Measure the service and its searches under load.")
@home_option
@qdrant_server
@click.option(
    "--sizes",
    type=_Numbers(MIN_SONGS),
    default="10000,100000",
    show_default=True,
    help="Number of songs in each synthetic release; releases are kept in HOME/bench-SIZE.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Number of seeds in a query.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 500),
    default=10,
    show_default=True,
    help="Number of songs to recommend.",
)
@click.option(
    "--callers",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    help="Number of concurrent callers, each of which waits for its answer before its next call "
    "(closed loop).",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Number of serving processes.",
)
@click.option(
    "--seconds",
    type=Decimal(0.1, 3600),
    default=5.0,
    show_default=True,
    help="Duration of each measurement.",
)
@storage_option
@click.option(
    "--rates",
    type=_Numbers(),
    help="Numbers of calls per second to measure as well, separated by commas. These calls do not "
    "wait for earlier answers (open loop).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the results to this file, as JSON.",
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
    """Measure the service under load, and its searches without the service.

    The releases are synthetic. On a Qdrant server, "-bench" is appended to the prefix of their
    collections.
    """
    from evaluation.bench import results as bench_results
    from evaluation.bench import serve as bench_serve

    if out:
        require_writable(out)
    plan = bench_serve.Plan(sizes, seeds, limit, callers, workers, seconds, rates or (), storage)
    if qdrant:
        qdrant = dataclasses.replace(qdrant, prefix=f"{qdrant.prefix}-bench")
    results = bench_serve.run(plan, home, qdrant, reporter_for(quiet=quiet))
    document = bench_results.to_json(results)
    if as_json:
        print_json(document)
    else:
        bench_results.print_results(results)
    if out:
        write_atomically(out, json_text(document, indent=2) + "\n")


@bench.command(name="ingest", short_help="Measure an ingest, and compare it with tutorials.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--tutorial/--no-tutorial",
    default=True,
    show_default=True,
    help="Also process the file as in common Word2Vec tutorials (needs the extra `bench`).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the results to this file, as JSON.",
)
@json_option
@quiet_option
@one_line_errors
def bench_ingest(file: Path, tutorial: bool, out: Path | None, as_json: bool, quiet: bool) -> None:
    """Make a release of FILE, and show the time and memory of each stage.

    FILE must have the format of the #nowplaying dataset. For comparison, it is also processed as in
    common Word2Vec tutorials: with pandas, SQL, and gensim on Python lists.
    """
    from evaluation.bench import ingest as ingest_bench
    from ingest.parameters import Parameters

    if out:
        require_writable(out)
    comparison = ingest_bench.run(file, Parameters(), reporter_for(quiet=quiet), tutorial=tutorial)
    document = comparison.to_json()
    if as_json:
        print_json(document)
    else:
        ingest_bench.print_comparison(comparison)
    if out:
        write_atomically(out, json_text(document, indent=2) + "\n")


@bench.command(short_help="Measure how misspelt names are found.")
@home_option
@qdrant_server
@click.option(
    "--songs",
    type=click.IntRange(MIN_SONGS),
    help="Number of songs in a synthetic release, which is kept in HOME/bench-spelling-SONGS.  "
    "[default: use the current release in HOME]",
)
@click.option(
    "--sample",
    type=click.IntRange(1, 1_000_000),
    default=1_000,
    show_default=True,
    help="Number of songs whose names are misspelt.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the sample and of the mistakes.",
)
@json_option
@quiet_option
@one_line_errors
def spelling(
    home: Path,
    qdrant: QdrantOptions | None,
    songs: int | None,
    sample: int,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Misspell names of songs at random, and measure how often and how fast a search finds them.

    A mistake is an inserted, deleted, replaced or swapped letter at a random position. Each name
    has one mistake, and then two. On a Qdrant server, "-bench-spelling" is appended to the prefix
    of the collection of a synthetic release.
    """
    from catalog.open_store import open_store
    from evaluation.bench import spelling as spelling_bench

    if songs and qdrant:
        qdrant = dataclasses.replace(qdrant, prefix=f"{qdrant.prefix}-bench-spelling")
    if songs:
        home = make_folder(home / f"bench-spelling-{songs}")
    store = open_store(home, qdrant)
    try:
        if songs:
            spelling_bench.publish_names(store, songs, home, reporter_for(quiet=quiet))
        manifest, results = spelling_bench.measure(store, sample, seed)
    finally:
        store.close()
    if as_json:
        print_json(spelling_bench.to_json(manifest, results))
    else:
        spelling_bench.print_results(manifest, results)
