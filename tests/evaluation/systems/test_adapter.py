"""Custom recommenders, evaluated in the same way as a release."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import InputError
from evaluation.baselines.popular import Popularity
from evaluation.judge import harness
from evaluation.protocol.cases import HeldOutCases, load_cases
from evaluation.protocol.dataset import load_dataset
from evaluation.systems.adapter import AdaptedSystem
from evaluation.systems.location import StoreLocation
from tests.support.road import ROOT, linked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from catalog.model import Filter
    from evaluation.protocol.dataset import Dataset
    from service.recommend.seeds import Seed
    from tests.support.road import Road

DOCS = ROOT / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def dataset(road: Road) -> Dataset:
    return load_dataset(road.work, road.outcome.manifest.origin.parameters)


@pytest.fixture(scope="module")
def cases(road: Road) -> HeldOutCases:
    return load_cases(road.work, "validation", "last", 0).take(np.arange(40))


class Popular:
    """Recommends the most popular songs, given in one of the forms that `SongReference` allows."""

    def __init__(self, dataset: Dataset, form: str) -> None:
        self._songs = [dataset.songs.seed(int(song)) for song in dataset.songs.by_popularity[:300]]
        self._form = form

    def recommend(self, seeds: Sequence[Seed], limit: int, where: Filter) -> list[Any]:
        assert where.exclude_songs == {seed.song_id for seed in seeds if seed.song_id}
        songs = [song for song in self._songs if song.song_id not in where.exclude_songs][:limit]
        if self._form == "names":
            return [(song.artist, song.title) for song in songs]
        return [str(song.song_id) if self._form == "text" else song.song_id for song in songs]


@pytest.mark.parametrize("form", ["names", "text", "ids"])
def test_songs_are_named_by_id_text_or_names(
    dataset: Dataset, cases: HeldOutCases, form: str
) -> None:
    system = AdaptedSystem("mine", Popular(dataset, form), dataset)
    rankings = np.concatenate(list(system.recommend(cases, 20)))
    assert (rankings == np.concatenate(list(Popularity(dataset).recommend(cases, 20)))).all()


def test_invalid_rankings_of_a_recommender_are_refused(
    dataset: Dataset, cases: HeldOutCases
) -> None:
    class Wrong:
        def __init__(self, *answer: Any) -> None:
            self._answer = answer

        def recommend(self, seeds: Sequence[Seed], limit: int, where: Filter) -> Any:
            return self._answer

    for answer, message in (
        (("no id",), "recommends 'no id', which is neither"),
        ((("A", "B", "C"),), "neither a song id nor"),
        ((7,), "recommends 7"),
        ((("A", "B"),) * 3, "recommends 3 songs, more than the limit of 2"),
    ):
        with pytest.raises(InputError, match=message):
            list(AdaptedSystem("mine", Wrong(*answer), dataset).recommend(cases, 2))
    # An unknown song keeps its rank and is a miss.
    rankings = next(iter(AdaptedSystem("mine", Wrong(("No", "Body")), dataset).recommend(cases, 2)))
    assert (rankings == -1).all()


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


def test_a_users_recommender_is_scored_and_compared(
    road: Road, dataset: Dataset, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    plan = harness.Plan(modes=("auto",), baselines=("popularity",), behaviours=False, recall=False)
    evaluation = harness.evaluate(
        StoreLocation(home),
        road.work,
        plan,
        SilentReporter(),
        own={"mine": Popular(dataset, "ids")},
    )
    assert [system.key for system in evaluation.systems] == ["nextsong", "mine", "popularity"]
    mine, popular = evaluation.systems[1:]
    assert mine.figures["hr@100"] == popular.figures["hr@100"]
    assert evaluation.comparison("hr@100", "mine")
