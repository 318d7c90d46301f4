"""Scores of a real release on held-out playlists, checked against a reckoning of their own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.errors import MismatchError
from catalog.reporting import Silent
from evaluation import harness
from evaluation.main import main
from evaluation.protocol import load_queries
from evaluation.systems import LastSong, Popularity, Release
from service.recommend import Mode

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Road


@pytest.fixture(scope="module")
def result(road: Road) -> harness.Evaluation:
    return harness.evaluate(road.home.open(), road.work, "validation", Silent())


def score_of(result: harness.Evaluation, part: str) -> harness.Score:
    return next(score for score in result.scores if part in score.system)


def test_every_playlist_of_the_split_is_a_query(road: Road, result: harness.Evaluation) -> None:
    held_out = pq.read_table(road.work / "split" / "validation.parquet")
    assert (
        result.playlists == held_out.num_rows == road.outcome.stages["split"].summary["validation"]
    )


def test_query_and_label_make_the_whole_playlist(road: Road) -> None:
    manifest = road.outcome.manifest
    queries = load_queries(road.work, "test", manifest)
    songs = pq.read_table(road.work / "prepare" / "songs.parquet")["song_id"].to_pylist()
    playlists = pq.read_table(road.work / "split" / "test.parquet").to_pylist()
    assert [query.playlist_id for query in queries] == [row["playlist_id"] for row in playlists]
    for query, row in zip(queries, playlists, strict=True):
        asked = [seed.song_id for seed in (*query.seeds, query.label)]
        assert asked == [UUID(songs[song]) for song in row["songs"]]


def test_the_release_scores_what_numpy_says(road: Road, result: harness.Evaluation) -> None:
    """The same figures by exact search in the work folder's vectors, without the service."""
    songs = pq.read_table(road.work / "prepare" / "songs.parquet")["song_id"].to_pylist()
    table = pq.read_table(road.work / "train" / "vectors.parquet")
    row_of = {UUID(songs[song]): row for row, song in enumerate(table["song"].to_pylist())}
    vectors = np.array(table["vector"].to_pylist(), dtype=np.float32)
    ranks = []
    for query in load_queries(road.work, "validation", road.outcome.manifest):
        known = [
            (age, row_of[seed.song_id])
            for age, seed in enumerate(reversed(query.seeds))
            if seed.song_id in row_of
        ]
        label = row_of.get(query.label.song_id or UUID(int=0))
        if label is None or not known:
            ranks.append(0)
            continue
        asked = sum(0.9**age * vectors[row] for age, row in known)
        scores = vectors @ (asked / np.linalg.norm(asked))
        scores[[row for _, row in known]] = -2
        place = 1 + int((scores > scores[label]).sum())
        ranks.append(place if place <= harness.DEPTH else 0)
    expected = harness.score("", np.array(ranks), 0)
    measured = score_of(result, "Word2Vec")
    assert measured.hit_rate_at_10 == pytest.approx(expected.hit_rate_at_10, abs=0.011)
    assert measured.hit_rate_at_100 == pytest.approx(expected.hit_rate_at_100, abs=0.011)
    assert measured.mrr_at_10 == pytest.approx(expected.mrr_at_10, abs=0.011)


def test_popularity_recommends_the_most_played_but_not_the_query(road: Road) -> None:
    release = road.home.open()
    queries = load_queries(road.work, "test", release.manifest)
    longest = max(len(query.seeds) for query in queries)
    everything = asyncio.run(release.popular(1_000))
    counts = [point.song.playlists for point in everything]
    assert counts == sorted(counts, reverse=True)
    for query, ranking in zip(
        queries, Popularity(release, longest, 10).recommend(queries, 10), strict=True
    ):
        own = {seed.song_id for seed in query.seeds}
        assert (
            ranking
            == [point.song.song_id for point in everything if point.song.song_id not in own][:10]
        )


def test_the_tutorials_way_leaves_out_the_last_song_alone(road: Road) -> None:
    queries = load_queries(road.work, "test", road.outcome.manifest)
    system = LastSong(road.work, seed=0)
    for query, ranking in zip(queries, system.recommend(queries, 1_000), strict=True):
        assert query.seeds[-1].song_id not in ranking
        assert len(set(ranking)) == len(ranking)


def test_the_release_never_recommends_the_query(road: Road) -> None:
    queries = load_queries(road.work, "test", road.outcome.manifest)
    for query, ranking in zip(
        queries, Release(road.home.open(), Mode.HYBRID).recommend(queries, 20), strict=True
    ):
        assert not {seed.song_id for seed in query.seeds} & set(ranking)


def test_a_label_outside_the_catalog_is_a_miss_that_counts(road: Road) -> None:
    queries = load_queries(road.work, "test", road.outcome.manifest)
    unknown = replace(queries[0].label, song_id=UUID(int=7))
    ranks = harness.ranks_of(
        Release(road.home.open(), Mode.HYBRID), [replace(queries[0], label=unknown), *queries[1:3]]
    )
    assert ranks[0] == 0
    assert len(ranks) == 3


def test_a_release_of_other_playlists_is_refused(road: Road, tmp_path: Path) -> None:
    manifest = road.outcome.manifest
    other = replace(manifest, origin=replace(manifest.origin, split_fingerprint="0" * 64))
    with pytest.raises(MismatchError, match="was not made from the playlists"):
        load_queries(road.work, "test", other)
    with pytest.raises(MismatchError, match="ingest run"):
        load_queries(tmp_path, "test", manifest)


def test_evaluate_prints_a_table_and_json(road: Road) -> None:
    where = ["--home", str(road.home.path), "--work", str(road.work), "--quiet"]
    table = CliRunner().invoke(main, ["evaluate", *where])
    assert table.exit_code == 0, table.output
    for word in ("HR@10", "HR@100", "MRR@10", "popularity", "tutorial", "Word2Vec"):
        assert word in table.output
    printed = CliRunner().invoke(main, ["evaluate", *where, "--json", "--split", "validation"])
    document = json.loads(printed.output)
    assert document["release"] == road.outcome.manifest.release
    assert document["split"] == "validation"
    assert {score["system"] for score in document["scores"]} == {
        "popularity",
        "tutorial (last song)",
        "Word2Vec",
        "co-occurrence",
        "hybrid (nextsong)",
    }
    for score in document["scores"]:
        assert 0 <= score["mrr_at_10"] <= score["hit_rate_at_10"] <= score["hit_rate_at_100"] <= 1
