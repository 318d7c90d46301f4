"""The re-ranker: features calculated by hand, training, and agreement with the service."""

from __future__ import annotations

import asyncio
import math
import shutil
import sys
from dataclasses import fields, replace
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_array

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from catalog.errors import CorruptReleaseError, InputError, MissingLibraryError, PlaylistError
from catalog.manifest import StoredReranker
from catalog.model import Filter
from catalog.recency import Recency
from catalog.reranker import (
    CANDIDATES,
    FEATURES,
    Candidates,
    Keys,
    Reranker,
    build_features,
    feature_names,
    load_reranker,
    pack,
    unpack,
)
from ingest import pipeline, report
from ingest.learn import reranker, retrieval
from ingest.learn.arrays import ReleaseArrays, StageFiles, read_arrays, read_playlists
from ingest.learn.cases import sample_cases, sample_cases_with_last
from ingest.learn.rank_metrics import compare_ranks
from ingest.learn.selection import SelectionInputs
from ingest.parameters import Parameters
from ingest.sources.options import ReadOptions
from ingest.sources.values.payload import PayloadColumn
from ingest.stages import finished_stage
from service.recommend.engine import recommend, recommend_many
from service.recommend.plan import get_default_mode
from service.recommend.query import Mode, Query
from service.recommend.seeds import Seed
from tests.support.road import linked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.embedded.release import EmbeddedRelease
    from tests.support.road import Road

SHARES = {"artist": 0.4, "album": 0.1}


def test_features_by_hand() -> None:
    # Candidate 0 has the artists 0 and 1, candidate 1 has artist 2, and candidate 2 has artist 1.
    artists = Keys(
        candidates=np.array([[1, 1, 0], [0, 0, 1], [0, 1, 0]], bool),
        # Artist 1 twice, then no artist, then artists 0 and 1.
        seeds=np.array([[0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]], bool),
    )
    albums = Keys(
        candidates=np.array([[1, 0], [0, 0], [0, 1]], bool),
        seeds=np.array([[0, 1], [1, 0], [1, 0], [0, 1]], bool),
    )
    candidates = Candidates(
        scores=np.array([[4.0, 2.0, 1.0], [0.5, 0.0, 0.25], [0.0, 0.0, 0.0]]),
        plays=np.array([7, 3, 1]),
        seed_plays=np.array([1, 3, 7]),
        keys=[artists, albums],
    )
    names = feature_names(["album"])
    assert names[: len(FEATURES)] == list(FEATURES)
    table = build_features(candidates)
    assert table.shape == (3, len(names))
    popularity, of_seeds = np.log([8, 4, 2]), np.log([2, 4, 8])
    by_recency = (1 / 4 + 1 / 3 + 1) / (1 / 4 + 1 / 3 + 1 / 2 + 1)
    expected: dict[str, Any] = {
        "score": [1.0, 0.5, 0.25],
        "flat_score": [1.0, 0.0, 0.5],
        "steep_score": [0.0, 0.0, 0.0],
        "popularity_beside_seeds": popularity - of_seeds.mean(),
        "popularity_beside_last": popularity - math.log(8),
        "seeds": [4, 4, 4],
        "artist_share": [3 / 4, 0, 3 / 4],
        "artist_share_by_recency": [by_recency, 0, by_recency],
        "artist_of_last": [1, 0, 1],
        "candidates_of_artist": [2, 1, 2],
        "artist_repeated": [1 / 3] * 3,
        "album_share": [2 / 4, 0, 2 / 4],
        "album_of_last": [0, 0, 1],
    }
    assert [*expected] == names
    for number, (name, values) in enumerate(expected.items()):
        np.testing.assert_allclose(table[:, number], values, err_msg=name)


def test_candidates_and_seeds_share_keys() -> None:
    random = np.random.default_rng(0)
    for keys in (1, 5, 40):
        candidates, seeds = random.random((30, keys)) < 0.1, random.random((20, keys)) < 0.1
        expected = (candidates[:, None, :] & seeds[None, :, :]).any(axis=2)
        np.testing.assert_array_equal(Keys(candidates, seeds).shared(), expected)


