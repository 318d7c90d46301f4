"""Tuning: what is tried, that it goes on where it stopped, and that its file makes a release."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from catalog.embedded import EmbeddedHome
from catalog.errors import FileError, InputError
from catalog.reporting import Silent
from conftest import QUICK, linked
from evaluation import tune_space
from evaluation.main import main
from evaluation.tune import Budget, Places, study_of, tune
from ingest import parameter_files
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Road


@pytest.fixture(scope="module")
def work(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("tune") / "work"
    shutil.copytree(road.work, work, copy_function=linked)
    return work


@pytest.fixture(scope="module")
def outcome(work: Path) -> dict[str, Any]:
    return tune(work, work.parent / "study", QUICK, Budget(trials=9), Silent())


class Chooser:
    """Stands in for an optuna trial: takes the first or the last of what there is."""

    def __init__(self, last: bool) -> None:
        self._place = -1 if last else 0

    def suggest_float(self, _name: str, low: float, high: float, *, log: bool) -> float:
        assert low > 0 or not log
        return (low, high)[self._place]

    def suggest_categorical(self, _name: str, values: Any) -> Any:
        return values[self._place]


@pytest.mark.parametrize("phase", tune_space.PHASES)
@pytest.mark.parametrize("last", [False, True])
def test_every_choice_makes_parameters(phase: str, last: bool) -> None:
    chosen = tune_space.suggest(Chooser(last), phase, ordered=True)
    tune_space.with_chosen(Parameters(), chosen)
    assert chosen.keys() == tune_space.SPACE[phase].keys()


@pytest.mark.parametrize("phase", tune_space.PHASES)
def test_the_defaults_can_be_chosen(phase: str) -> None:
    start = tune_space.start_of(Parameters(), phase, ordered=True)
    for name, value in start.items():
        values = tune_space.SPACE[phase][name]
        if len(values) == 2 and isinstance(values[0], float):
            assert values[0] <= value <= values[1]
        else:
            assert value in values


def test_without_an_order_nothing_of_it_is_tried() -> None:
    tried = [
        name
        for phase in tune_space.PHASES
        for name in tune_space.suggest(Chooser(last=False), phase, ordered=False)
    ]
    assert not {"distance_power", "backward", "query_decay", "cooccurrence_decay"} & {*tried}
    assert {"seed_exponent", "window", "dense_weight"} <= {*tried}


def test_queries_are_of_validation_alone(work: Path) -> None:
    places = Places.of(work, work.parent / "other")
    held = tune_space.load(places.songs, places.train, places.validation, QUICK)
    others = tune_space.load(places.songs, places.train, places.test, QUICK)
    assert len(held.lasts.labels) != len(others.lasts.labels)
    assert len(held.cases.labels) > 3 * len(held.lasts.labels)
    assert all(len(query) for query in held.cases.queries)
    assert held.playlists.sum() == sum(map(len, held.train))


def test_what_was_chosen_is_no_worse_on_validation(outcome: dict[str, Any]) -> None:
    figures = outcome["validation"]
    assert figures.keys() == {
        "tuned HR@10",
        "tuned HR@100",
        "start HR@10",
        "start HR@100",
    }
    assert outcome["test"].keys() == {"tuned HR@10", "tuned HR@100"}
    assert all(0 <= value <= 1 for value in figures.values())
    assert all(count >= 2 for count in outcome["trials"].values())
    Parameters(**outcome["parameters"])


def test_the_first_trial_is_the_start(work: Path, outcome: dict[str, Any]) -> None:
    assert outcome
    study = study_of(Places.of(work, work.parent / "study"), "count")
    first = study.get_trials()[0]
    assert first.params == tune_space.start_of(QUICK, "count", ordered=True)
    assert study.best_value >= first.value


def test_a_study_goes_on_where_it_stopped(work: Path, outcome: dict[str, Any]) -> None:
    again = tune(work, work.parent / "study", QUICK, Budget(trials=9), Silent())
    assert again["trials"] == outcome["trials"]
    assert again["parameters"] == outcome["parameters"]


def test_the_command_writes_a_file_that_makes_a_release(road: Road, work: Path) -> None:
    home = work.parent / "home"
    home.mkdir()
    arguments = ["--home", str(home), "--work", str(work), "--study", str(work.parent / "study")]
    result = CliRunner().invoke(main, ["tune", *arguments, "--trials", "9", "--quiet"])
    assert result.exit_code == 0, result.output
    report = (work.parent / "study" / "report.html").read_text()
    assert report.count("<svg") >= 6
    assert "Co-occurrence" in report
    file = work.parent / "study" / "tuned.json"
    run = ["ingest", "run", str(road.file), "--home", str(home), "--params", str(file)]
    result = CliRunner().invoke(main, [*run, "--epochs", "2", "--dimensions", "8", "--quiet"])
    assert result.exit_code == 0, result.output
    release = EmbeddedHome(home).open()
    release.close()
    chosen = json.loads(file.read_text())
    parameters = release.manifest.origin.parameters
    assert parameters["dimensions"] == 8  # what is said on the command line goes first
    for name, value in chosen["parameters"].items():
        assert name == "dimensions" or parameters[name] == value
    assert release.manifest.validation == chosen["validation"]


def test_a_parameter_file_may_be_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[parameters]\nwindow = 9\nbackward = 1\nskip_gram = false\norder = 'none'\n")
    chosen = parameter_files.read(path)
    assert chosen.parameters == {
        "window": 9,
        "backward": 1,
        "skip_gram": False,
        "order": "none",
    }
    assert chosen.validation == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("[]", "no table"),
        ('{"parameters": 3}', "no table"),
        ('{"parameters": {"windows": 3}}', "no parameter 'windows'"),
        ('{"parameters": {"window": "3"}}', "window cannot be '3'"),
        ('{"parameters": {"window": true}}', "window cannot be True"),
        ('{"parameters": {"skip_gram": 1}}', "skip_gram cannot be 1"),
        ('{"parameters": {"window": null}}', "window cannot be None"),
        ('{"parameters": {}, "validation": {"a": "b"}}', "must hold numbers"),
    ],
)
def test_what_is_wrong_in_a_parameter_file_is_named(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        parameter_files.read(path)


def test_a_missing_parameter_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        parameter_files.read(tmp_path / "none.json")


def test_gains_by_hand() -> None:
    np.testing.assert_allclose(
        tune_space.gains(np.array([1, 3, 0, 100])), [1.0, 0.5, 0.0, 1 / np.log2(101)]
    )
