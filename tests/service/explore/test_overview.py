"""The overview of a release: the map, the values of the fields, and the file that keeps them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from service.explore.overview import FieldValues, OverviewTask, StoreLocation, compute, load, save
from service.explore.projection import NEIGHBOURS, find_neighbours, project

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.embedded.store import EmbeddedStore
    from tests.support.store_content import Content

TIMEOUT_S = 240


def make_clusters(count: int, dimensions: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors around four centres, and the number of the centre of each vector."""
    chance = np.random.default_rng(1)
    centres = chance.normal(size=(4, dimensions))
    cluster = chance.integers(4, size=count)
    vectors = centres[cluster] + chance.normal(scale=0.3, size=(count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), cluster


def test_neighbours_are_mostly_the_nearest_vectors() -> None:
    vectors, _ = make_clusters(600)
    found = find_neighbours(vectors, np.random.default_rng(0))
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1)[:, :NEIGHBOURS]
    recall = np.mean([len({*a} & {*b}) / NEIGHBOURS for a, b in zip(found, nearest, strict=True)])
    assert recall > 0.8
    assert not (found == np.arange(600)[:, None]).any()


def test_similar_songs_are_near_each_other_on_the_map() -> None:
    vectors, cluster = make_clusters(400)
    positions = project(vectors)
    assert positions.shape == (400, 2)
    assert np.abs(positions).max() <= 1
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (cluster[distances.argmin(axis=1)] == cluster).mean() > 0.95
    assert (project(vectors) == positions).all()


def test_small_and_equal_sets_of_vectors_have_positions() -> None:
    assert np.isfinite(project(make_clusters(3)[0])).all()
    assert np.isfinite(project(np.ones((50, 4), dtype=np.float32) / 2)).all()
    assert np.isfinite(project(np.ones((20, 1), dtype=np.float32))).all()


def test_a_child_process_computes_the_overview_once_and_keeps_it(
    explored: EmbeddedStore, content: Content, tmp_path: Path
) -> None:
    location = StoreLocation(explored.path, None, explored.current() or "")
    task = OverviewTask(location, tmp_path)
    task.start()
    deadline = time.monotonic() + TIMEOUT_S
    while task.overview is None and not task.problem and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not task.problem
    assert task.overview is not None
    with_vector = [
        song
        for song, vector in zip(content.songs, content.vectors, strict=True)
        if vector is not None
    ]
    assert task.overview.song_ids == [str(song.song_id) for song in with_vector]
    assert task.overview.names[0] == "Beyoncé - Déjà Vu"
    assert sorted(task.overview.fields["genre"].values) == ["jazz", "pop", "rock"]
    assert task.overview.fields["year"] == FieldValues([], 1950, 2018)
    task._process.join()
    again = OverviewTask(location, tmp_path)
    again.start()
    assert again.overview is not None
    assert (again.overview.positions == task.overview.positions).all()


def test_a_release_that_is_gone_is_reported(explored: EmbeddedStore, tmp_path: Path) -> None:
    task = OverviewTask(StoreLocation(explored.path, None, "20000101T000000000-00000000"), tmp_path)
    task.start()
    deadline = time.monotonic() + TIMEOUT_S
    while not task.problem and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "20000101T000000000-00000000" in task.problem


def test_a_damaged_file_counts_as_missing(explored: EmbeddedStore, tmp_path: Path) -> None:
    path = tmp_path / "overview.npz"
    assert load(path) is None
    path.write_bytes(b"PK\x03\x04 not an archive")
    assert load(path) is None
    save(compute(StoreLocation(explored.path, None, explored.current() or "")), path)
    assert load(path) is not None
    path.write_bytes(path.read_bytes()[:-200])
    assert load(path) is None
