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

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from catalog.errors import CorruptReleaseError, InputError, MissingLibraryError
from catalog.manifest import StoredReranker
from catalog.model import Filter
from catalog.reranker import (
    CHANNELS,
    FEATURES,
    Reranker,
    SongTraits,
    feature_names,
    features,
    load_reranker,
    merge_candidates,
    pack,
    unpack,
)
from ingest import pipeline, report
from ingest.learn import reranker, retrieval
from ingest.learn.arrays import ReleaseArrays, StageFiles, read_arrays, read_playlists
from ingest.learn.cases import sample_cases, sample_cases_with_last
from ingest.learn.rank_metrics import RankComparison, compare_ranks, finds_fewer
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

NAN = math.nan
SHARES = {"artist": 0.4, "album": 0.1}


def test_candidates_of_all_channels_are_merged() -> None:
    none = (np.zeros(0, np.int64), np.zeros(0))
    songs, scores = merge_candidates(
        [
            (np.array([7, 3]), np.array([2.0, 1.0])),
            none,
            (np.array([3, 5]), np.array([0.5, 0.25])),
        ]
    )
    assert songs.tolist() == [7, 3, 5]
    np.testing.assert_array_equal(scores, [[2.0, 1.0, NAN], [NAN, NAN, NAN], [NAN, 0.5, 0.25]])
    assert merge_candidates([none, none])[1].shape == (2, 0)


