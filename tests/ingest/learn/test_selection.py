"""How a release answers where nothing is asked for: chosen by validation playlists, and said."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.progress import SilentReporter
from ingest.learn import retrieval, selection
from ingest.learn.reranker import Places
from ingest.learn.selection import WEIGHTS, Choice, choose, read_strengths, weights_of
from ingest.parameters import Parameters
from tests.support.pipeline_runs import lane

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.learn.cases import Cases
    from tests.support.pipeline_runs import Lane
    from tests.support.road import Road

__all__ = ["lane"]  # a fixture

AUTO = Parameters(min_count=2)


@pytest.fixture(scope="module")
def places(road: Road) -> Places:
    work = road.work
    return Places(
        songs=work / "prepare" / "songs.parquet",
        train=work / "split" / "train.parquet",
        validation=work / "split" / "validation.parquet",
        strengths=work / "count" / "cooccurrence.parquet",
        vectors=work / "train" / "vectors.parquet",
    )


def with_vectors(places: Places, path: Path, vectors: np.ndarray) -> Places:
    """The same places with these unit vectors, for all songs."""
    table = pa.table(
        {
            "song": pa.array(range(len(vectors)), pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(
                vectors.astype(np.float32).ravel(), vectors.shape[1]
            ),
        }
    )
    pq.write_table(table, path)
    return replace(places, vectors=path)


def test_weak_vectors_are_left_out_and_good_ones_taken(places: Places, tmp_path: Path) -> None:
    total = pq.read_metadata(places.songs).num_rows
    random = np.random.default_rng(0)
    noise = random.normal(size=(total, 16))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    weak = with_vectors(places, tmp_path / "weak.parquet", noise)
    found = choose(weak, Choice((0.6, 2.0), 1), AUTO, SilentReporter())
    assert found["mode"] == "cooccurrence"
    gain = found["figures"]["auto, cooccurrence gain"]
    assert gain > found["figures"]["auto, hybrid at 0.6 gain"]
    assert gain > found["figures"]["auto, hybrid at 2 gain"]

    # Vectors that have seen the validation playlists, beside hardly any co-occurrence.
    held_out = retrieval.read_playlists(places.validation)
    seen = np.full((total, len(held_out)), 1e-3)
    for at, songs in enumerate(held_out):
        seen[songs, at] = 1
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    good = with_vectors(places, tmp_path / "good.parquet", seen)
    strengths = pq.read_table(places.strengths)
    pq.write_table(strengths.take(np.arange(0, len(strengths), 50)), tmp_path / "few.parquet")
    good = replace(good, strengths=tmp_path / "few.parquet")
    found = choose(good, Choice(WEIGHTS, 1), AUTO, SilentReporter())
    assert (found["mode"], found["dense_weight"]) == ("hybrid", WEIGHTS[-1])
    assert f"hybrid at {WEIGHTS[-1]:g}" in found["text"]


def test_the_figures_are_those_of_the_answers(places: Places) -> None:
    found = choose(places, Choice((0.2,), 1), AUTO, SilentReporter())
    held_out = retrieval.read_playlists(places.validation)
    cases = selection._cases(held_out, 10**9, AUTO.seed)
    assert found["queries"] == len(cases.labels) > 3 * len(held_out)
    total = pq.read_metadata(places.songs).num_rows
    arrays = selection._arrays(
        places, Choice((0.2,), 1), *retrieval.read_vectors(places.vectors), cases
    )
    whole = retrieval.read_strengths(places.strengths, total)
    ranks = [
        retrieval.rank_in(songs[:100], int(label))
        for (songs, _), label in zip(
            retrieval.predicted(replace(arrays, strengths=whole), cases.queries, 0.95, 200),
            cases.labels,
            strict=True,
        )
    ]
    hits = np.mean([0 < rank <= 100 for rank in ranks])
    assert found["figures"]["auto, cooccurrence HR@100"] == pytest.approx(hits)
    assert found["figures"].keys() >= {"auto, hybrid HR@10", "auto, hybrid at 0.2 gain"}


def test_only_the_strengths_of_the_seeds_are_read(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(places.strengths)
    path = tmp_path / "cooccurrence.parquet"
    pq.write_table(table, path, row_group_size=500)
    read = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda file, at, **more: (read.append(at), real(file, at, **more))[1],
    )
    needed = np.zeros(pq.read_metadata(places.songs).num_rows, bool)
    needed[[3, 7]] = True
    found = read_strengths(path, needed)
    whole = retrieval.read_strengths(places.strengths, len(needed))
    assert (found[[3, 7]] != whole[[3, 7]]).nnz == 0
    assert found.nnz == whole[[3, 7]].nnz > 0
    assert len(read) < pq.ParquetFile(path).num_row_groups / 2


def test_many_songs_are_asked_about_fewer_places(places: Places) -> None:
    held_out = [np.arange(20, dtype=np.int32)] * 3_000
    assert len(selection._cases(held_out, 10**9, 0).labels) == 4_000
    few = selection._cases(held_out, 10, 0)
    assert len(few.labels) == len(few.queries) == 1_000
    assert set(few.labels.tolist()) == {19}  # the last songs come first


def test_a_ranker_must_find_more(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.write_text("trees")
    monkeypatch.setattr(selection, "Reranker", lambda _text: SimpleNamespace(fields=[]))
    without = choose(places, Choice(WEIGHTS, 1), AUTO, SilentReporter())["mode"]
    assert without != "ranked"
    for first, mode in ((True, "ranked"), (False, without)):

        def ranks(_model: object, _arrays: object, cases: Cases, first: bool = first) -> Any:
            return np.full(len(cases.labels), int(first))

        monkeypatch.setattr(selection, "ranked_ranks", ranks)
        found = choose(places, Choice(WEIGHTS, 1, model), AUTO, SilentReporter())
        assert found["mode"] == mode
        assert found["figures"]["auto, ranked HR@10"] == float(first)


def test_what_was_asked_for_is_not_measured(places: Places) -> None:
    found = choose(places, Choice(WEIGHTS, 1), replace(AUTO, mode="dense"), SilentReporter())
    assert found == {
        "mode": "dense",
        "dense_weight": AUTO.dense_weight,
        "figures": {},
        "text": "dense, as asked for",
    }
    assert weights_of(AUTO, ()) == WEIGHTS
    assert weights_of(AUTO, {"dense_weight"}) == (AUTO.dense_weight,)
    assert weights_of(replace(AUTO, dense_weight=0.7), ()) == (0.7,)


def test_without_validation_playlists_nothing_is_claimed(places: Places, tmp_path: Path) -> None:
    none = tmp_path / "none.parquet"
    pq.write_table(pq.read_table(places.validation).slice(0, 0), none)
    found = choose(replace(places, validation=none), Choice(WEIGHTS, 1), AUTO, SilentReporter())
    assert (found["mode"], found["dense_weight"], found["figures"]) == (
        "hybrid",
        AUTO.dense_weight,
        {},
    )
    assert "unmeasured" in found["text"]


def test_the_manifest_has_the_choice_and_its_figures(lane: Lane) -> None:
    outcome = lane.run(mode="auto")
    summary = outcome.stages["choose"].summary
    parameters = outcome.manifest.origin.parameters
    assert parameters["mode"] == summary["mode"] in ("hybrid", "cooccurrence")
    assert parameters["dense_weight"] == summary["dense_weight"] in WEIGHTS
    assert summary["figures"].items() <= outcome.manifest.validation.items()
    assert "auto, cooccurrence HR@100" in outcome.manifest.validation
    # What is given is not tried against others.
    given = lane.run(mode="auto", dense_weight=0.7)
    assert given.manifest.origin.parameters["dense_weight"] == 0.7