def test_candidates_are_scored_with_several_recencies() -> None:
    # Seed 1 predicts the songs 3 and 4, and seed 2 predicts song 4.
    weights = csr_array(([0.5, 0.25, 2.0], ([1, 1, 2], [3, 4, 4])), shape=(5, 5))
    seed_weights = np.array([[1.0, 1.0], [0.25, 1.0]])
    scores = reranker.score_songs(weights, np.array([1, 2]), seed_weights, np.array([4, 0, 3]))
    np.testing.assert_allclose(scores, [[2.25, 0, 0.5], [2.0625, 0, 0.125]])


def test_cases_have_at_least_one_seed() -> None:
    playlists = [np.array([5, 6], np.int32), np.arange(20, dtype=np.int32)]
    cases = sample_cases(playlists, np.random.default_rng(0), 4)
    assert len(cases.queries) == 1 + 4
    assert (cases.queries[0].tolist(), cases.labels[0]) == ([5], 6)
    for query, label in zip(cases.queries[1:], cases.labels[1:], strict=True):
        assert query.tolist() == list(range(label))
    assert len({*cases.labels[1:].tolist()}) == 4


def test_last_song_cases_come_first_and_once() -> None:
    playlists = [np.array([5, 6], np.int32), np.arange(20, dtype=np.int32)]
    cases = sample_cases_with_last(playlists, np.random.default_rng(0), 4)
    assert [query.tolist() for query in cases.queries[:2]] == [[5], [*range(19)]]
    assert cases.labels[:2].tolist() == [6, 19]
    assert len(cases.queries) == len(cases.labels) == 2 + 4
    assert all(label < 19 for label in cases.labels[2:])


def test_a_better_ranking_needs_more_than_chance() -> None:
    selected, playlists = np.array([0, 50, 3, 100, 0] * 40), np.arange(200)
    better = np.array([10, 20, 1, 60, 0] * 40)
    assert compare_ranks(better, selected, playlists)
    assert not compare_ranks(selected, selected, playlists)
    assert not compare_ranks(selected, better, playlists)
    assert not compare_ranks(selected[:0], selected[:0], playlists[:0])
    better_once = selected.copy()
    better_once[0] = 1
    assert not compare_ranks(better_once, selected, playlists)
    # Five cases of one playlist are not independent.
    assert not compare_ranks(better[:5], selected[:5], np.zeros(5, np.int64))


def test_a_better_reranker_must_not_lose_last_songs() -> None:
    # The first case of each of the 40 playlists is its last-song case.
    playlists = np.concatenate([np.arange(40), np.repeat(np.arange(40), 4)])
    selected = np.concatenate([np.full(40, 5), np.full(160, 50)])
    better = np.concatenate([np.full(40, 5), np.full(160, 2)])
    assert compare_ranks(better, selected, playlists)
    few_lost, many_lost = better.copy(), better.copy()
    few_lost[0] = 6
    many_lost[:20] = 6
    assert compare_ranks(few_lost, selected, playlists)
    assert not compare_ranks(many_lost, selected, playlists)


