"""Selection of the retrieval mode and parameters on validation playlists."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from catalog.console.progress import SilentReporter
from catalog.recency import Recency
from ingest.learn import retrieval, selection
from ingest.learn.arrays import (
    ContentField,
    ReleaseArrays,
    StageFiles,
    encode_keys,
    read_arrays,
    read_playlists,
    read_weights,
)
from ingest.learn.cases import Cases, last_song_cases
from ingest.learn.selection import (
    DENSE_WEIGHTS,
    SelectionInputs,
    sample_validation_cases,
    select_parameters,
)
from ingest.parameters import Parameters
from tests.support.road import QUICK

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.learn.selection import ChooseSummary
    from tests.support.pipeline_runs import Lane
    from tests.support.road import Road

AUTO = Parameters(min_count=2, order="played")


@pytest.fixture(scope="module")
def files(road: Road) -> StageFiles:
    work = road.work
    return StageFiles(
        songs=work / "prepare" / "songs.parquet",
        train=work / "split" / "train.parquet",
        validation=work / "split" / "validation.parquet",
        cooccurrence=work / "count" / "cooccurrence.parquet",
        vectors=work / "train" / "vectors.parquet",
    )


@pytest.fixture(scope="module")
def scale(road: Road) -> float:
    return road.outcome.stages.count.summary.scale


def select(
    files: StageFiles, scale: float, given: tuple[str, ...] = (), **changes: Any
) -> ChooseSummary:
    parameters = replace(AUTO, **changes)
    inputs = SelectionInputs(parameters, parameters.fixed(given), scale, catalog_min=1)
    return select_parameters(files, inputs, SilentReporter())


def with_vectors(files: StageFiles, path: Path, vectors: np.ndarray) -> StageFiles:
    """Return the same files, but with these vectors, which have unit length, as song vectors."""
    table = pa.table(
        {
            "song": pa.array(range(len(vectors)), pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(
                vectors.astype(np.float32).ravel(), vectors.shape[1]
            ),
        }
    )
    pq.write_table(table, path)
    return replace(files, vectors=path)


def test_weak_vectors_are_left_out_and_good_ones_used(
    files: StageFiles, scale: float, tmp_path: Path
) -> None:
    total = pq.read_metadata(files.songs).num_rows
    random = np.random.default_rng(0)
    noise = random.normal(size=(total, 16))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    weak = with_vectors(files, tmp_path / "weak.parquet", noise)
    result = select(weak, scale)
    assert result.selected.mode == "cooccurrence"
    gains = {t.value: t.gain for t in result.trials if t.parameter == "dense_weight"}
    assert [*gains] == [0.0, *DENSE_WEIGHTS]
    assert gains[0.0] > gains[DENSE_WEIGHTS[-1]]
    assert gains[0.0] == result.figures["auto, cooccurrence gain"]

    # Vectors with one dimension per validation playlist, and few co-occurrence weights.
    held_out = read_playlists(files.validation)
    seen = np.full((total, len(held_out)), 1e-3)
    for at, songs in enumerate(held_out):
        seen[songs, at] = 1
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    good = with_vectors(files, tmp_path / "good.parquet", seen)
    strengths = pq.read_table(files.cooccurrence)
    pq.write_table(strengths.take(np.arange(0, len(strengths), 50)), tmp_path / "few.parquet")
    good = replace(good, cooccurrence=tmp_path / "few.parquet")
    result = select(good, scale, content_shares={"artist": 0.0})
    assert (result.selected.mode, result.selected.dense_weight) == ("hybrid", DENSE_WEIGHTS[-1])
    assert "dense weight 0.2" in result.text
    # A given mode is kept.
    assert select(good, scale, mode="cooccurrence").selected.mode == "cooccurrence"
    assert select(good, scale, mode="dense").selected.mode == "dense"
    assert select(weak, scale, mode="hybrid").selected.mode == "hybrid"


def test_the_figures_are_those_of_the_rankings(files: StageFiles, scale: float) -> None:
    result = select(files, scale, mode="hybrid")
    chosen = replace(AUTO, **result.selected.to_parameters())
    cases = sample_validation_cases(read_playlists(files.validation), 10**9, AUTO.seed)
    assert result.cases == len(cases.labels) > 3 * len(read_playlists(files.validation))
    everything = [np.arange(pq.read_metadata(files.songs).num_rows, dtype=np.int32)]
    arrays = read_arrays(files, everything, scale, 1).with_song_exponent(chosen.song_exponent)
    for mode in ("cooccurrence", "dense", "hybrid"):
        own = replace(chosen, mode=mode)
        if mode == "cooccurrence":
            rankings = retrieval.rank_by_cooccurrence(
                arrays, cases.queries, Recency(own.recency), 100, own.content_shares
            )
            ranks = retrieval.ranks_of_labels((songs for songs, _ in rankings), cases.labels)
        elif mode == "dense":
            rankings = retrieval.rank_by_similarity(
                arrays, cases.queries, Recency(own.dense_recency), 100
            )
            ranks = retrieval.ranks_of_labels((songs for songs, _ in rankings), cases.labels)
        else:
            ranks = retrieval.find_ranks_in_mode(arrays, cases, own, 100)
        for k in (10, 100):
            share = np.mean((ranks > 0) & (ranks <= k))
            assert result.figures[f"auto, {mode} HR@{k}"] == pytest.approx(share, abs=0.006)


def test_the_selection_is_reproducible(files: StageFiles, scale: float) -> None:
    assert select(files, scale) == select(files, scale)


def test_given_values_are_kept(files: StageFiles, scale: float) -> None:
    result = select(files, scale, given=("recency",), content_shares={"artist": 0.7})
    tried = {trial.parameter for trial in result.trials}
    assert tried == {"song_exponent", "dense_recency", "dense_weight"}
    assert result.selected.recency == AUTO.recency
    assert result.selected.content_shares == {"artist": 0.7}
    weight = select(files, scale, given=("dense_weight",))
    assert {t.value for t in weight.trials if t.parameter == "dense_weight"} == {
        0.0,
        AUTO.dense_weight,
    }
    assert weight.selected.dense_weight == AUTO.dense_weight


def test_shares_of_keyword_fields_are_selected(
    files: StageFiles, scale: float, tmp_path: Path
) -> None:
    """One field identifies the playlist. The other field has too few values to be useful."""
    held_out = read_playlists(files.validation)
    table = pq.read_table(files.songs)
    of_song = dict.fromkeys(range(len(table)), "none")
    for number, songs in enumerate(held_out):
        of_song |= dict.fromkeys(songs.tolist(), f"of playlist {number}")
    mood = [of_song[song] for song in table["song"].to_pylist()]
    table = table.append_column("mood", pa.array(mood))
    table = table.append_column("kind", pa.array(["song"] * len(table)))
    pq.write_table(table, tmp_path / "songs.parquet")
    with_fields = replace(files, songs=tmp_path / "songs.parquet", fields=["kind", "mood"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "MAX_CONTENT_SCORES", 200_000)
        result = select(with_fields, scale)
    shares = result.selected.content_shares
    assert shares.keys() == {"artist", "kind", "mood"}
    assert shares["mood"] >= 0.4
    assert (shares["kind"], result.untried) == (0.0, ["kind"])
    assert {t.parameter for t in result.trials} >= {"share of artist", "share of mood"}
    assert "share of mood " in result.text
    plain = select(files, scale)
    assert result.figures["auto, cooccurrence gain"] > plain.figures["auto, cooccurrence gain"]


def test_only_the_weights_of_the_seeds_are_read(
    files: StageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(files.cooccurrence)
    path = tmp_path / "cooccurrence.parquet"
    pq.write_table(table, path, row_group_size=500)
    read = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda file, at, **more: (read.append(at), real(file, at, **more))[1],
    )
    needed = np.zeros(pq.read_metadata(files.songs).num_rows, bool)
    needed[[3, 7]] = True
    result = read_weights(path, needed)
    whole = read_weights(files.cooccurrence, np.ones(len(needed), bool))
    assert (result[[3, 7]] != whole[[3, 7]]).nnz == 0
    assert result.nnz == whole[[3, 7]].nnz > 0
    assert len(read) < pq.ParquetFile(path).num_row_groups / 2


def test_many_songs_or_long_playlists_mean_fewer_cases() -> None:
    held_out = [np.arange(20, dtype=np.int32)] * 3_000
    assert len(sample_validation_cases(held_out, 10**9, 0).labels) == 4_000
    few = sample_validation_cases(held_out, 10, 0)
    assert len(few.labels) == len(few.queries) == 1_000
    assert set(few.labels.tolist()) == {19}  # last-song cases come first
    assert len({*few.playlists.tolist()}) == 1_000
    long = sample_validation_cases([np.arange(150, dtype=np.int32)] * 1_000, 10**9, 0)
    assert 1_000 < len(long.labels) < 4_000
    assert sum(map(len, long.queries)) <= selection.MAX_SEEDS
    # If there are few playlists, more cases are made from each.
    assert len(sample_validation_cases(held_out[:50], 10**9, 0).labels) == 50 * 13


@pytest.mark.parametrize("count", [0, 5])
def test_with_too_few_validation_cases_nothing_is_measured(
    files: StageFiles, scale: float, tmp_path: Path, count: int
) -> None:
    few = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(files.validation).slice(0, count), few)
    result = select(replace(files, validation=few), scale)
    assert result.selected.to_parameters() == {
        "mode": "cooccurrence",
        **{name: getattr(AUTO, name) for name in ("recency", "dense_recency", "song_exponent")},
        "content_shares": dict(AUTO.content_shares),
        "dense_weight": AUTO.dense_weight,
    }
    assert (result.trials, result.figures, result.cases) == ([], {}, 0)
    assert "unmeasured: " in result.text
    assert select(replace(files, validation=few), scale, mode="hybrid").selected.mode == "hybrid"


def test_the_manifest_and_the_report_have_the_selection(lane: Lane) -> None:
    outcome = lane.run(mode="auto")
    summary = outcome.stages.choose.summary
    parameters = outcome.manifest.origin.parameters
    assert summary.selected.to_parameters().items() <= parameters.items()
    assert parameters["mode"] in ("hybrid", "cooccurrence")
    assert parameters["cooccurrence_scale"] == outcome.stages.count.summary.scale > 0
    assert parameters["collided_keys"] == 0
    assert len(parameters["selection"]) == len(summary.trials) > 15
    assert {"parameter", "value", "gain", "hit_rate_10"} < parameters["selection"][0].keys()
    assert summary.figures.items() <= outcome.manifest.validation.items()
    assert "auto, simplest gain" in outcome.manifest.validation
    given = lane.run(mode="auto", dense_weight=0.7, recency=0.3)
    assert given.manifest.origin.parameters["dense_weight"] == 0.7
    assert given.manifest.origin.parameters["recency"] == 0.3


def arrays_by_hand() -> ReleaseArrays:
    """Return arrays of songs 0 to 4.

    Song 0 predicts songs 1 and 2. Song 3 is not in the catalog, and shares an artist with song 4.
    """
    weights = csr_array(([0.5, 0.25], ([0, 0], [1, 2])), shape=(5, 5), dtype=np.float32)
    keys = csr_array(([1.0, 1.0, 1.0], ([1, 3, 4], [0, 1, 1])), shape=(5, 2))
    entries = csr_array(([0.4, 0.3], ([0, 1], [1, 4])), shape=(2, 5))
    return ReleaseArrays(
        weights,
        np.array([0, 2], np.int32),
        np.array([[1, 0], [0.6, 0.8]], np.float32),
        np.array([4, 4, 1, 0, 1]),
        scale=2.0,
        content=(ContentField("artist", keys, entries),),
    )


def test_scores_by_hand() -> None:
    arrays, query = arrays_by_hand(), [np.array([0, 3], np.int32)]
    recency, shares = Recency(1.0), {"artist": 0.5}
    ((songs, scores),) = retrieval.rank_by_cooccurrence(arrays, query, recency, 10, shares)
    # Song 0 has age 1, because song 3 follows it. Song 3 counts only through its artist, with
    # weight 1.
    assert songs.tolist() == [1, 4, 2]
    np.testing.assert_allclose(scores, [0.5 / 2, 0.5 * 0.3, 0.25 / 2], rtol=1e-6)
    ((_, dense),) = retrieval.rank_for_fusion(
        arrays, query, Parameters(recency=1.0, content_shares=shares), 10
    )
    # Cosine of song 2 with the only seed that has a vector, times the scale and the seed weight.
    assert dense[0].tolist() == [2]
    assert dense[1] == pytest.approx([0.6 * 2.0 * 0.5])
    # The weights for both songs are divided by plays ** 0.5; content entries are not.
    scaled = arrays.with_song_exponent(0.5)
    ((_, scores),) = retrieval.rank_by_cooccurrence(scaled, query, recency, 10, shares)
    np.testing.assert_allclose(sorted(scores), [0.25 / 2, 0.5 / 2 / 2, 0.5 * 0.3], rtol=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.5]), st.sampled_from([0.0, 0.8]))
def test_counted_ranks_are_those_of_the_sorted_rankings(
    seed: int, power: float, share: float
) -> None:
    random = np.random.default_rng(seed)
    total = 25
    weights = csr_array(random.random((total, total)) * (random.random((total, total)) < 0.3))
    of_artist = random.integers(6, size=total)
    keys = csr_array((np.ones(total), (np.arange(total), of_artist)), shape=(total, 6))
    playlists = random.integers(0, 5, size=total)
    entries = csr_array(keys.T * (playlists > 0) * random.random(total))
    vectors = random.normal(size=(9, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    arrays = ReleaseArrays(
        weights,
        np.sort(random.permutation(total)[:9]).astype(np.int32),
        vectors,
        playlists,
        content=(ContentField("artist", keys, entries),),
    )
    lists = [random.permutation(total)[: random.integers(2, 8)] for _ in range(12)]
    cases: Cases = last_song_cases([songs.astype(np.int32) for songs in lists])
    shares = {"artist": share}
    rankings = retrieval.rank_by_cooccurrence(arrays, cases.queries, Recency(power), 99, shares)
    expected = retrieval.ranks_of_labels((songs for songs, _ in rankings), cases.labels)
    query_vectors = retrieval.build_query_vectors(arrays, cases.queries, Recency(power), shares)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "MAX_SCORES", 60)
        counted = retrieval.find_ranks_by_cooccurrence(arrays, cases, query_vectors)
    np.testing.assert_array_equal(counted, expected)
    rankings = retrieval.rank_by_similarity(arrays, cases.queries, Recency(power), 99)
    expected = retrieval.ranks_of_labels((songs for songs, _ in rankings), cases.labels)
    counted = retrieval.find_ranks_by_similarity(arrays, cases, Recency(power))
    np.testing.assert_array_equal(counted, expected)


def test_keys_of_texts_and_of_lists() -> None:
    texts = encode_keys(pa.array(["a", "", None, "b", "a"]))
    assert [texts.names[code] for code in texts.codes] == ["a", "b", "a"]
    assert texts.rows.tolist() == [0, 3, 4]
    lists = encode_keys(pa.array([["b", "a", "b"], [], None, ["a", ""]]))
    assert [lists.names[code] for code in lists.codes] == ["b", "a", "a"]
    assert lists.rows.tolist() == [0, 0, 3]


def test_parameters_that_differ_from_their_defaults_count_as_given() -> None:
    assert QUICK.fixed(()) == frozenset()
    assert replace(QUICK, dense_weight=0.7).fixed(["epochs"]) == {"dense_weight"}
    assert QUICK.fixed(["recency", "window"]) == {"recency"}
    assert QUICK.with_order("none").fixed(()) == {"recency", "dense_recency"}
