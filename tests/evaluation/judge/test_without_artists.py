"""Evaluation of a release of orders, whose items have no artist."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from catalog.errors import InputError
from evaluation.judge import gate, harness
from evaluation.judge.slices import ARTIST_OF_LABEL, group_cases
from evaluation.protocol.cases import HeldOutCases
from evaluation.protocol.dataset import Dataset, SongLists, Songs
from evaluation.report import page, terminal
from evaluation.systems.location import StoreLocation
from ingest import pipeline
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.judge.result import Evaluation

SHELVES = {
    "breakfast": "milk bread butter jam honey tea coffee eggs",
    "italian": "pasta tomatoes basil parmesan olives garlic oregano mozzarella",
    "baking": "flour yeast sugar vanilla cocoa almonds raisins cream",
    "grill": "charcoal sausages mustard corn ribs peppers ketchup buns",
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """The evaluation of a release of 400 synthetic orders.

    Most items of an order are from the same shelf.
    """
    folder = tmp_path_factory.mktemp("orders")
    random = np.random.default_rng(5)
    shelves = [words.split() for words in SHELVES.values()]
    rows = ["order_id,product"]
    for order in range(400):
        shelf = shelves[random.integers(len(shelves))]
        items = [*random.choice(shelf, 5, replace=False), random.choice(np.concatenate(shelves))]
        rows += [f"{order},{item}" for item in dict.fromkeys(items)]
    file = folder / "orders.csv"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    parameters = Parameters(dimensions=8, epochs=4, min_count=2, workers=1)
    store = EmbeddedStore(folder / "home")
    pipeline.run([file], store, folder / "work", parameters, SilentReporter())
    plan = harness.Plan(split="validation", holdout="half", baselines=("popularity", "item-item"))
    location = StoreLocation(folder / "home")
    return harness.evaluate(location, folder / "work", plan, SilentReporter())


def test_items_without_an_artist_are_found(result: Evaluation) -> None:
    hit_rates = {system.key: system.figures["hr@10"].mean for system in result.systems}
    assert hit_rates["nextsong"] > hit_rates["popularity"]
    assert result.main.figures["answered"].mean == 1


def test_figures_that_need_artists_are_left_out_and_named(result: Evaluation) -> None:
    for system in result.systems:
        assert not [name for name in system.figures if "artist" in name]
        assert {"r_precision", "novelty@10"} <= system.figures.keys()
    groups = {slice_.group: slice_.name for slice_ in result.slices}
    assert ARTIST_OF_LABEL not in groups
    assert not [name for name in groups.values() if "artist" in name]
    assert not [test.figure for test in result.behaviours if "artist" in test.figure + test.name]
    assert all(test.passed is not False for test in result.behaviours)
    (note,) = [text for text in result.skipped if "artist" in text]
    assert note.startswith("no song has an artist, so these do not apply: the metrics of artists")


def test_all_forms_of_the_report_name_items_without_a_dash(
    result: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    html = page.render_page(result)
    assert "do not apply" in html
    assert "<li>1. " in html
    assert "&ndash; " not in html.partition("Example playlists")[2]
    terminal.print_evaluation(result)
    shown = capsys.readouterr().out
    assert "do not apply" in shown
    assert "artist of the label" not in shown
    assert "artist_repetition" not in json.dumps([*result.lines()][1:4])


def test_a_gate_on_a_metric_of_artists_is_refused(result: Evaluation) -> None:
    with pytest.raises(InputError, match="no metric 'artist_repetition@10'"):
        gate.require_bounds(result, [gate.Bound("artist_repetition@10", 0.5)])


def test_items_without_an_artist_do_not_share_one(tmp_path: Path) -> None:
    """Songs 0 and 1 have the same artist. Songs 2 to 4 have no artist."""
    train = SongLists.from_lists([[0, 1, 2], [2, 3]])
    artist = np.array([0, 0, -1, -1, -1], np.int32)
    dataset = Dataset(tmp_path, Songs(None, artist, np.array([1, 1, 2, 1, 0])), train, 0)  # type: ignore[arg-type]
    assert dataset.artist_recurrence == pytest.approx(2 / 5)
    lists = SongLists.from_lists
    cases = HeldOutCases(
        [""] * 4, [""] * 4, lists([[0], [2], [4], [4]]), lists([[1], [3], [1], [2]])
    )
    groups = group_cases(cases, dataset)
    members = {name: rows.tolist() for name, rows in groups[ARTIST_OF_LABEL].items()}
    assert members == {
        "is in the query": [True, False, False, False],
        "is not in the query": [False, False, True, False],
    }
    assert groups["known songs of the query"]["none, no artist either"].tolist() == [
        False,
        False,
        True,
        True,
    ]
