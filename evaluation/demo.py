"""The whole road on invented playlists: file, release, hit rate, service, answer."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.embedded import EmbeddedHome
from catalog.errors import UnavailableError
from catalog.storage import make_folder
from evaluation import harness, show
from evaluation.protocol import load_queries
from ingest import account, pipeline, synthetic
from ingest.parameters import Parameters
from nextsong.v1 import recommender_pb2 as pb
from service import show as answers
from service.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.reporting import Reporter
    from evaluation.protocol import Query

SONGS_PER_PLAYLIST = 3.5
SERVER_STOP_S = 30


def run(home: Path, playlists: int, seed: int, reporter: Reporter) -> None:
    """Invent `playlists` playlists, publish a release of them in `home`, score it and ask it.

    Raises any `NextsongError`.
    """
    click.echo("Every song, artist and playlist of this demo is invented.\n")
    click.secho("1. Playlists, in a file", bold=True)
    file = make_folder(home) / "playlists.csv"
    with reporter.task("invent") as task:
        shape = synthetic.Shape(playlists=playlists, songs=round(playlists * SONGS_PER_PLAYLIST))
        rows = synthetic.write_csv(synthetic.generate(shape, seed), file)
        task.result(f"{playlists:,} playlists, {rows:,} rows: {file}")

    click.secho("\n2. From the file to a release in Qdrant", bold=True)
    embedded = EmbeddedHome(home)
    outcome = pipeline.run([file], {}, embedded, home / "work", Parameters(seed=seed), reporter)
    click.echo(account.of(outcome))

    click.secho("\n3. How often it finds the held-out last song of a test playlist", bold=True)
    release = embedded.open()
    show.evaluation(harness.evaluate(release, home / "work", "test", reporter))
    query = _presentable(load_queries(home / "work", "test", release.manifest))
    release.close()

    click.secho("\n4. The service, asked over gRPC what comes next", bold=True)
    with _service(home) as address, Client(address) as client:
        request = pb.RecommendRequest(
            seeds=[pb.Seed(artist=seed.artist, title=seed.title) for seed in query.seeds]
        )
        response = client.recommend(request)
        answers.recommendations(request, response)
    click.echo(_outcome(query, response))
    click.echo("The service has stopped.\n")

    command = _own_command()
    click.secho("The same with playlists of your own (CSV, TSV or Parquet):", bold=True)
    click.echo(f"  {command} ingest run FILE")
    click.echo(f'  {command} recommend "Artist - Title" "Artist - Title"')


def _presentable(queries: list[Query]) -> Query:
    # The first that fits on a screen; not one that came out well.
    return next((query for query in queries if 5 <= len(query.seeds) <= 10), queries[0])


def _outcome(query: Query, response: pb.RecommendResponse) -> str:
    name = f"In this playlist {query.label.artist} - {query.label.title} really came next: "
    places = [hit.song.song_id for hit in response.songs]
    label = str(query.label.song_id)
    if label in places:
        return f"{name}place {places.index(label) + 1} of the answer."
    return f"{name}not in this answer."


@contextmanager
def _service(home: Path) -> Iterator[str]:
    """A service on a free port, in a process of its own; yields its address."""
    command = [sys.executable, "-m", "evaluation.main", "serve", "--home", str(home), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            assert server.stdout is not None
            line = server.stdout.readline().strip()
            if not line:
                raise UnavailableError("the service did not start: see its message above")
            click.echo(line)
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
