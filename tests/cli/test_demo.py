"""The demo, in a separate process and with real gRPC."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def nextsong(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    home = tmp_path_factory.mktemp("demo")
    return home, nextsong("demo", "--home", str(home), "--playlists", "1000")


def test_the_demo_shows_each_step(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, ran = demo
    shown = [
        "Every song, artist and playlist of this demo is synthetic.",
        "1. Playlists, in a file",
        "is now current",
        "HR@100",
        "popularity",
        "serving release",
        "Next, from the songs of the playlist",
        "The song that really came next is",
        "The service has stopped.",
        "ingest run FILE",
        'recommend "Artist - Title" "Artist - Title"',
    ]
    places = [ran.stdout.find(text) for text in shown]
    assert -1 not in places, (shown[places.index(-1)], ran.stdout)
    assert places == sorted(places)


def test_the_demo_reports_every_stage(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, ran = demo
    for stage in ("generate", "read", "prepare", "split", "train", "publish", "score"):
        assert f"  {stage}" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_word2vec_beats_popularity_by_a_wide_margin(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    home, _ = demo
    printed = nextsong("evaluate", "--home", str(home), "--split", "validation", "--json", "-q")
    lines = [json.loads(line) for line in printed.stdout.splitlines()]
    scores = {
        line["system"]: {name: figure["mean"] for name, figure in line["figures"].items()}
        for line in lines
        if line["type"] == "system"
    }
    learned, popular, tutorial = (scores[name] for name in ("nextsong", "popularity", "tutorial"))
    assert learned["hr@100"] > 2 * popular["hr@100"]
    assert learned["hr@10"] > 2 * popular["hr@10"]
    assert learned["hr@100"] > tutorial["hr@100"]
    compared = [line for line in lines if line["type"] == "comparison"]
    (against_popular,) = (
        line for line in compared if (line["metric"], line["other"]) == ("hr@100", "popularity")
    )
    assert against_popular["significant"]


def test_the_release_of_the_demo_can_be_queried(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    home, _ = demo
    song = json.loads(nextsong("search", "the", "--home", str(home), "--json").stdout)["songs"][0]
    name = f"{song['artist']} - {song['title']}"
    answer = json.loads(nextsong("recommend", name, "--home", str(home), "--json").stdout)
    assert answer["strategy"] == "STRATEGY_SEEDS"
    assert len(answer["songs"]) == 10
    assert song["song_id"] not in {hit["song"]["song_id"] for hit in answer["songs"]}


def test_a_second_demo_reuses_the_release(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    home, _ = demo
    again = nextsong("demo", "--home", str(home), "--playlists", "1000")
    assert "was current already" in again.stdout
    stages = ["read", "prepare", "split", "count", "train", "choose", "rank", "publish"]
    assert again.stderr.count("(unchanged)") == len(stages)
