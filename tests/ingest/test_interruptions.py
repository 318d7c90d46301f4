"""Runs that fail or are killed. They keep the current release, and the next run resumes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.errors import BusyError, EngineError, FileError, PlaylistError
from catalog.files import lock_folder
from ingest.stages import finished_stage
from tests.support.pipeline_runs import STAGES, Lane, Listener, assert_nothing_is_left_over
from tests.support.road import QUICK, Road

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# Runs that fail.


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("pipeline.read_files", PlaylistError),
        ("prepare.playlists.prepare", RuntimeError),
        ("prepare.split.split", KeyboardInterrupt),
        ("learn.cooccurrence.count_cooccurrence", KeyboardInterrupt),
        ("learn.word2vec.train_word2vec", RuntimeError),
    ],
)
def test_a_failing_stage_leaves_the_current_release(
    quick: Lane, monkeypatch: pytest.MonkeyPatch, function: str, error: type[BaseException]
) -> None:
    current = quick.home.current()

    def fail(*_: object) -> None:
        raise error("this went wrong")

    with monkeypatch.context() as patch:
        patch.setattr(f"ingest.{function}", fail)
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
            lane.run(dense_recency=0.25)
    assert lane.home.current() == current
    lane.home.open().close()
    assert_nothing_is_left_over(lane)


def test_a_broken_pipe_of_the_progress_output_is_raised(
    quick: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(Listener, "say", gone)
    with pytest.raises(BrokenPipeError):
        quick.run()


def test_a_missing_file_is_an_error(quick: Lane, tmp_path: Path) -> None:
    quick.file = tmp_path / "none.csv"
    with pytest.raises(FileError, match=r"none\.csv"):
        quick.run()
    assert_nothing_is_left_over(quick)


def test_a_second_run_in_the_same_work_folder_is_refused(quick: Lane, tmp_path: Path) -> None:
    with lock_folder(quick.work, "an ingest run"):
        with pytest.raises(BusyError, match=f"is in use: an ingest run .process {os.getpid()}."):
            quick.run(epochs=1)
        assert quick.listener.done == []
    quick.run()


# Runs that are killed.

OPTIONS = [
    f"--{name.replace('_', '-')}={getattr(QUICK, name)}"
    for name in ("dimensions", "epochs", "min_count", "workers")
]
KILLED = """
import os, signal
from pathlib import Path
from cli.main import main
renamed = Path.rename
def rename(path, target):
    if path.name == ".{stage}.partial":
        os.kill(os.getpid(), signal.SIGKILL)
    return renamed(path, target)
Path.rename = rename
main()
"""
HELD = """
import os, signal, time
from pathlib import Path
from cli.main import main
from ingest.learn import cooccurrence
def wait(*_):
    Path(os.environ["HELD"]).touch()
    time.sleep(60)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to ignore
cooccurrence.count_cooccurrence = wait
main()
"""


@contextmanager
def ingesting(file: Path, home: Path, work: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `nextsong ingest run` in a child process, with the parameters of `road`."""
    options = [
        f"--{name.replace('_', '-')}={getattr(QUICK, name)}"
        for name in ("dimensions", "epochs", "min_count", "workers", "mode")
    ]
    command = [sys.executable, "-m", "cli.main", "ingest", "run", str(file), *options]
    with subprocess.Popen([*command, f"--home={home}", f"--work={work}", "--quiet"]) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["read", "prepare", "split", "count", "choose"])
def test_a_run_killed_in_any_stage_is_resumed(road: Road, tmp_path: Path, stage: str) -> None:
    """The process is killed when the stage has been built, before its folder is renamed."""
    home, work = EmbeddedStore(tmp_path / "home"), tmp_path / "work"
    shutil.copytree(road.work, work)
    for name in STAGES[STAGES.index(stage) :]:
        shutil.rmtree(work / name)
    code = KILLED.format(stage=stage)
    command = [sys.executable, "-c", code, "ingest", "run", str(road.file), *OPTIONS]
    ended = subprocess.run([*command, f"--home={home.path}", f"--work={work}", "-q"], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert home.current() is None
    assert not (work / stage).exists()
    lane = Lane(road, work, home, road.file)
    outcome = lane.run()
    assert lane.listener.unchanged == STAGES[: STAGES.index(stage)]
    content = outcome.manifest.origin.content_fingerprint
    assert content == road.outcome.manifest.origin.content_fingerprint
    assert_nothing_is_left_over(lane)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_ctrl_c_ends_a_run_and_leaves_no_partial_files(
    road: Road, tmp_path: Path, log_format: str
) -> None:
    home, work = EmbeddedStore(tmp_path / "home"), tmp_path / "work"
    command = [sys.executable, "-c", HELD, "ingest", "run", str(road.file), *OPTIONS]
    options = [f"--home={home.path}", f"--work={work}", "--log-format", log_format]
    held = tmp_path / "held"
    environment = {**os.environ, "HELD": str(held)}
    with subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        try:
            deadline = time.monotonic() + 60
            while not held.exists():
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            _, output = child.communicate(timeout=30)  # `HELD` would sleep for 60 seconds
        finally:
            child.kill()
    assert child.returncode == 1
    assert home.current() is None
    assert sorted(path.name for path in work.iterdir()) == [".lock", "prepare", "read", "split"]
    last = output.splitlines()[-1]
    if log_format == "json":
        event = json.loads(last)
        assert (event["event"], event["error"]) == ("error", "Interrupted")
    else:
        assert last == "Aborted!"
    assert "Traceback" not in output


def kill_when(child: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert child.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.kill()
    assert child.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_killed_while_training_or_publishing_is_resumed(road: Road, tmp_path: Path) -> None:
    home, work = EmbeddedStore(tmp_path / "home"), tmp_path / "work"
    with ingesting(road.file, home.path, work) as child:
        kill_when(child, (work / ".train.partial").is_dir)
    assert home.current() is None
    assert finished_stage(work, "split").fingerprint == road.outcome.stages.split.fingerprint

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
