"""The steps of `nextsong demo`: generate playlists, publish, evaluate and recommend."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from catalog.console.terminal import echo
from catalog.embedded.store import EmbeddedStore
from catalog.errors import UnavailableError
from catalog.files import make_folder
from catalog.song import full_name
from evaluation.judge import harness
from evaluation.report import terminal
from evaluation.synthetic import playlists as synthetic
from evaluation.synthetic import raw_form
from evaluation.systems.location import StoreLocation
from ingest import pipeline
from ingest.parameters import Parameters
from ingest.report import describe_run
from nextsong.v1 import recommender_pb2 as pb
from service.client import render
from service.client.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.console.progress import Reporter
    from evaluation.judge.result import Evaluation
    from service.recommend.seeds import Seed

SONGS_PER_PLAYLIST = 3.5  # number of different songs to choose from, per playlist
SERVER_STOP_S = 30  # seconds to wait for the service to stop before it is killed


def run_demo(home: Path, playlists: int, seed: int, reporter: Reporter) -> None:
    """Generate playlists, publish a release of them in `home`, evaluate and query the release.

    Raises `NextsongError` if a step fails.
    """
    echo("Every song, artist and playlist of this demo is synthetic.\n")
    echo("1. Playlists, in a file", bold=True)
    file = make_folder(home) / "playlists.csv"
    with reporter.task("generate") as task:
        shape = synthetic.Shape(playlists=playlists, songs=round(playlists * SONGS_PER_PLAYLIST))
        rows = synthetic.write_csv(synthetic.generate(shape, seed), file)
        task.result(f"{playlists:,} playlists, {rows:,} rows: {file}")

    echo("\n2. From the file to a release in Qdrant", bold=True)
    work = home / "work"
    store, parameters = EmbeddedStore(home), Parameters(seed=seed)
    outcome = pipeline.run([file], store, work, parameters, reporter)
    echo(describe_run(outcome))

    echo("\n3. Hit rate: how often the held-out last song of a playlist is recommended", bold=True)
    # Score on the test split, because the ingest has selected the retrieval mode on the validation
    # split.
    plan = harness.Plan(
        split="test", baselines=("popularity", "tutorial"), behaviours=False, recall=False
    )
    result = harness.evaluate(StoreLocation(home), work, plan, reporter)
    terminal.print_evaluation(result, brief=True)
    seeds, label = _pick_case(result)

    echo("\n4. The service recommends the next songs over gRPC", bold=True)
    with run_service(home) as address, Client(address) as client:
        request = pb.RecommendRequest(
            seeds=[pb.Seed(artist=seed.artist, title=seed.title) for seed in seeds]
        )
        response = client.recommend(request)
        render.print_recommendations(request, response)
    echo(_describe_label(label, response))
    echo("The service has stopped.\n")

    command = _own_command()
    echo("To use your own playlists (CSV, TSV, JSON or Parquet):", bold=True)
    echo(f"  {command} ingest run FILE")
    echo(f'  {command} recommend "Artist - Title" "Artist - Title"')


def write_raw(file: Path, rows: int, seed: int, reporter: Reporter) -> None:
    """Write synthetic rows in the format of the #nowplaying dataset to `file`.

    Raises `StorageError`.
    """
    with reporter.task("generate") as task:
        playlists = raw_form.write_raw(file, rows, seed)
        task.result(f"{playlists:,} playlists, {rows:,} rows: {file}")
    echo(f"To make a release of it:  {_own_command()} ingest run {file}")


def _pick_case(result: Evaluation) -> tuple[list[Seed], Seed]:
    """Return the seeds and the label of the first held-out case that has 5 to 10 seeds.

    If there is no case of this length, the first case is used.
    """
    lengths = result.cases.seeds.lengths
    fitting = np.flatnonzero((lengths >= 5) & (lengths <= 10))
    case = int(fitting[0]) if len(fitting) else 0
    songs = result.dataset.songs
    (seeds,) = songs.seeds(result.cases.seeds.take([case]))
    return seeds, songs.seed(int(result.cases.label[case]))


def _describe_label(label: Seed, response: pb.RecommendResponse) -> str:
    name = f"The song that really came next is {full_name(label.artist, label.title)}: "
    song_ids = [hit.song.song_id for hit in response.songs]
    if str(label.song_id) in song_ids:
        return f"{name}rank {song_ids.index(str(label.song_id)) + 1} of the recommendation."
    return f"{name}not in this recommendation."


@contextmanager
def run_service(home: Path) -> Iterator[str]:
    """Run the service in a separate process, and yield its address, such as `localhost:50051`.

    The service listens on a free port. Raises `UnavailableError` if the service does not start.
    """
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
    """Return the command that the user can type to run nextsong: a path, or `nextsong`."""
    command = Path(sys.argv[0])
    if command.name != "nextsong":
        return "nextsong"
    current = Path.cwd()
    return str(command.relative_to(current)) if command.is_relative_to(current) else str(command)