@pytest.fixture(scope="module")
def work(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("ranked") / "work"
    shutil.copytree(road.work, work, copy_function=linked)
    return work


@pytest.fixture(scope="module")
def home(road: Road, work: Path) -> EmbeddedStore:
    home = EmbeddedStore(work.parent / "home")
    parameters = replace(
        road.parameters,
        mode="ranked",
        recency=0.5,
        dense_recency=0.25,
        song_exponent=0.15,
        content_shares=SHARES,
        dense_weight=0.2,
    )
    how = ReadOptions(payload=(PayloadColumn("album", "album"),))
    pipeline.run(
        [road.file], home, work, parameters, SilentReporter(), pipeline.RunOptions(reading=how)
    )
    return home


@pytest.fixture(scope="module")
def release(home: EmbeddedStore) -> Iterator[EmbeddedRelease]:
    release = home.open()
    yield release
    release.close()


def parameters_of(release: EmbeddedRelease) -> Parameters:
    """Return the parameters with which the release was published."""
    known = {field.name for field in fields(Parameters)}
    values = release.manifest.origin.parameters
    return Parameters(**{name: value for name, value in values.items() if name in known})


def arrays_of(work: Path, release: EmbeddedRelease) -> ReleaseArrays:
    folders = {
        name: finished_stage(work, name).folder for name in ("prepare", "split", "count", "train")
    }
    files = StageFiles(
        songs=folders["prepare"] / "songs.parquet",
        train=folders["split"] / "train.parquet",
        validation=folders["split"] / "validation.parquet",
        cooccurrence=folders["count"] / "cooccurrence.parquet",
        vectors=folders["train"] / "vectors.parquet",
        fields=["album"],
    )
    everything = [np.arange(pq.read_metadata(files.songs).num_rows, dtype=np.int32)]
    parameters = release.manifest.origin.parameters
    arrays = read_arrays(files, everything, parameters["cooccurrence_scale"], 1)
    return arrays.with_song_exponent(parameters["song_exponent"])


def ids_of(work: Path) -> list[str]:
    folder = finished_stage(work, "prepare").folder
    ids: list[str] = pq.read_table(folder / "songs.parquet")["song_id"].to_pylist()
    return ids


def seeds_of(work: Path) -> list[list[Seed]]:
    """Return the songs of each validation playlist, except the last song, as seeds."""
    ids = [UUID(song_id) for song_id in ids_of(work)]
    path = finished_stage(work, "split").folder / "validation.parquet"
    return [[Seed(ids[song]) for song in songs[:-1]] for songs in read_playlists(path)]


@pytest.mark.parametrize("mode", [Mode.COOCCURRENCE, Mode.DENSE, Mode.HYBRID])
def test_offline_rankings_equal_those_of_the_engine(
    work: Path, release: EmbeddedRelease, mode: Mode
) -> None:
    arrays, ids, parameters = arrays_of(work, release), ids_of(work), parameters_of(release)
    assert parameters.content_shares == SHARES
    assert parameters.song_exponent > 0
    path = finished_stage(work, "split").folder / "validation.parquet"
    queries = [songs[:-1] for songs in read_playlists(path)]
    rankings = [
        (sparse[0], dense[0], retrieval.fuse(sparse, dense, parameters.dense_weight, 20))
        for sparse, dense in retrieval.rank_for_fusion(arrays, queries, parameters, 20)
    ]
    place = [Mode.COOCCURRENCE, Mode.DENSE, Mode.HYBRID].index(mode)
    answers = asyncio.run(
        recommend_many(release, [Query(seeds, 20, mode=mode) for seeds in seeds_of(work)])
    )
    same = total = 0
    for answer, offline in zip(answers, rankings, strict=True):
        if answer.mode is mode:
            expected = {ids[song] for song in offline[place][:20]}
            same += len(expected & {str(hit.song.song_id) for hit in answer.songs})
            total += len(answer.songs)
    assert total > 100
    assert same / total > 0.985  # songs with equal scores may be in a different order


def test_offline_scores_equal_those_of_the_service(work: Path, release: EmbeddedRelease) -> None:
    arrays, parameters = arrays_of(work, release), parameters_of(release)
    model = Reranker((finished_stage(work, "rank").folder / reranker.MODEL).read_text())
    assert model.fields == ["album"]
    playlists = read_playlists(finished_stage(work, "split").folder / "validation.parquet")[:40]
    queries = [Query(seeds, 10) for seeds in seeds_of(work)[:40]]
    answers = asyncio.run(recommend_many(release, queries))
    shares = parameters.content_shares
    rankings = retrieval.rank_by_cooccurrence(
        arrays, [songs[:-1] for songs in playlists], Recency(parameters.recency), CANDIDATES, shares
    )
    differences = []
    for answer, playlist, (songs, scores) in zip(answers, playlists, rankings, strict=True):
        if answer.mode is not Mode.RANKED:
            continue
        candidates = reranker.describe_candidates(arrays, playlist[:-1], songs, scores)
        expected = np.sort(model.score(build_features(candidates)))[::-1][:10]
        differences.append(np.abs([hit.score for hit in answer.songs] - expected).max())
    assert len(differences) >= 30
    # If songs have equal scores, engine and service may choose different candidates among them.
    assert np.mean(np.array(differences) < 1e-6) >= 0.9


def test_a_release_with_a_reranker_uses_it(work: Path, release: EmbeddedRelease) -> None:
    assert get_default_mode(release.manifest) is Mode.RANKED
    trials = release.manifest.origin.parameters["selection"]
    (without, own) = (trial for trial in trials if trial["parameter"] == "re-ranking")
    assert (without["value"], without["is_selected"]) == (0, False)
    assert (own["value"], own["is_selected"]) == (1, True)
    assert own["gain"] == release.manifest.validation["auto, ranked gain"] > 0
    (query, *_) = seeds_of(work)
    answer = asyncio.run(
        recommend(release, Query(query, 12, max_per_artist=2, diversity=0.2, explain=True))
    )
    assert answer.mode is Mode.RANKED
    assert len(answer.songs) == 12
    assert {seed.song_id for seed in query}.isdisjoint(hit.song.song_id for hit in answer.songs)
    assert all(0 < hit.score < 1 for hit in answer.songs)
    assert any(answer.reasons)
    ranked = asyncio.run(recommend(release, Query(query, 30)))
    scores = [hit.score for hit in ranked.songs]
    assert scores == sorted(scores, reverse=True)
    artist = ranked.songs[0].song.artist_key
    where = Filter(include_artists=frozenset([artist]))
    own = asyncio.run(recommend(release, Query(query, 30, where)))
    assert {hit.song.artist_key for hit in own.songs} == {artist}


def test_the_report_of_the_run_compares_the_reranker(work: Path, home: EmbeddedStore) -> None:
    assert home.current()
    lines = report.describe_last_run(report.load_last_run(work)).splitlines()
    (line,) = (line for line in lines if line.startswith("rank "))
    assert "re-ranker of 100 trees" in line
    assert any("re-ranking, gain of each value" in line for line in lines)


def test_the_limit_is_respected(release: EmbeddedRelease, work: Path) -> None:
    (query, *_) = seeds_of(work)
    answer = asyncio.run(recommend(release, Query(query, 500)))
    unranked = asyncio.run(recommend(release, Query(query, 500, mode=Mode.COOCCURRENCE)))
    assert len(answer.songs) == len(unranked.songs) > CANDIDATES


def test_unknown_songs_and_artists_get_recommendations(release: EmbeddedRelease) -> None:
    (known, *_) = asyncio.run(release.popular(1))
    artist = asyncio.run(recommend(release, Query([Seed(artist=known.song.artist, title="?")])))
    assert artist.mode is Mode.COOCCURRENCE  # the song is unknown, and artists have no vectors
    assert len(artist.songs) == 10
    stranger = asyncio.run(recommend(release, Query([Seed(artist="Nobody at all", title="?")])))
    assert (stranger.mode, len(stranger.songs)) == (None, 10)


@pytest.mark.parametrize("why", ["not installed", "libgomp.so.1: cannot open shared object file"])
def test_without_lightgbm_hybrid_search_is_used_and_reported(
    home: EmbeddedStore, work: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, why: str
) -> None:
    class Missing(MetaPathFinder):
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "lightgbm":
                raise OSError(why) if "libgomp" in why else ImportError(why)

    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    load_reranker.cache_clear()
    release = home.open()
    (query, *_) = seeds_of(work)
    answers = [asyncio.run(recommend(release, Query(query))) for _ in range(3)]
    release.close()
    load_reranker.cache_clear()
    assert {answer.mode for answer in answers} == {Mode.HYBRID}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"LightGBM, which cannot be loaded ({why})" in caplog.text
    with pytest.raises(MissingLibraryError, match="libgomp1"):
        pipeline.run([], home, work, Parameters(ranker=True), SilentReporter())


def test_an_invalid_model_is_a_damaged_release(capfd: pytest.CaptureFixture[str]) -> None:
    for model in ("", "tree\nversion=v4\n" * 50):
        with pytest.raises(CorruptReleaseError, match="is not a LightGBM model"):
            load_reranker(StoredReranker(*pack(model)))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "old_name"), [("artist_of_last", "of_another_version"), ("flat_score", "whole_score")]
)
def test_a_reranker_of_other_features_is_not_used(caplog: Any, name: str, old_name: str) -> None:
    import lightgbm

    random = np.random.default_rng(0)
    names = [old_name if own == name else own for own in feature_names()]
    assert old_name in names
    labels = random.random(200) < 0.5
    data = lightgbm.Dataset(random.random((200, len(names))), labels, feature_name=names)
    model = lightgbm.train({"verbose": -1}, data, 2).model_to_string()
    load_reranker.cache_clear()
    assert load_reranker(StoredReranker(*pack(model))) is None
    assert "another version" in caplog.text
    load_reranker.cache_clear()


