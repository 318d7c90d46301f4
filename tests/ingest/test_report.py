"""Reports on a run: their figures add up, for synthetic and for real data."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from catalog.errors import MismatchError, RejectsError
from cli.main import main
from ingest import pipeline, report
from ingest.parameters import Parameters
from ingest.sources.options import ReadOptions
from ingest.sources.values.payload import parse_payload_columns

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pipeline_runs import Lane
    from tests.support.road import Road


# The short report after a run.


def numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", text)]


def lines_of(outcome: pipeline.Outcome) -> dict[str, str]:
    lines = report.describe_run(outcome).splitlines()
    return {line[:10].strip(): line[11:] for line in lines}


def assert_it_adds_up(outcome: pipeline.Outcome) -> None:
    """Assert that the report includes every row that was read, and that its figures add up."""
    lines = lines_of(outcome)
    summaries = {name: stage.summary for name, stage in outcome.stages.items()}
    read, used, rejected = numbers(lines["rows"])
    assert read == used + rejected
    assert read == summaries["read"].rows + summaries["read"].unreadable
    assert rejected == sum(numbers(lines.get("rejected", "").split(":")[0]))
    kept, *short = numbers(lines["playlists"].split(":")[0])
    assert kept == sum(numbers(lines["split"]))
    prepared = summaries["prepare"]
    assert short == [prepared.short_playlists, prepared.short_rows][: len(short)]
    counts = outcome.manifest.counts
    assert numbers(lines["catalog"]) == [
        counts.songs,
        counts.artists,
        counts.vectors,
        counts.predicted,
    ]
    train = pq.read_table(outcome.stages.split.folder / "train.parquet")["songs"].to_pylist()
    assert counts.songs == len({song for item in train for song in item})
    plays = sum(map(len, train))
    assert plays == summaries["train"].plays == outcome.manifest.counts.training_plays
    assert lines["release"].startswith(outcome.manifest.release)


def test_the_report_on_a_run_adds_up(road: Road) -> None:
    assert_it_adds_up(road.outcome)
    lines = lines_of(road.outcome)
    assert list(lines) == ["rows", "playlists", "order", "repeats", "split", "catalog", "release"]
    assert lines["order"].startswith("neighbours recur ")
    assert lines["order"].endswith("; taken as the order of playing")
    assert lines["release"].endswith(" is now current")
    assert "short_playlists.parquet" in lines["playlists"]


def test_the_report_on_a_run_that_changed_nothing(quick: Lane) -> None:
    outcome = quick.run()
    assert_it_adds_up(outcome)
    assert lines_of(outcome)["release"].endswith(" was current already")


def test_the_report_names_rejected_rows_and_their_file(quick: Lane, tmp_path: Path) -> None:
    quick.file = tmp_path / "rejects.csv"
    good = [f"{playlist},A,{song}" for playlist in range(9) for song in "wxyz"]
    bad = ["1,,x", "1,A,", ",A,x", "2,,y"]
    short = ["short,A,w"]
    quick.file.write_text("\n".join(["playlist_id,artist,title", *good, *bad, *short]) + "\n")
    outcome = quick.run(max_rejects=0.1)
    assert_it_adds_up(outcome)
    lines = lines_of(outcome)
    assert lines["rows"] == "41 read = 37 used + 4 rejected"
    rejects = quick.work / "prepare" / "rejects.parquet"
    assert lines["rejected"] == f"2 no artist, 1 no playlist, 1 no title: {rejects}"
    assert lines["playlists"].startswith("9 kept, 1 too short, with ")
    assert pq.read_table(rejects)["line"].to_pylist() == [38, 39, 40, 41]


# The full report of `nextsong ingest report`.


def written(tmp_path: Path, bad: int) -> Path:
    file = tmp_path / "some.csv"
    rows = [f"{playlist},A,{song},x" for playlist in range(40) for song in "wxyz"]
    rows[0] = "0,A,w,1999"
    rows += ["0,,x,1"] * bad + ["short,A,w,1"]
    file.write_text("\n".join(["playlist_id,artist,title,year", *rows]) + "\n")
    return file


def test_the_full_report_has_all_sections(quick: Lane, tmp_path: Path) -> None:
    quick.file = written(tmp_path, bad=3)
    (tmp_path / "files").mkdir()
    quick.file = quick.file.rename(tmp_path / "files" / "some.csv")
    (tmp_path / "files" / "notes.txt").write_text("nothing")
    quick.how = ReadOptions(payload=parse_payload_columns(["year:integer"]))
    quick.file = tmp_path / "files"
    quick.run()
    result = CliRunner().invoke(main, ["ingest", "report", "--work", str(quick.work)])
    assert result.exit_code == 0, result.output
    text = result.output
    where = quick.work / "prepare"
    for part in (
        "some.csv: CSV, standard quoting; 164 rows, 0 unreadable; playlist_id, artist, title",
        f"1 file of other formats: {tmp_path / 'files' / 'notes.txt'}",
        "164 read = 161 used + 3 rejected",
        f"3 no artist: {where / 'rejects.parquet'}",
        "some.csv, line 162: no artist: '0 |  |  |  | x | '",
        "year (integer): 5 rows with a value, 0 without a value, 159 with a value of another kind",
        "year: 159 values that are not of kind integer were left out: 'x' (some.csv, line 3)",
        f"40 kept, 1 too short, with 1 of the rows used: {where / 'short_playlists.parquet'}",
        "4 songs of 1 artists",
        "39 playlists have the same songs in the same order as another",
        "labels in training playlists: 100.0% in 1 or more, 100.0% in 2 or more",
    ):
        assert part in text
    actual = json.loads(
        CliRunner().invoke(main, ["ingest", "report", "--work", str(quick.work), "--json"]).output
    )
    assert actual["prepare"]["used"] == 161
    assert actual["split"]["label_coverage"]["validation"]["10"] == 1.0


def test_the_report_has_the_gain_of_each_value_that_was_tried(road: Road) -> None:
    text = report.describe_last_run(report.load_last_run(road.work))
    tried = {}
    for line in text.splitlines():
        if line.split()[0] == "tried":
            name, values = line.removeprefix("  tried").split(", gain of each value", 1)
            tried[name.strip()] = values.removeprefix(" (*: selected): ").split(", ")
    assert [*tried] == [
        "recency",
        "song exponent",
        "share of artist",
        "dense recency",
        "dense weight",
    ]
    assert len(tried["recency"]) == 7
    trials = road.outcome.stages.choose.summary.trials
    for name, values in tried.items():
        own = [trial for trial in trials if trial.parameter.replace("_", " ") == name]
        assert values == [
            f"{trial.value:g}{'*' * trial.is_selected} {trial.gain:.4f}" for trial in own
        ]
        assert sum("*" in value for value in values) == 1


def test_too_many_rejects_stop_a_run_and_are_reported(quick: Lane, tmp_path: Path) -> None:
    before = quick.home.current()
    quick.file = written(tmp_path, bad=9)
    with pytest.raises(RejectsError, match=r"9 of 170 rows \(5.3%\) were rejected \(9 no artist\)"):
        quick.run()
    assert quick.home.current() == before
    stages = report.load_last_run(quick.work)
    assert [name for name, stage in vars(stages).items() if stage] == ["read", "prepare"]
    assert "9 no artist" in report.describe_last_run(stages)
    assert pq.read_metadata(quick.work / "prepare" / "rejects.parquet").num_rows == 9
    assert quick.run(max_rejects=0.06).published
    assert quick.listener.unchanged == ["read", "prepare"]


def test_a_run_of_another_version_is_not_reported(quick: Lane) -> None:
    record = quick.work / "prepare" / "stage.json"
    content = json.loads(record.read_text())
    del content["summary"]["versions"]
    record.write_text(json.dumps(content))
    with pytest.raises(MismatchError, match=r"another version of nextsong .*versions: .*run"):
        report.load_last_run(quick.work)


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="holds no finished 'read'"):
        report.load_last_run(tmp_path)


# Real data.


REAL = Parameters(dimensions=16, epochs=1, min_count=2)


@dataclass(frozen=True)
class Expected:
    """The expected figures for a file of real data."""

    name: str
    rows: int
    used: int
    rejects: dict[str, int]
    playlists: int
    short: int
    track_ids: bool = False


@pytest.mark.slow
@pytest.mark.parametrize(
    "expected",
    [
        Expected("radio_sessions.parquet", 132_609, 132_609, {}, 5_344, 0),
        Expected("spotify_archive.tsv", 33_124, 33_122, {"no artist": 2}, 320, 0, track_ids=True),
        Expected("nowplaying_head.csv", 10_000, 9_992, {"no artist": 8}, 39, 1),
    ],
    ids=lambda expected: expected.name,
)
def test_the_report_on_real_data(shared_data: Path, tmp_path: Path, expected: Expected) -> None:
    home = EmbeddedStore(tmp_path / "home")
    outcome = pipeline.run(
        [shared_data / expected.name], home, tmp_path / "work", REAL, SilentReporter()
    )
    assert_it_adds_up(outcome)
    prepared = outcome.stages.prepare.summary
    assert prepared.rows == expected.rows
    assert prepared.used == expected.used
    assert prepared.rejected == expected.rejects
    assert prepared.playlists == expected.playlists
    assert prepared.short_playlists == expected.short
    assert outcome.stages.read.summary.unreadable == 0
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
