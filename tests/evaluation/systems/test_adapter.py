"""Recommenders of one's own, evaluated beside the release."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from catalog.errors import InputError
from catalog.progress import SilentReporter
from evaluation.baselines.popular import Popularity
from evaluation.judge import harness
from evaluation.protocol import dataset as datas
from evaluation.protocol.cases import Queries, load_queries
from evaluation.systems.adapter import Adapted
from evaluation.systems.location import Place
from tests.support.road import ROOT, linked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from catalog.model import Filter
    from evaluation.protocol.dataset import Data
    from service.recommend.seeds import Seed
    from tests.support.road import Road

DOCS = ROOT / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def data(road: Road) -> Data:
    return datas.load(road.work, road.outcome.manifest.origin.parameters)


@pytest.fixture(scope="module")
def queries(road: Road) -> Queries:
    return load_queries(road.work, "validation", "last", 0).take(np.arange(40))


class Popular:
    """The most popular songs, named in this way or that."""

    def __init__(self, data: Data, way: str) -> None:
        self._songs = [data.songs.seed(int(song)) for song in data.songs.by_popularity[:300]]
        self._way = way

    def recommend(self, seeds: Sequence[Seed], limit: int, where: Filter) -> list[Any]:
        assert where.exclude_songs == {seed.song_id for seed in seeds if seed.song_id}
        left = [song for song in self._songs if song.song_id not in where.exclude_songs][:limit]
        if self._way == "names":
            return [(song.artist, song.title) for song in left]
        return [str(song.song_id) if self._way == "text" else song.song_id for song in left]


@pytest.mark.parametrize("way", ["names", "text", "ids"])
def test_songs_may_be_named_in_several_ways(data: Data, queries: Queries, way: str) -> None:
    adapted = Adapted("mine", Popular(data, way), data)
    (found, *_) = (np.concatenate(list(one.recommend(queries, 20))) for one in [adapted])
    assert (found == np.concatenate(list(Popularity(data).recommend(queries, 20)))).all()


def test_what_names_no_song_is_said(data: Data, queries: Queries) -> None:
    class Wrong:
        def __init__(self, *answer: Any) -> None:
            self._answer = answer

        def recommend(self, seeds: Sequence[Seed], limit: int, where: Filter) -> Any:
            return self._answer

    for answer, said in (
        (("no id",), "recommends 'no id', which is neither"),
        ((("A", "B", "C"),), "neither a song id nor"),
        ((7,), "recommends 7"),
        ((("A", "B"),) * 3, "recommends 3 songs, and was asked for 2"),
    ):
        with pytest.raises(InputError, match=said):
            list(Adapted("mine", Wrong(*answer), data).recommend(queries, 2))
    # A song that nobody knows keeps its place, and is a miss.
    found = next(iter(Adapted("mine", Wrong(("No", "Body")), data).recommend(queries, 2)))
    assert (found == -1).all()


def test_the_example_of_the_documentation_works(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / ".nextsong"
    shutil.copytree(road.home.path, home, copy_function=linked)
    shutil.copytree(road.work, home / "work", copy_function=linked)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(DOCS), "exec"), {})
    shown = capsys.readouterr().out
    assert "mine" in shown
    assert "nextsong" in shown


def test_ones_own_is_scored_and_compared(road: Road, data: Data, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    plan = harness.Plan(modes=("auto",), baselines=("popularity",), behaviours=False, recall=False)
    found = harness.evaluate(
        Place(home), road.work, plan, SilentReporter(), own={"mine": Popular(data, "ids")}
    )
    assert [system.key for system in found.systems] == ["nextsong", "mine", "popularity"]
    mine, popular = found.systems[1:]
    assert mine.figures["hr@100"] == popular.figures["hr@100"]
    assert found.comparison("hr@100", "mine")