def test_a_release_without_a_reranker_uses_hybrid_search(road: Road) -> None:
    release = road.home.open()
    (query, *_) = seeds_of(road.work)
    answer = asyncio.run(recommend(release, Query(query, mode=Mode.RANKED)))
    release.close()
    assert answer.mode is Mode.HYBRID


def test_few_playlists_train_no_reranker_by_default(road: Road, tmp_path: Path) -> None:
    inputs = SelectionInputs(replace(road.parameters, mode="cooccurrence"), (), 1.0, 1)
    files = road.outcome.stages.files
    summary = reranker.train_reranker(files, tmp_path, inputs, "auto", SilentReporter())
    assert summary.text.startswith("no re-ranker: ")
    assert summary.text.endswith("training playlists are fewer than 500")
    assert (summary.examples, summary.is_used, [*tmp_path.iterdir()]) == (0, False, [])


def test_without_an_example_no_reranker_is_trained(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reranker, "ENOUGH_PLAYLISTS", 1)
    monkeypatch.setattr(reranker, "MAX_SEEDS", 0)
    inputs = SelectionInputs(replace(road.parameters, mode="cooccurrence"), (), 1.0, 1)
    files = road.outcome.stages.files
    summary = reranker.train_reranker(files, tmp_path, inputs, "auto", SilentReporter())
    assert (summary.examples, [*tmp_path.iterdir()]) == (0, [])
    needed = replace(inputs, parameters=replace(inputs.parameters, ranker=True))
    with pytest.raises(PlaylistError, match="no re-ranker can be trained"):
        reranker.train_reranker(files, tmp_path, needed, "auto", SilentReporter())


def test_the_mode_ranked_needs_a_reranker() -> None:
    with pytest.raises(InputError, match="--no-ranker"):
        Parameters(mode="ranked", ranker=False)
    assert Parameters(mode="ranked").needs_ranker
    assert Parameters(ranker=True, mode="dense").needs_ranker
    assert Parameters().allows_ranker
    assert not Parameters().needs_ranker
    assert not Parameters(mode="dense").allows_ranker
    assert not Parameters(ranker=False).allows_ranker


def test_a_model_is_packed_and_damage_is_detected() -> None:
    stored = StoredReranker(*pack("tree\nversion=v4\n" * 50))
    assert unpack(stored) == "tree\nversion=v4\n" * 50
    for bad in (
        replace(stored, sha256="0" * 64),
        replace(stored, model=stored.model[:-5]),
        replace(stored, model="\N{SNOWMAN}"),
    ):
        with pytest.raises(CorruptReleaseError, match="ranker"):
            unpack(bad)
