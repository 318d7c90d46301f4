"""Model selection: the default mode of a release, chosen on validation playlists."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from ingest.learn import retrieval, selection
from ingest.learn.reranker import StageFiles
from ingest.learn.selection import (
    DENSE_WEIGHTS,
    Alternatives,
    ChooseSummary,
    dense_weights_to_try,
    select_mode,
)
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.learn.cases import Cases
    from tests.support.pipeline_runs import Lane
    from tests.support.road import Road


AUTO = Parameters(min_count=2)


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


def with_vectors(files: StageFiles, path: Path, vectors: np.ndarray) -> StageFiles:
    """The same files with these unit vectors, for all songs."""
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


def test_weak_vectors_are_left_out_and_good_ones_taken(files: StageFiles, tmp_path: Path) -> None:
    total = pq.read_metadata(files.songs).num_rows
    random = np.random.default_rng(0)
    noise = random.normal(size=(total, 16))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    weak = with_vectors(files, tmp_path / "weak.parquet", noise)
    result = select_mode(weak, Alternatives((0.6, 2.0), 1), AUTO, SilentReporter())
    assert result.mode == "cooccurrence"
    gain = result.figures["auto, cooccurrence gain"]
    assert gain > result.figures["auto, hybrid at 0.6 gain"]
    assert gain > result.figures["auto, hybrid at 2 gain"]

    # Vectors with one dimension per validation playlist, and only 2% of the co-occurrence weights.
    held_out = retrieval.read_playlists(files.validation)
    seen = np.full((total, len(held_out)), 1e-3)
    for at, songs in enumerate(held_out):
        seen[songs, at] = 1
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    good = with_vectors(files, tmp_path / "good.parquet", seen)
    strengths = pq.read_table(files.cooccurrence)
    pq.write_table(strengths.take(np.arange(0, len(strengths), 50)), tmp_path / "few.parquet")
    good = replace(good, cooccurrence=tmp_path / "few.parquet")
    result = select_mode(good, Alternatives(DENSE_WEIGHTS, 1), AUTO, SilentReporter())
    assert (result.mode, result.dense_weight) == ("hybrid", DENSE_WEIGHTS[-1])
    assert f"hybrid at {DENSE_WEIGHTS[-1]:g}" in result.text


def test_the_figures_are_those_of_the_rankings(files: StageFiles) -> None:
    result = select_mode(files, Alternatives((0.2,), 1), AUTO, SilentReporter())
    held_out = retrieval.read_playlists(files.validation)
    cases, arrays = selection._load(files, Alternatives((0.2,), 1), held_out, AUTO.seed)
    assert result.queries == len(cases.labels) > 3 * len(held_out)
    total = pq.read_metadata(files.songs).num_rows
    whole = retrieval.read_weights(files.cooccurrence, np.ones(total, bool))
    rankings = retrieval.rank_by_cooccurrence(
        replace(arrays, weights=whole), cases.queries, 0.95, 200
    )
    ranks = retrieval.ranks_of_labels((songs[:100] for songs, _ in rankings), cases.labels)
    hits = np.mean([0 < rank <= 100 for rank in ranks])
    assert result.figures["auto, cooccurrence HR@100"] == pytest.approx(hits)
    assert result.figures.keys() >= {"auto, hybrid HR@10", "auto, hybrid at 0.2 gain"}


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
    result = retrieval.read_weights(path, needed)
    whole = retrieval.read_weights(files.cooccurrence, np.ones(len(needed), bool))
    assert (result[[3, 7]] != whole[[3, 7]]).nnz == 0
    assert result.nnz == whole[[3, 7]].nnz > 0
    assert len(read) < pq.ParquetFile(path).num_row_groups / 2


def test_many_songs_mean_fewer_cases(files: StageFiles) -> None:
    held_out = [np.arange(20, dtype=np.int32)] * 3_000
    assert len(selection._sample(held_out, 10**9, 0).labels) == 4_000
    few = selection._sample(held_out, 10, 0)
    assert len(few.labels) == len(few.queries) == 1_000
    assert set(few.labels.tolist()) == {19}  # the last songs come first


def test_a_selected_reranker_must_have_a_larger_gain(
    files: StageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.write_text("trees")
    monkeypatch.setattr(selection, "Reranker", lambda _text: SimpleNamespace(fields=[]))
    without = select_mode(files, Alternatives(DENSE_WEIGHTS, 1), AUTO, SilentReporter()).mode
    assert without != "ranked"
    for first, mode in ((True, "ranked"), (False, without)):

        def ranks(_model: object, _arrays: object, cases: Cases, first: bool = first) -> Any:
            return np.full(len(cases.labels), int(first))

        monkeypatch.setattr(selection, "rerank_cases", ranks)
        result = select_mode(files, Alternatives(DENSE_WEIGHTS, 1, model), AUTO, SilentReporter())
        assert result.mode == mode
        assert result.figures["auto, ranked HR@10"] == float(first)


def test_a_given_mode_is_not_measured(files: StageFiles) -> None:
    result = select_mode(
        files, Alternatives(DENSE_WEIGHTS, 1), replace(AUTO, mode="dense"), SilentReporter()
    )
    assert result == ChooseSummary("dense, as requested", "dense", AUTO.dense_weight, {})
    assert dense_weights_to_try(AUTO, ()) == DENSE_WEIGHTS
    assert dense_weights_to_try(AUTO, {"dense_weight"}) == (AUTO.dense_weight,)
    assert dense_weights_to_try(replace(AUTO, dense_weight=0.7), ()) == (0.7,)


def test_without_validation_playlists_nothing_is_measured(
    files: StageFiles, tmp_path: Path
) -> None:
    none = tmp_path / "none.parquet"
    pq.write_table(pq.read_table(files.validation).slice(0, 0), none)
    result = select_mode(
        replace(files, validation=none), Alternatives(DENSE_WEIGHTS, 1), AUTO, SilentReporter()
    )
    assert (result.mode, result.dense_weight, result.figures) == (
        "hybrid",
        AUTO.dense_weight,
        {},
    )
    assert "unmeasured" in result.text


def test_the_manifest_has_the_choice_and_its_figures(lane: Lane) -> None:
    outcome = lane.run(mode="auto")
    summary = outcome.stages.choose.summary
    parameters = outcome.manifest.origin.parameters
    assert parameters["mode"] == summary.mode in ("hybrid", "cooccurrence")
    assert parameters["dense_weight"] == summary.dense_weight in DENSE_WEIGHTS
    assert summary.figures.items() <= outcome.manifest.validation.items()
    assert "auto, cooccurrence HR@100" in outcome.manifest.validation
    # What is given is not tried against others.
    given = lane.run(mode="auto", dense_weight=0.7)
    assert given.manifest.origin.parameters["dense_weight"] == 0.7