def test_features_by_hand() -> None:
    scores = np.full((len(CHANNELS), 3), NAN)
    scores[0] = [4.0, NAN, 1.0]
    scores[3] = [0.5, -0.25, NAN]
    songs = SongTraits(np.array([7, 3, 1]), np.array([[0, 1, 2], [4, -1, 5]]))
    seeds = SongTraits(np.array([1, 3, 7, 3]), np.array([[2, 0, 1, 1], [4, 4, -1, 5]]))
    table = features(scores, np.array([0.5, NAN, -0.25]), songs, seeds)
    names = feature_names(["album"])
    column = {name: table[:, place] for place, name in enumerate(names)}
    assert table.shape == (3, len(FEATURES) + 2)
    assert names[: len(FEATURES)] == list(FEATURES)
    popularity = np.log([8, 4, 2])
    of_seeds = np.log([2, 4, 8, 4])
    expected: dict[str, Any] = {
        "recent_score": [1.0, NAN, 0.25],
        "recent_rank": [0, NAN, 1],
        "whole_rank": [NAN, NAN, NAN],
        "dense_score": [1.0, -0.5, NAN],
        "dense_rank": [0, 1, NAN],
        "recent_for_its_popularity": [
            -popularity[0] / 2,
            NAN,
            math.log(0.25) - popularity[2] / 2,
        ],
        "found_by": [2, 1, 1],
        "popularity": popularity,
        "popularity_beside_seeds": popularity - of_seeds.mean(),
        "popularity_beside_last": popularity - math.log(4),
        "popularity_of_seeds": [of_seeds.mean()] * 3,
        "seeds": [4, 4, 4],
        "artist_share": [1 / 4, 2 / 4, 1 / 4],
        "artist_among_last_3": [1, 2, 0],
        "artist_of_last": [0, 1, 0],
        "similar_to_recent": [0.5, NAN, -0.25],
        "album_share": [2 / 4, 0, 1 / 4],
        "album_of_last": [0, 0, 1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(column[name], values, err_msg=name)


def test_features_of_no_candidate() -> None:
    none = SongTraits(np.zeros(0, np.int64), np.zeros((1, 0), np.int64))
    seeds = SongTraits(np.array([1]), np.array([[0]]))
    table = features(np.zeros((len(CHANNELS), 0)), np.zeros(0), none, seeds)
    assert table.shape == (0, len(FEATURES))


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
    hybrid = np.array([0, 50, 3, 100, 0] * 40)
    assert not compare_ranks(hybrid, hybrid, "hybrid").better
    better = compare_ranks(np.array([10, 20, 1, 60, 0] * 40), hybrid, "hybrid")
    assert better.better
    assert better.hit_rates["ranked HR@10"] == pytest.approx(2 / 5)
    assert better.hit_rates["hybrid HR@100"] == pytest.approx(3 / 5)
    assert not compare_ranks(hybrid, np.array([10, 20, 1, 60, 0] * 40), "hybrid").better
    one_in_many = hybrid.copy()
    one_in_many[0] = 1
    assert not compare_ranks(one_in_many, hybrid, "hybrid").better
    assert not compare_ranks(hybrid[:0], hybrid[:0], "hybrid").better


def test_a_better_reranker_must_not_lose_last_songs() -> None:
    rates = {"ranked HR@10": 0.2, "hybrid HR@10": 0.1, "ranked HR@100": 0.4, "hybrid HR@100": 0.3}
    gain = RankComparison(better=True, fewer=False, hit_rates=rates)
    better, figures = reranker.combine_comparisons(gain, replace(gain, better=False))
    assert better
    assert figures["cuts, ranked HR@10"] == 0.2
    assert figures["last songs, hybrid HR@100"] == 0.3
    assert not reranker.combine_comparisons(gain, replace(gain, fewer=True))[0]
    assert not reranker.combine_comparisons(replace(gain, better=False), gain)[0]


def test_fewer_hits_need_more_than_chance() -> None:
    result = np.array([5, 0, 50, 0] * 25)
    assert not finds_fewer(result, result)
    assert not finds_fewer(result[:0], result[:0])
    for lost in (result == 5, result == 50):  # hits within 10 songs, then hits within 100 songs
        none, some = result.copy(), result.copy()
        none[lost] = 0
        some[np.flatnonzero(lost)[:2]] = 0
        some[1] = result[lost][0]
        assert finds_fewer(none, result)
        assert not finds_fewer(some, result)
        assert not finds_fewer(result, none)


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
        ranker=True,
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
    assert len(np.unique(arrays.groups[1])) > 50
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


def test_offline_features_equal_those_of_the_service(work: Path, release: EmbeddedRelease) -> None:
    arrays, ids = arrays_of(work, release), ids_of(work)
    model = Reranker((finished_stage(work, "rank").folder / reranker.MODEL).read_text())
    assert model.fields == ["album"]
    queries = seeds_of(work)[:40]
    playlists = read_playlists(finished_stage(work, "split").folder / "validation.parquet")[:40]
    asks = [Query(query, 10) for query in queries]
    answers = asyncio.run(recommend_many(release, asks))
    differences = []
    for answer, (songs, table) in zip(
        answers, reranker.candidate_features(arrays, [some[:-1] for some in playlists]), strict=True
    ):
        if answer.mode is not Mode.RANKED:
            continue
        chances = np.sort(model.score(table))[::-1][:10]
        known = [hit.score for hit in answer.songs]
        differences.append(np.abs(np.array(known) - chances).max())
        assert len(songs) >= len(known)
    assert len(differences) >= 30
    # Candidates with equal scores may be in a different order. Their ranks are features of the
    # re-ranker, so its scores can differ too.
    assert np.mean(np.array(differences) < 1e-6) >= 0.9
    assert {str(hit.song.song_id) for answer in answers for hit in answer.songs} <= set(ids)


def test_a_release_with_a_reranker_uses_it(work: Path, release: EmbeddedRelease) -> None:
    assert get_default_mode(release.manifest) is Mode.RANKED
    assert release.manifest.origin.parameters["ranker"] is True
    names = release.manifest.validation.keys()
    assert "cuts, ranked HR@100" in names
    assert {"cuts, hybrid HR@10", "cuts, cooccurrence HR@10"} & names
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


def test_the_report_of_the_run_compares_the_reranker(release: EmbeddedRelease, work: Path) -> None:
    (line,) = (
        line
        for line in report.describe_last_run(report.load_last_run(work)).splitlines()
        if line.startswith("rank ")
    )
    assert "re-ranker of 200 trees" in line
    assert release.manifest.validation["cuts, ranked HR@100"] > 0


def test_the_limit_is_respected(release: EmbeddedRelease, work: Path) -> None:
    (query, *_) = seeds_of(work)
    answer = asyncio.run(recommend(release, Query(query, 500)))
    hybrid = asyncio.run(recommend(release, Query(query, 500, mode=Mode.HYBRID)))
    assert len(answer.songs) >= min(500, len(hybrid.songs))


def test_unknown_songs_and_artists_get_recommendations(release: EmbeddedRelease) -> None:
    (known, *_) = asyncio.run(release.popular(1))
    artist = asyncio.run(recommend(release, Query([Seed(artist=known.song.artist, title="?")])))
    assert artist.mode is Mode.COOCCURRENCE  # only the artist is known, which has no vector
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
        with pytest.raises(CorruptReleaseError, match="no model of LightGBM"):
            load_reranker(StoredReranker(*pack(model)))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "old_name"), [("artist_of_last", "of_another_version"), ("recent_score", "near_score")]
)
def test_a_reranker_of_other_features_is_not_used(caplog: Any, name: str, old_name: str) -> None:
    # In releases of format 2, channels had other names, because seed weights decayed exponentially.
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


def test_the_mode_ranked_needs_a_reranker() -> None:
    with pytest.raises(InputError, match="--ranker"):
        Parameters(mode="ranked")
    assert Parameters(mode="ranked", ranker=True).mode == "ranked"


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
