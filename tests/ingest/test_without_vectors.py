"""A release without dense vectors, because no song is in enough playlists for a vector."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from catalog.errors import PlaylistError
from cli.main import main
from evaluation.judge import harness
from evaluation.protocol.dataset import load_dataset
from evaluation.systems.location import StoreLocation
from ingest import pipeline, report
from service.recommend.engine import find_similar, recommend
from service.recommend.query import Mode, Query, Strategy
from service.recommend.seeds import Seed

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.manifest import Manifest
    from tests.support.road import Road

TOO_HIGH = 100_000


@pytest.fixture(scope="module")
def bare(road: Road, tmp_path_factory: pytest.TempPathFactory) -> pipeline.Outcome:
    """The playlists of `road`, published with a --min-count so high that no song has a vector."""
    folder = tmp_path_factory.mktemp("bare")
    parameters = replace(road.parameters, min_count=TOO_HIGH, mode="auto")
    home = EmbeddedStore(folder)
    return pipeline.run([road.file], home, folder / "work", parameters, SilentReporter())


@pytest.fixture(scope="module")
def home(bare: pipeline.Outcome) -> EmbeddedStore:
    return EmbeddedStore(bare.stages.train.folder.parents[1])


def test_a_release_of_cooccurrence_alone_is_published(
    bare: pipeline.Outcome, home: EmbeddedStore
) -> None:
    manifest: Manifest = bare.manifest
    assert home.current() == manifest.release
    assert (manifest.counts.vectors, manifest.canaries) == (0, [])
    assert manifest.counts.predicted > 0.9 * manifest.counts.songs
    assert manifest.origin.parameters["mode"] == "cooccurrence"


def test_the_report_names_missing_vectors_and_a_remedy(
    bare: pipeline.Outcome,
) -> None:
    train = pq.read_table(bare.stages.split.folder / "train.parquet")["songs"].to_pylist()
    plays = [song for songs in train for song in songs]
    most = max(plays.count(song) for song in set(plays))
    work = bare.stages.train.folder.parent
    for text in (report.describe_run(bare), report.describe_last_run(report.load_last_run(work))):
        (missing,) = (line for line in text.splitlines() if line.startswith("missing"))
        assert "song vectors" in missing
        assert f"(the most is {most})" in missing
        assert f"--min-count {most}" in missing


@pytest.mark.parametrize("mode", [None, *Mode])
def test_every_mode_uses_cooccurrence(
    bare: pipeline.Outcome, home: EmbeddedStore, mode: Mode | None
) -> None:
    song = pq.read_table(bare.stages.prepare.folder / "songs.parquet").to_pylist()[0]
    seed = Seed(artist=song["artist"], title=song["title"])
    release = home.open()
    try:
        answer = asyncio.run(
            recommend(
                release, Query([seed], 5, mode=mode, max_per_artist=1, diversity=0.3, explain=True)
            )
        )
        _, near = asyncio.run(find_similar(release, seed, 5))
    finally:
        release.close()
    assert len(answer.songs) == len(near.songs) == 5
    assert (answer.mode, answer.strategy) == (Mode.COOCCURRENCE, Strategy.SEEDS)
    assert all(answer.reasons)


def test_a_reranker_is_trained_without_vectors(
    road: Road, bare: pipeline.Outcome, home: EmbeddedStore
) -> None:
    pytest.importorskip("lightgbm")
    parameters = replace(road.parameters, min_count=TOO_HIGH, mode="auto", ranker=True)
    work = bare.stages.train.folder.parent
    outcome = pipeline.run([road.file], home, work, parameters, SilentReporter())
    assert outcome.manifest.ranker is not None
    assert outcome.manifest.origin.parameters["mode"] in ("cooccurrence", "ranked")


def test_the_release_is_evaluated_and_reported(
    road: Road, bare: pipeline.Outcome, home: EmbeddedStore, tmp_path: Path
) -> None:
    work = bare.stages.train.folder.parent
    assert load_dataset(work, bare.manifest.origin.parameters).vectors is None
    plan = harness.Plan(
        split="validation",
        baselines=("popularity", "tutorial"),
        modes=("auto", "dense", "cooccurrence", "hybrid"),
    )
    result = harness.evaluate(StoreLocation(home.path), work, plan, SilentReporter())
    hit_rate = {system.key: system.figures["hr@100"].mean for system in result.systems}
    assert "cooccurrence" not in hit_rate  # `auto` already selects this mode
    assert hit_rate["nextsong"] == hit_rate["hybrid"] > hit_rate["popularity"]
    options = ["--split", "validation", "--baselines", "", "--report", str(tmp_path / "page.html")]
    command = ["evaluate", "--home", str(home.path), "--quiet", "--modes", "auto", *options]
    shown = CliRunner().invoke(main, command)
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_doctor_and_verify_find_no_fault(home: EmbeddedStore) -> None:
    for command in (["doctor"], ["releases", "verify"], ["releases", "list"]):
        shown = CliRunner().invoke(main, [*command, "--home", str(home.path)])
        assert shown.exit_code == 0, shown.output


def test_nothing_learned_is_an_error(road: Road, tmp_path: Path) -> None:
    path = tmp_path / "strangers.csv"
    rows = [f"{p},Artist {p}.{s},Title {s}" for p in range(20) for s in range(4)]
    path.write_text("playlist_id,artist,title\n" + "\n".join(rows) + "\n")
    parameters = replace(road.parameters, min_count=2, lone_neighbours=0)
    with pytest.raises(PlaylistError, match=r"lower --min-count or raise --lone-neighbours"):
        pipeline.run(
            [path], EmbeddedStore(tmp_path), tmp_path / "work", parameters, SilentReporter()
        )
