"""A process that turns a playlist file into a model: `python -m evaluation.bench.steps`.

The arguments are a name in `WAYS`, the file, a folder for results, and the ingest parameters as
JSON. For each finished step, a JSON line with the name of the step, its duration in seconds and its
counts is written to standard output. The parent process measures the memory.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.embedded.store import EmbeddedStore
from catalog.errors import NextsongError
from ingest import pipeline
from ingest.parameters import MOST_EPOCHS, TRAINED_PLAYS, Parameters
from ingest.stats.charts import extra_needed

if TYPE_CHECKING:
    from collections.abc import Iterator

_CREATE = """
CREATE TABLE songs AS
    SELECT row_number() OVER () AS song, artist, title FROM plays GROUP BY artist, title;
CREATE INDEX by_name ON songs (artist, title);
"""
_PLAYLISTS = """
SELECT user, playlist, songs.song FROM plays JOIN songs USING (artist, title)
ORDER BY user, playlist, plays.rowid
"""


def tutorial(file: Path, folder: Path, parameters: Parameters) -> None:
    """Process the file as in common Word2Vec tutorials: pandas, SQL, and gensim on Python lists."""
    with extra_needed("bench"):
        import pandas as pd
    from gensim.models import Word2Vec

    with _step("clean") as result:
        table = pd.read_csv(file, on_bad_lines="skip")
        table.columns = ["user", "artist", "title", "playlist"]
        table = table.dropna().drop_duplicates()
        table.to_csv(folder / "clean.csv", index=False)
        result["rows"] = len(table)
    with _step("SQL") as result, sqlite3.connect(folder / "plays.sqlite") as sql:
        table.to_sql("plays", sql, index=False)
        del table
        sql.executescript(_CREATE)
        playlists: dict[tuple[str, str], list[str]] = {}
        for user, playlist, song in sql.execute(_PLAYLISTS):
            playlists.setdefault((user, playlist), []).append(str(song))
        sentences = list(playlists.values())
        del playlists
        result["playlists"] = len(sentences)
    with _step("train") as result:
        # Train on 70% of the playlists with the parameters of nextsong, except for the learning
        # rate, which tutorials do not change. With gensim's default rate, vectors need four times
        # as many epochs to be equally good (see docs/scale.md).
        sentences = sentences[: round(0.7 * len(sentences))]
        plays = sum(map(len, sentences))
        model = Word2Vec(
            sentences=sentences,
            vector_size=parameters.dimensions,
            window=parameters.window_for(plays),
            min_count=parameters.min_count,
            negative=parameters.negative,
            ns_exponent=parameters.ns_exponent,
            sample=parameters.sample,
            sg=int(parameters.skip_gram),
            epochs=parameters.epochs or _epochs_for(plays),
            workers=parameters.training_threads(),
        )
        result |= {"plays": plays, "songs": len(model.wv)}


def _epochs_for(plays: int) -> int:
    return min(4 * MOST_EPOCHS, max(1, round(4 * TRAINED_PLAYS / max(1, plays))))


def nextsong(file: Path, folder: Path, parameters: Parameters) -> None:
    """Run a nextsong ingest of the file, with a store and a work folder in `folder`."""
    store = EmbeddedStore(folder / "home")
    options = pipeline.RunOptions(max_rejects=1.0)
    outcome = pipeline.run([file], store, folder / "work", parameters, _StepReporter(), options)
    prepared = outcome.stages.prepare.summary
    _write_line(
        rows=prepared.rows,
        playlists=prepared.playlists,
        songs=outcome.manifest.counts.songs,
    )


@contextmanager
def _step(name: str) -> Iterator[dict[str, Any]]:
    start = time.perf_counter()
    result: dict[str, Any] = {}
    yield result
    _write_line(step=name, seconds=round(time.perf_counter() - start, 3), **result)


class _SilentTask:
    def advance(self, done: float, total: float | None = None) -> None:
        pass

    def result(self, text: str) -> None:
        pass


class _StepReporter:
    """A reporter that writes a JSON line for each stage of the ingest.

    Between the last stage and publishing, the songs of the release are assembled. This is reported
    as the step `assemble`.
    """

    def __init__(self) -> None:
        self._end = time.perf_counter()

    def say(self, text: str) -> None:
        """Ignore the text."""

    @contextmanager
    def task(self, title: str) -> Iterator[_SilentTask]:
        """Run a task, and then write a line with its title and its duration in seconds."""
        if title == "publish":
            _write_line(step="assemble", seconds=round(time.perf_counter() - self._end, 3))
        with _step(title):
            yield _SilentTask()
        self._end = time.perf_counter()


def _write_line(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


WAYS = {"nextsong": nextsong, "tutorial": tutorial}


def main(way: str, file: str, folder: str, parameters: str) -> int:
    """Process the file with the function `WAYS[way]`, and return the exit code.

    An error is written to standard output as a JSON line.
    """
    try:
        WAYS[way](Path(file), Path(folder), Parameters(**json.loads(parameters)))
    except NextsongError as error:
        _write_line(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
