"""The whole ingest: it redoes what has changed, goes on where it was killed, and adds up."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog.embedded import Draft, EmbeddedHome
from catalog.errors import BusyError, EngineError, FileError, PlaylistError
from catalog.reporting import Silent
from catalog.songs import normalise, song_id
from catalog.storage import locked
from conftest import QUICK, Road
from ingest import account, pipeline
from ingest.parameters import Parameters
from ingest.work import fingerprint_of_files, finished_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from catalog.manifest import Manifest
    from catalog.reporting import Reporter

STAGES = ["read", "prepare", "split", "train"]


class Listener(Silent):
    """Remembers which pieces of work were begun and which were found unchanged."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.unchanged: list[str] = []

    def say(self, text: str) -> None:
        assert text.endswith("(unchanged)")
        self.unchanged.append(text.split(maxsplit=1)[0])

    @contextmanager
    def task(self, title: str) -> Iterator[Any]:
        self.done.append(title)
        with super().task(title) as task:
            yield task


class QuickHome(EmbeddedHome):
    """A home that builds no shard: a new release is a copy of the current one under its origin."""

    def publish(self, draft: Draft, reporter: Reporter) -> Manifest:
        with reporter.task("publish"):
            old = self.manifest(self.current() or "")
            release = (
                f"20991231T{int(old.release[9:18]) + 1:09}-{draft.origin.content_fingerprint[:8]}"
            )
            manifest = replace(old, release=release, counts=draft.counts, origin=draft.origin)
            folder = self.path / "releases" / release
            folder.mkdir()
            (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
            shutil.copy(draft.songs_path, folder / "songs.parquet")
            (self.path / "current").write_text(release)
        return manifest


@dataclass
class Lane:
    """A copy of the road on which a test may run again."""

    road: Road
    work: Path
    home: EmbeddedHome
    file: Path
    listener: Listener = field(default_factory=Listener)

    def run(self, *, force: bool = False, **changes: Any) -> pipeline.Outcome:
        self.listener = Listener()
        parameters = replace(self.road.parameters, **changes)
        return pipeline.run(
            [self.file], {}, self.home, self.work, parameters, self.listener, force=force
        )


def linked(source: str, target: str) -> str:
    """Copy a file; a large one by a hard link, as nobody writes into it."""
    if Path(source).stat().st_size > 1 << 16:
        os.link(source, target)
        return target
    return shutil.copy2(source, target)


@pytest.fixture
def lane(road: Road, tmp_path: Path) -> Lane:
    """The road's work and home; publishing is real."""
    shutil.copytree(road.work, tmp_path / "work")
    shutil.copytree(road.home.path, tmp_path / "home", copy_function=linked)
    return Lane(road, tmp_path / "work", EmbeddedHome(tmp_path / "home"), road.file)


@pytest.fixture
def quick(lane: Lane) -> Lane:
    """The road's work and home; publishing builds nothing."""
    lane.home = QuickHome(lane.home.path)
    return lane


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_nothing_is_left_over(lane: Lane) -> None:
    assert [name for name in names(lane.work) if name not in STAGES] == [".lock"]
    assert [name for name in names(lane.home.path / "releases") if name.startswith(".")] == []


# What a run makes.


def test_a_run_publishes(road: Road) -> None:
    outcome = road.outcome
    assert outcome.published
    assert list(outcome.stages) == STAGES
    assert outcome.manifest.release == road.home.current()
    assert outcome.manifest == road.home.manifest(outcome.manifest.release)
    assert names(road.work) == [".lock", *sorted(STAGES)]


def test_the_manifest_says_where_the_release_comes_from(road: Road) -> None:
    manifest, stages = road.outcome.manifest, road.outcome.stages
    origin = manifest.origin
    assert origin.data_fingerprint == fingerprint_of_files([road.file])
    assert origin.split_fingerprint == stages["split"].fingerprint
    assert origin.parameters == asdict(QUICK)
    assert origin.sources == ["playlists.csv"]
    assert origin.track_ids is False
    assert manifest.dimensions == QUICK.dimensions
    assert manifest.counts.songs == stages["train"].summary["songs"]
    assert manifest.counts.training_playlists == stages["split"].summary["train"]
    assert manifest.counts.training_plays == stages["train"].summary["plays"]


def test_the_release_holds_the_songs_and_vectors_of_its_stages(road: Road) -> None:
    vectors = pq.read_table(road.work / "train" / "vectors.parquet").to_pylist()
    songs = pq.read_table(road.work / "prepare" / "songs.parquet").to_pylist()
    rows = [{**songs[row["song"]], **row} for row in vectors]
    rows.sort(key=lambda row: (-row["playlists"], row["song_id"]))
    release = road.home.open()
    points = asyncio.run(release.popular(10_000))
    release.close()
    assert [point.song.ordinal for point in points] == list(range(len(rows)))
    for row, point in zip(rows, points, strict=True):
        song = point.song
        assert song.song_id == UUID(row["song_id"]) == song_id(row["artist"], row["title"])
        assert (song.artist, song.title) == (row["artist"], row["title"])
        assert song.artist_key == row["artist_key"] == normalise(row["artist"])
        assert song.playlists == row["playlists"]
        np.testing.assert_allclose(point.vector, row["vector"], atol=1e-6)
    artists = {point.song.artist_key for point in points}
    assert road.outcome.manifest.counts.artists == len(artists)


def test_songs_count_in_training_playlists_alone(road: Road) -> None:
    train = pq.read_table(road.work / "split" / "train.parquet")["songs"].to_pylist()
    vectors = pq.read_table(road.work / "train" / "vectors.parquet").to_pylist()
    for row in vectors:
        assert row["playlists"] == sum(row["song"] in songs for songs in train)
        assert row["playlists"] >= QUICK.min_count


# What a second run redoes.


def test_a_second_run_does_nothing(lane: Lane) -> None:
    before = {path: path.stat().st_mtime_ns for path in lane.work.rglob("*") if path.is_file()}
    outcome = lane.run()
    assert not outcome.published
    assert lane.listener.done == []
    assert lane.listener.unchanged == [*STAGES, "publish"]
    assert outcome.manifest == lane.road.outcome.manifest
    assert lane.home.releases() == [outcome.manifest.release]
    for name, stage in outcome.stages.items():
        assert stage.fingerprint == lane.road.outcome.stages[name].fingerprint
    after = {path: path.stat().st_mtime_ns for path in lane.work.rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} <= {lane.work / ".lock"}


@pytest.mark.parametrize(
    ("changes", "redone"),
    [
        ({"epochs": 2}, ["train", "publish"]),
        ({"dimensions": 4}, ["train", "publish"]),
        ({"skip_gram": False}, ["train", "publish"]),
        ({"min_count": 3}, ["train", "publish"]),
        ({"query_decay": 0.5}, ["publish"]),
        ({"seed": 1}, ["split", "train", "publish"]),
        ({"min_songs": 5}, ["prepare", "split", "train", "publish"]),
    ],
)
def test_a_changed_parameter_redoes_what_depends_on_it(
    quick: Lane, changes: dict[str, Any], redone: list[str]
) -> None:
    old = quick.home.current()
    outcome = quick.run(**changes)
    assert quick.listener.done == redone
    assert [*quick.listener.unchanged, *redone] == [*STAGES, "publish"]
    assert outcome.published
    assert outcome.manifest.release == quick.home.current() != old
    assert changes.items() <= outcome.manifest.origin.parameters.items()
    assert_nothing_is_left_over(quick)
    quick.run(**changes)
    assert quick.listener.done == []


def test_a_changed_decay_keeps_the_vectors(quick: Lane) -> None:
    first = quick.road.outcome
    second = quick.run(query_decay=0.5)
    assert second.stages["train"] == replace(
        first.stages["train"], folder=second.stages["train"].folder
    )
    assert second.manifest.origin.content_fingerprint != first.manifest.origin.content_fingerprint
    assert second.manifest.origin.split_fingerprint == first.manifest.origin.split_fingerprint


def test_going_back_publishes_again(quick: Lane) -> None:
    quick.run(query_decay=0.5)
    outcome = quick.run()
    assert quick.listener.done == ["publish"]
    content = outcome.manifest.origin.content_fingerprint
    assert content == quick.road.outcome.manifest.origin.content_fingerprint


def test_changed_data_redoes_everything(quick: Lane, tmp_path: Path) -> None:
    quick.file = tmp_path / "playlists.csv"
    shutil.copy(quick.road.file, quick.file)
    first = quick.run()
    with quick.file.open("a") as file:
        file.write(quick.file.read_text().splitlines()[-1] + "\n")
    second = quick.run()
    assert quick.listener.done == [*STAGES, "publish"]
    assert second.manifest.origin.data_fingerprint != first.manifest.origin.data_fingerprint
    assert second.stages["read"].summary["rows"] == first.stages["read"].summary["rows"] + 1


def test_a_changed_column_redoes_everything(quick: Lane) -> None:
    pipeline.run([quick.file], {"title": "album"}, quick.home, quick.work, QUICK, quick.listener)
    assert quick.listener.done == [*STAGES, "publish"]


def test_force_redoes_everything(quick: Lane) -> None:
    vectors = (quick.work / "train" / "vectors.parquet").read_bytes()
    outcome = quick.run(force=True)
    assert quick.listener.done == [*STAGES, "publish"]
    assert quick.listener.unchanged == []
    assert outcome.published
    content = outcome.manifest.origin.content_fingerprint
    assert content == quick.road.outcome.manifest.origin.content_fingerprint
    assert (quick.work / "train" / "vectors.parquet").read_bytes() == vectors


def test_a_damaged_stage_is_redone_and_not_published_again(quick: Lane) -> None:
    (quick.work / "split" / "train.parquet").unlink()
    outcome = quick.run()
    assert quick.listener.done == ["split"]
    assert not outcome.published


def test_a_home_without_a_release_is_filled_from_finished_stages(
    quick: Lane, tmp_path: Path
) -> None:
    (quick.home.path / "current").unlink()
    quick.home = EmbeddedHome(tmp_path / "another home")
    outcome = quick.run()
    assert quick.listener.done == ["publish"]
    assert outcome.manifest.release == quick.home.current()
    quick.home.open().close()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("damage", ["manifest.json", "current"])
def test_a_damaged_release_is_replaced(lane: Lane, *, force: bool, damage: str) -> None:
    release = lane.home.path / "releases" / (lane.home.current() or "")
    path = {"current": lane.home.path, "manifest.json": release}[damage] / damage
    path.write_bytes(b"\0" * 100)
    outcome = lane.run(force=force)
    assert outcome.published
    assert lane.home.open().manifest == outcome.manifest


# Failures.


@pytest.mark.parametrize("error", [PlaylistError, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("step", ["read_files", "prepare", "split", "train"])
def test_a_failing_stage_leaves_the_current_release(
    quick: Lane, monkeypatch: pytest.MonkeyPatch, step: str, error: type[BaseException]
) -> None:
    current = quick.home.current()

    def fail(*_: object) -> None:
        raise error("this went wrong")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, step, fail)
        with pytest.raises(error, match="this went wrong"):
            quick.run(force=True)
    assert quick.home.current() == current
    assert quick.home.releases() == [current]
    assert_nothing_is_left_over(quick)
    outcome = quick.run()
    assert quick.listener.done == []
    assert not outcome.published


def test_publishing_that_fails_leaves_the_current_release(
    lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = tmp_path / "builder"
    builder.write_text("#!/bin/sh\nkill -9 $$\n")
    builder.chmod(0o700)
    current = lane.home.current()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(builder))
        with pytest.raises(EngineError, match="ended early"):
            lane.run(query_decay=0.5)
    assert lane.home.current() == current
    lane.home.open().close()
    assert_nothing_is_left_over(lane)


def test_a_reader_of_our_output_that_left(quick: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(Listener, "say", gone)
    with pytest.raises(BrokenPipeError):
        quick.run()


def test_a_file_that_is_not_there(quick: Lane, tmp_path: Path) -> None:
    quick.file = tmp_path / "none.csv"
    with pytest.raises(FileError, match=r"none\.csv"):
        quick.run()
    assert_nothing_is_left_over(quick)


def test_two_runs_in_one_work_folder(quick: Lane, tmp_path: Path) -> None:
    with locked(quick.work, "an ingest run"):
        with pytest.raises(BusyError, match=f"is in use: an ingest run .process {os.getpid()}."):
            quick.run(epochs=1)
        assert quick.listener.done == []
    quick.run()


# A run that is killed.


@contextmanager
def ingesting(file: Path, home: Path, work: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`nextsong ingest run` in a process of its own, with the road's parameters."""
    options = [
        f"--{name.replace('_', '-')}={getattr(QUICK, name)}"
        for name in ("dimensions", "epochs", "min_count", "workers")
    ]
    command = [sys.executable, "-m", "evaluation.main", "ingest", "run", str(file), *options]
    with subprocess.Popen([*command, f"--home={home}", f"--work={work}", "--quiet"]) as child:
        try:
            yield child
        finally:
            child.kill()


def kill_when(child: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.kill()
    assert child.wait() == -signal.SIGKILL


def test_killed_and_run_again(road: Road, tmp_path: Path) -> None:
    home, work = EmbeddedHome(tmp_path / "home"), tmp_path / "work"
    with ingesting(road.file, home.path, work) as child:
        kill_when(child, (work / ".train.partial").is_dir)
    assert home.current() is None
    assert finished_stage(work, "split").fingerprint == road.outcome.stages["split"].fingerprint

    with ingesting(road.file, home.path, work) as child:
        kill_when(child, lambda: any(home.path.glob("releases/.*.partial")))
    assert home.current() is None
    assert home.releases() == []

    lane = Lane(road, work, home, road.file)
    outcome = lane.run()
    assert lane.listener.done == ["publish"]
    assert lane.listener.unchanged == STAGES
    content = outcome.manifest.origin.content_fingerprint
    assert content == road.outcome.manifest.origin.content_fingerprint
    vectors = Path("train") / "vectors.parquet"
    assert (work / vectors).read_bytes() == (road.work / vectors).read_bytes()
    assert replace(outcome.manifest, release="", created="", files={}, canaries=[]) == replace(
        road.outcome.manifest, release="", created="", files={}, canaries=[]
    )
    assert_nothing_is_left_over(lane)
    home.open().close()


# The account.


def numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", text)]


def lines_of(outcome: pipeline.Outcome) -> dict[str, str]:
    lines = account.of(outcome).splitlines()
    return {line[:10].strip(): line[11:] for line in lines}


def assert_it_adds_up(outcome: pipeline.Outcome) -> None:
    """All that was read is in the account, and all parts make their wholes."""
    lines = lines_of(outcome)
    summaries = {name: stage.summary for name, stage in outcome.stages.items()}
    read, used, rejected = numbers(lines["rows"])
    assert read == used + rejected
    assert read == summaries["read"]["rows"] + summaries["read"]["unreadable"]
    assert rejected == sum(numbers(lines.get("rejected", "").split(":")[0]))
    kept, *short = numbers(lines["playlists"].split(":")[0])
    assert kept == sum(numbers(lines["split"]))
    assert short == [summaries["prepare"]["short_playlists"]][: len(short)]
    songs, artists, percent, rarer = numbers(lines["catalog"])
    assert (songs, artists) == (outcome.manifest.counts.songs, outcome.manifest.counts.artists)
    train = pq.read_table(outcome.stages["split"].folder / "train.parquet")["songs"].to_pylist()
    assert songs + rarer == len({song for one in train for song in one})
    plays = sum(map(len, train))
    assert plays == summaries["train"]["plays"] == outcome.manifest.counts.training_plays
    assert percent == round(100 * summaries["train"]["plays_covered"] / plays)
    assert lines["release"].startswith(outcome.manifest.release)


def test_the_account_of_a_run(road: Road) -> None:
    assert_it_adds_up(road.outcome)
    lines = lines_of(road.outcome)
    assert list(lines) == ["rows", "playlists", "split", "catalog", "release"]
    assert lines["release"].endswith(" is now current")
    assert "short_playlists.parquet" in lines["playlists"]


def test_the_account_of_a_run_that_changed_nothing(quick: Lane) -> None:
    outcome = quick.run()
    assert_it_adds_up(outcome)
    assert lines_of(outcome)["release"].endswith(" was current already")


def test_the_account_names_rejected_rows_and_where_they_are(quick: Lane, tmp_path: Path) -> None:
    quick.file = tmp_path / "rejects.csv"
    good = [f"{playlist},A,{song}" for playlist in range(9) for song in "wxyz"]
    bad = ["1,,x", "1,A,", ",A,x", "2,,y"]
    short = ["short,A,w"]
    quick.file.write_text("\n".join(["playlist_id,artist,title", *good, *bad, *short]) + "\n")
    outcome = quick.run()
    assert_it_adds_up(outcome)
    lines = lines_of(outcome)
    assert lines["rows"] == "41 read = 37 used + 4 rejected"
    rejects = quick.work / "prepare" / "rejects.parquet"
    assert lines["rejected"] == f"2 no artist, 1 no playlist, 1 no title: {rejects}"
    assert lines["playlists"].startswith("9 kept, 1 too short: ")
    assert pq.read_table(rejects)["line"].to_pylist() == [38, 39, 40, 41]


# Real data.


REAL = Parameters(dimensions=16, epochs=1, min_count=2)


@dataclass(frozen=True)
class Expected:
    """What is known of a file of real data."""

    name: str
    rows: int
    used: int
    rejects: dict[str, int]
    playlists: int
    short: int
    track_ids: bool = False


@pytest.mark.parametrize(
    "expected",
    [
        Expected("radio_sessions.parquet", 132_609, 132_609, {}, 5_344, 0),
        Expected("spotify_archive.tsv", 33_124, 33_122, {"no artist": 2}, 320, 0, track_ids=True),
        Expected("nowplaying_head.csv", 10_000, 9_992, {"no artist": 8}, 39, 1),
    ],
    ids=lambda expected: expected.name,
)
def test_real_data(shared_data: Path, tmp_path: Path, expected: Expected) -> None:
    home = EmbeddedHome(tmp_path / "home")
    outcome = pipeline.run(
        [shared_data / expected.name], {}, home, tmp_path / "work", REAL, Silent()
    )
    assert_it_adds_up(outcome)
    prepared = outcome.stages["prepare"].summary
    assert prepared["rows"] == expected.rows
    assert prepared["used"] == expected.used
    assert prepared["rejected"] == expected.rejects
    assert prepared["playlists"] == expected.playlists
    assert prepared["short_playlists"] == expected.short
    assert outcome.stages["read"].summary["unreadable"] == 0
    assert outcome.manifest.origin.track_ids == expected.track_ids
    rejects = pq.read_table(tmp_path / "work" / "prepare" / "rejects.parquet").to_pylist()
    assert len(rejects) == sum(expected.rejects.values())
    if expected.name == "nowplaying_head.csv":
        assert [reject["line"] for reject in rejects] == [771, *range(2608, 2613), 2614, 2615]
        lines = (shared_data / expected.name).read_text(encoding="utf-8").split("\n")
        nameless = [at for at, line in enumerate(lines, 1) if line.split('","')[1:2] == [""]]
        assert [reject["line"] for reject in rejects] == nameless
    release = home.open()
    assert len(asyncio.run(release.popular(100))) == 100
    release.close()
