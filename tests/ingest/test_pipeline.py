"""The ingest pipeline: the output of a run, and the stages that a second run repeats."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.song import normalise, song_id
from ingest import pipeline
from ingest.stages import fingerprint_of_files
from tests.support.pipeline_runs import STAGES, Lane, assert_nothing_is_left_over, names
from tests.support.road import QUICK, Road

if TYPE_CHECKING:
    from pathlib import Path


# Output of a run.


def test_a_run_publishes(road: Road) -> None:
    outcome = road.outcome
    assert outcome.published
    assert [name for name, _ in outcome.stages.items()] == STAGES
    assert outcome.manifest.release == road.home.current()
    assert outcome.manifest == road.home.manifest(outcome.manifest.release)
    assert names(road.work) == [".lock", *sorted(STAGES)]


def test_the_manifest_describes_the_origin_of_the_release(road: Road) -> None:
    manifest, stages = road.outcome.manifest, road.outcome.stages
    origin = manifest.origin
    assert origin.data_fingerprint == fingerprint_of_files([road.file])
    assert origin.split_fingerprint == stages.split.fingerprint
    lone = QUICK.lone_neighbours_for(manifest.counts.songs)
    detected = {"lone_neighbours": lone, "catalog_min": 1, "order": "played", "mode": "hybrid"}
    detected |= {"window": 60}
    chosen = stages.choose.summary
    detected |= chosen.selected.to_parameters()
    detected |= {"cooccurrence_scale": stages.count.summary.scale, "collided_keys": 0}
    detected |= {"selection": [asdict(trial) for trial in chosen.trials]}
    assert origin.parameters == asdict(QUICK) | detected
    assert origin.sources == ["playlists.csv"]
    assert origin.track_ids is False
    assert manifest.dimensions == QUICK.dimensions
    assert manifest.counts.vectors == stages.train.summary.songs
    assert manifest.counts.training_playlists == stages.split.summary.train
    assert manifest.counts.training_plays == stages.train.summary.plays


def test_the_release_has_the_songs_and_vectors_of_its_stages(road: Road) -> None:
    vectors = pq.read_table(road.work / "train" / "vectors.parquet").to_pylist()
    songs = pq.read_table(road.work / "prepare" / "songs.parquet").to_pylist()
    train = pq.read_table(road.work / "split" / "train.parquet")["songs"].to_pylist()
    plays = Counter(song for playlist in train for song in playlist)
    vector_of = {row["song"]: row["vector"] for row in vectors}
    rows = [
        {**songs[song], "playlists": count, "vector": vector_of.get(song)}
        for song, count in plays.items()
    ]
    rows.sort(key=lambda row: (-row["playlists"], row["song_id"]))
    release = road.home.open()
    points = asyncio.run(release.popular(10_000))
    release.close()
    assert [point.song.ordinal for point in points] == list(range(len(rows)))
    for row, point in zip(rows, points, strict=True):
        song = point.song
        assert song.song_id == UUID(row["song_id"]) == song_id(row["artist"], row["title"])
        assert (song.artist, song.title) == (row["artist"], row["title"])
        assert song.artist_keys == (row["artist_key"],) == (normalise(row["artist"]),)
        assert song.playlists == row["playlists"]
        if row["vector"] is None:
            assert point.vector is None
        else:
            np.testing.assert_allclose(point.vector, row["vector"], atol=1e-6)
    artists = {point.song.artist_key for point in points}
    assert road.outcome.manifest.counts.artists == len(artists)


def test_songs_count_only_in_training_playlists(road: Road) -> None:
    train = pq.read_table(road.work / "split" / "train.parquet")["songs"].to_pylist()
    vectors = pq.read_table(road.work / "train" / "vectors.parquet").to_pylist()
    plays = Counter(song for playlist in train for song in playlist)
    often = {song for song, count in plays.items() if count >= QUICK.min_count}
    assert {row["song"] for row in vectors} == often


# Stages that a second run repeats.


def test_a_second_run_does_nothing(lane: Lane) -> None:
    before = {path: path.stat().st_mtime_ns for path in lane.work.rglob("*") if path.is_file()}
    outcome = lane.run()
    assert not outcome.published
    assert lane.listener.done == []
    assert lane.listener.unchanged == [*STAGES, "publish"]
    assert outcome.manifest == lane.road.outcome.manifest
    assert lane.home.releases() == [outcome.manifest.release]
    for name, stage in outcome.stages.items():
        assert stage.fingerprint == getattr(lane.road.outcome.stages, name).fingerprint
    after = {path: path.stat().st_mtime_ns for path in lane.work.rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} <= {lane.work / ".lock"}


@pytest.mark.parametrize(
    ("changes", "redone"),
    [
        ({"epochs": 2}, ["train", "choose", "publish"]),
        ({"dimensions": 4}, ["train", "choose", "publish"]),
        ({"skip_gram": False}, ["train", "choose", "publish"]),
        ({"min_count": 3}, ["train", "choose", "publish"]),
        ({"dense_recency": 0.75}, ["choose", "publish"]),
        ({"song_exponent": 0.2}, ["choose", "publish"]),
        ({"content_shares": {"artist": 0.3}}, ["choose", "publish"]),
        ({"dense_weight": 0.5}, ["choose", "publish"]),
        ({"seed": 1}, ["split", "count", "train", "choose", "publish"]),
        ({"min_songs": 5}, ["prepare", "split", "count", "train", "choose", "publish"]),
        ({"neighbours": 5}, ["count", "choose", "publish"]),
        ({"backward": 1.0}, ["count", "choose", "publish"]),
    ],
)
def test_a_changed_parameter_repeats_the_stages_that_depend_on_it(
    quick: Lane, changes: dict[str, Any], redone: list[str]
) -> None:
    old = quick.home.current()
    outcome = quick.run(**changes)
    assert quick.listener.done == redone
    assert {*quick.listener.unchanged, *redone} == {*STAGES, "publish"}
    assert not set(quick.listener.unchanged) & set(redone)
    assert outcome.published
    assert outcome.manifest.release == quick.home.current() != old
    assert changes.items() <= outcome.manifest.origin.parameters.items()
    assert_nothing_is_left_over(quick)
    quick.run(**changes)
    assert quick.listener.done == []


def test_a_changed_recency_keeps_the_vectors(quick: Lane) -> None:
    first = quick.road.outcome
    second = quick.run(recency=0.75)
    assert second.stages.train == replace(first.stages.train, folder=second.stages.train.folder)
    assert second.manifest.origin.content_fingerprint != first.manifest.origin.content_fingerprint
    assert second.manifest.origin.split_fingerprint == first.manifest.origin.split_fingerprint


def test_a_parameter_changed_back_publishes_again(quick: Lane) -> None:
    quick.run(recency=0.75)
    outcome = quick.run()
    assert quick.listener.done == ["choose", "publish"]
    content = outcome.manifest.origin.content_fingerprint
    assert content == quick.road.outcome.manifest.origin.content_fingerprint


def test_changed_data_repeats_all_stages(quick: Lane, tmp_path: Path) -> None:
    quick.file = tmp_path / "playlists.csv"
    shutil.copy(quick.road.file, quick.file)
    first = quick.run()
    with quick.file.open("a") as file:
        file.write(quick.file.read_text().splitlines()[-1] + "\n")
    second = quick.run()
    assert quick.listener.done == [*STAGES, "publish"]
    assert second.manifest.origin.data_fingerprint != first.manifest.origin.data_fingerprint
    assert second.stages.read.summary.rows == first.stages.read.summary.rows + 1


def test_a_changed_column_repeats_all_stages(quick: Lane) -> None:
    options = pipeline.RunOptions(columns={"title": "album"})
    pipeline.run([quick.file], quick.home, quick.work, QUICK, quick.listener, options)
    assert quick.listener.done == [*STAGES, "publish"]


def test_force_repeats_all_stages(quick: Lane) -> None:
    vectors = (quick.work / "train" / "vectors.parquet").read_bytes()
    outcome = quick.run(force=True)
    assert quick.listener.done == [*STAGES, "publish"]
    assert quick.listener.unchanged == []
    assert outcome.published
    content = outcome.manifest.origin.content_fingerprint
    assert content == quick.road.outcome.manifest.origin.content_fingerprint
    assert (quick.work / "train" / "vectors.parquet").read_bytes() == vectors


def test_a_damaged_stage_is_repeated_and_not_published_again(quick: Lane) -> None:
    (quick.work / "split" / "train.parquet").unlink()
    outcome = quick.run()
    assert quick.listener.done == ["split"]
    assert not outcome.published


def test_a_store_without_a_release_is_filled_from_finished_stages(
    quick: Lane, tmp_path: Path
) -> None:
    (quick.home.path / "current").unlink()
    quick.home = EmbeddedStore(tmp_path / "another home")
    outcome = quick.run()
    assert quick.listener.done == ["publish"]
    assert outcome.manifest.release == quick.home.current()
    quick.home.open().close()


@pytest.mark.parametrize(("damage", "force"), [("manifest.json", False), ("current", True)])
def test_a_damaged_release_is_replaced(lane: Lane, *, force: bool, damage: str) -> None:
    release = lane.home.path / "releases" / (lane.home.current() or "")
    path = {"current": lane.home.path, "manifest.json": release}[damage] / damage
    path.write_bytes(b"\0" * 100)
    outcome = lane.run(force=force)
    assert outcome.published
    assert lane.home.open().manifest == outcome.manifest
