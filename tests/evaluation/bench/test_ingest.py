"""`nextsong bench ingest`: nextsong and the tutorial approach, their ratios, and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from catalog.console.progress import SilentReporter
from catalog.errors import FileError, NextsongError
from cli.main import main
from evaluation.bench import ingest
from evaluation.bench.ingest import Step, Way, compute_ratios
from evaluation.bench.processes import MemoryWatch, list_process_tree
from evaluation.synthetic.raw_form import HEADER, write_raw
from ingest.parameters import Parameters
from tests.support.snapshots import check, shape

pytestmark = pytest.mark.slow

LINUX = pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux reports the memory")


def test_nextsong_and_the_tutorial_approach_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    write_raw(tmp_path / "raw.csv", 2_000, seed=0)
    out = tmp_path / "bench.json"
    ran = CliRunner().invoke(
        main, ["bench", "ingest", str(tmp_path / "raw.csv"), "--out", str(out), "-q"]
    )
    assert ran.exit_code == 0, ran.output
    written = json.loads(out.read_text())
    ours, theirs = written["ways"]
    named = [step["name"] for step in ours["steps"]]
    assert {"read", "prepare", "split", "count", "train"} <= set(named)
    assert named[-2:] == ["assemble", "publish"]
    for way in (ours, theirs):
        assert way["total"] >= sum(step["seconds"] for step in way["steps"])
    assert [step["name"] for step in theirs["steps"]] == ["clean", "SQL", "train"]
    assert ours["outcome"]["rows"] == 2_000
    assert 0 < theirs["outcome"]["rows"] < 2_000  # the tutorial approach drops rows silently
    assert all(step["seconds"] >= 0 for way in (ours, theirs) for step in way["steps"])
    for text in (
        "nextsong",
        "tutorial",
        "file to playlists",
        "training",
        "in all",
        "the whole way",
    ):
        assert text in ran.stdout
    check("bench_ingest", shape([written]))


def test_a_command_that_cannot_succeed_fails_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nothing may be measured")

    monkeypatch.setattr(ingest, "_measure", never)
    write_raw(tmp_path / "raw.csv", 100, seed=0)
    file = str(tmp_path / "raw.csv")
    for options, message in (
        (["--out", f"{file}/bench.json"], "a file exists where a folder is needed"),
        ([], "needs pandas, which is not installed"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "pandas", None)
            ran = CliRunner().invoke(main, ["bench", "ingest", file, *options])
        assert ran.exit_code == 1
        assert message in ran.output


def test_ratios_by_hand() -> None:
    ours = Way("nextsong", [Step("read", 1, 100), Step("prepare", 2, 300), Step("train", 5, 50)])
    theirs = Way("tutorial", [Step("clean", 4, 600), Step("SQL", 5, 200), Step("train", 10, 100)])
    ours.total, theirs.total = 10, 25
    first, second, whole = compute_ratios([ours, theirs])
    assert (whole.route, whole.time, whole.memory) == ("the whole way", 2.5, 2.0)
    assert (first.time, first.memory) == (3.0, 2.0)
    assert (second.time, second.memory) == (2.0, 2.0)
    assert compute_ratios([ours]) == []


@LINUX
def test_memory_of_a_grandchild_is_included() -> None:
    hold = "import time; kept = bytearray(300_000_000); print('held', flush=True); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        memory = MemoryWatch(child.pid)
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            assert 300e6 < memory.take_peak() < 600e6
        finally:
            memory.stop()
            for process in reversed(list_process_tree(child.pid)):
                subprocess.run(["kill", str(process)], check=True)


def test_unusable_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        ingest.run(tmp_path / "none.csv", Parameters(), SilentReporter(), tutorial=False)
    (tmp_path / "bad.csv").write_text("user_id,artistname,trackname,playlistname\nu,a,t,p\n")
    with pytest.raises(FileError, match=r"not in the format .*demo --write-raw"):
        ingest.run(tmp_path / "bad.csv", Parameters(), SilentReporter(), tutorial=True)
    (tmp_path / "empty.csv").write_bytes(HEADER)
    with pytest.raises(NextsongError, match="header but no rows"):
        ingest.run(tmp_path / "empty.csv", Parameters(), SilentReporter(), tutorial=False)
