"""The whole road on invented playlists: file, release, hit rate, service, answer."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from catalog.embedded.store import EmbeddedStore
from catalog.errors import UnavailableError
from catalog.files import make_folder
from catalog.terminal import echo
from evaluation.judge import harness
from evaluation.report import terminal
from evaluation.synthetic import playlists as synthetic
from evaluation.synthetic import raw_form
from evaluation.systems.location import StoreLocation
from ingest import pipeline, report
from ingest.parameters import Parameters
from nextsong.v1 import recommender_pb2 as pb
from service.client import render as answers
from service.client.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.progress import Reporter
    from evaluation.judge.result import Evaluation
    from service.recommend.seeds import Seed

SONGS_PER_PLAYLIST = 3.5
SERVER_STOP_S = 30


def run(home: Path, playlists: int, seed: int, reporter: Reporter) -> None:
    """Invent `playlists` playlists, publish a release of them in `home`, score it and ask it.

    Raises any `NextsongError`.
    """
    echo("Every song, artist and playlist of this demo is invented.\n")
    echo("1. Playlists, in a file", bold=True)
    file = make_folder(home) / "playlists.csv"
    with reporter.task("invent") as task:
        shape = synthetic.Shape(playlists=playlists, songs=round(playlists * SONGS_PER_PLAYLIST))
        rows = synthetic.write_csv(synthetic.generate(shape, seed), file)
        task.result(f"{playlists:,} playlists, {rows:,} rows: {file}")

    echo("\n2. From the file to a release in Qdrant", bold=True)
    work = home / "work"
    outcome = pipeline.run([file], {}, EmbeddedStore(home), work, Parameters(seed=seed), reporter)
    echo(report.of(outcome))

    echo("\n3. How often it finds the held-out last song of a test playlist", bold=True)
    # The last word on a release is test's: this is the one use of it, and the log counts it.
    plan = harness.Plan(
        split="test", baselines=("popularity", "tutorial"), behaviours=False, recall=False
    )
    result = harness.evaluate(StoreLocation(home), work, plan, reporter)
    terminal.print_evaluation(result, brief=True)
    seeds, label = _presentable(result)

    echo("\n4. The service, asked over gRPC what comes next", bold=True)
    with _service(home) as address, Client(address) as client:
        request = pb.RecommendRequest(
            seeds=[pb.Seed(artist=seed.artist, title=seed.title) for seed in seeds]
        )
        response = client.recommend(request)
        answers.recommendations(request, response)
    echo(_outcome(label, response))
    echo("The service has stopped.\n")

    command = _own_command()
    echo("The same with playlists of your own (CSV, TSV or Parquet):", bold=True)
    echo(f"  {command} ingest run FILE")
    echo(f'  {command} recommend "Artist - Title" "Artist - Title"')


def write_raw(file: Path, rows: int, seed: int, reporter: Reporter) -> None:
    """Write `rows` invented rows to `file`, as #nowplaying has them. Raises `StorageError`."""
    with reporter.task("invent") as task:
        playlists = raw_form.write_raw(file, rows, seed)
        task.result(f"{playlists:,} playlists, {rows:,} rows: {file}")
    echo(f"Make a release of it:  {_own_command()} ingest run {file}")


def _presentable(result: Evaluation) -> tuple[list[Seed], Seed]:
    # The first that fits on a screen; not one that came out well.
    lengths = result.cases.seeds.lengths
    fitting = np.flatnonzero((lengths >= 5) & (lengths <= 10))
    place = int(fitting[0]) if len(fitting) else 0
    songs = result.dataset.songs
    (seeds,) = songs.seeds(result.cases.seeds.take([place]))
    return seeds, songs.seed(int(result.cases.label[place]))


def _outcome(label: Seed, response: pb.RecommendResponse) -> str:
    name = f"In this playlist {label.artist} - {label.title} really came next: "
    places = [hit.song.song_id for hit in response.songs]
    if str(label.song_id) in places:
        return f"{name}place {places.index(str(label.song_id)) + 1} of the answer."
    return f"{name}not in this answer."


@contextmanager
def _service(home: Path) -> Iterator[str]:
    """A service on a free port, in a process of its own; yields its address."""
    command = [sys.executable, "-m", "cli.main", "serve", "--home", str(home), "--port", "0"]
    command += ["--log-level", "warning"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            assert server.stdout is not None
            line = server.stdout.readline().strip()
            if not line:
                raise UnavailableError("the service did not start: see its message above")
            echo(line)
            yield line.rsplit(" ", 1)[-1]
        finally:
            server.terminate()
            try:
                server.wait(SERVER_STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()


def _own_command() -> str:
    called = Path(sys.argv[0])
    if called.name != "nextsong":
        return "nextsong"
    here = Path.cwd()
    return str(called.relative_to(here)) if called.is_relative_to(here) else str(called)
