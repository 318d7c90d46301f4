"""The HTML report: complete, self-contained, and consistent with the evaluation."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.console.progress import SilentReporter
from evaluation.judge import harness
from evaluation.report import plots, song_map
from evaluation.report.examples import draw_examples
from evaluation.report.headline import format_number
from evaluation.report.page import render_page, write
from evaluation.systems.location import StoreLocation
from tests.support.road import linked

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.judge.result import Evaluation
    from evaluation.report.song_map import SongMap
    from tests.support.road import Road

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Checked(HTMLParser):
    """Records the resources that a browser would load, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "action")]
        self.loads += [
            value or ""
            for name, value in attrs
            if name.endswith("href") and not (value or "").startswith("#")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def result(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    home = tmp_path_factory.mktemp("reported") / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    plan = harness.Plan(split="validation", baselines=("popularity", "rules", "item-item"))
    return harness.evaluate(StoreLocation(home), road.work, plan, SilentReporter())


@pytest.fixture(scope="module")
def drawn_map(result: Evaluation) -> SongMap:
    drawn = song_map.draw_map(result.dataset)
    assert drawn is not None
    return drawn


@pytest.fixture(scope="module")
def html(result: Evaluation) -> str:
    return render_page(result)


def test_the_page_is_well_formed_and_loads_nothing(html: str) -> None:
    checked = Checked()
    checked.feed(html)
    assert checked.open == []
    assert checked.loads == []
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "<script" not in html


def test_the_page_shows_the_evaluation(html: str, result: Evaluation) -> None:
    checked = Checked()
    checked.feed(html)
    text = " ".join(" ".join(checked.text).split())
    for system in result.systems:
        assert system.name in text
        assert format_number(system.figures["hr@10"].mean) in text
    for said in (
        result.conditions.release,
        result.conditions.data_fingerprint,
        result.run,
        "near misses",
        "tail: the last 10%",
        "one artist alone",
        "passed",
    ):
        assert said in text
    assert "nan" not in text.split()
    assert "the share of queries with a label among the first 10" in text
    assert text.count("the share of the catalog that was recommended for at least one query") == 1


def test_the_page_shows_what_the_selection_tried(html: str, result: Evaluation) -> None:
    trials = result.conditions.parameters["selection"]
    assert len(trials) > 10
    rows = dict(re.findall(r"<tr><td>([a-z ]+)</td><td class=\"text\">(.+?)</td></tr>", html))
    assert {"recency", "song exponent", "share of artist", "dense weight"} <= rows.keys()
    for trial in trials:
        shown = f"{trial['value']:g}: {format_number(trial['gain'])}</span>"
        own = rows[trial["parameter"].replace("_", " ")]
        assert (f'<span class="best">{shown}' in own) == trial["is_selected"]
        assert shown in own
    assert "'is_selected'" not in html  # the list of conditions omits the trials


def test_names_are_escaped(result: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(song_map, "draw_map", lambda _dataset: None)
    names = ["<script>alert(1)</script>"] * len(result.cases)
    html = render_page(replace(result, cases=replace(result.cases, names=names)))
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_examples_cover_each_outcome(result: Evaluation) -> None:
    examples = draw_examples(result)
    ranks = [example.rank for example in examples]
    assert {0 if rank == 0 else 1 if rank <= 10 else 2 for rank in ranks} == {0, 1, 2}
    for example in examples:
        hits = [rank for rank, (*_, hit) in enumerate(example.suggestions, 1) if hit]
        assert hits == ([example.rank] if 0 < example.rank <= 10 else [])
        if hits:
            assert example.suggestions[example.rank - 1][0] == example.label


def test_plots_have_the_colours_of_the_page(result: Evaluation) -> None:
    for plot in (plots.plot_hit_rates(result), plots.plot_popularity(result)):
        assert "var(--c0)" in plot.svg
        assert not re.search(r"#0[ab]0[ab]", plot.svg)
        assert plot.legend[0] == result.main.name


def test_the_map_places_similar_songs_near_each_other(
    result: Evaluation, drawn_map: SongMap
) -> None:
    data = result.dataset
    assert data.vectors is not None
    assert {dot.colour for dot in drawn_map.dots} <= set(range(-1, len(drawn_map.legend)))
    known = [song for song in data.songs.by_popularity if data.vectors[song].any()]
    positions = {dot.name: (dot.x, dot.y) for dot in drawn_map.dots}
    shown = known[: song_map.MAX_SONGS]
    at = np.array([positions[data.songs.name(int(song))] for song in shown])
    vectors = data.vectors[shown]
    far = np.linalg.norm(at[:, None] - at[None], axis=2)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    assert np.median(far[np.arange(len(at)), cosine.argmax(axis=1)]) < 0.5 * np.median(far)


def test_the_map_explains_its_colours(drawn_map: SongMap) -> None:
    # Songs are coloured by the word with the highest lift, not by the most frequent word.
    assert "stands out" in song_map.BY_WORD
    assert "most often" not in song_map.BY_WORD
    assert drawn_map.coloured_by in (song_map.BY_WORD, song_map.BY_ARTIST)


def test_a_report_is_written_to_a_new_folder(
    result: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(song_map, "draw_map", lambda _dataset: None)
    path = tmp_path / "new" / "report.html"
    write(result, path, SilentReporter())
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_report_of_held_out_halves_has_their_metrics(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(road.home.path, tmp_path / "home", copy_function=linked)
    plan = harness.Plan(
        holdout="half", modes=("auto",), baselines=(), behaviours=False, recall=False, sample=10
    )
    evaluation = harness.evaluate(
        StoreLocation(tmp_path / "home"), road.work, plan, SilentReporter()
    )
    monkeypatch.setattr(song_map, "draw_map", lambda _dataset: None)
    assert "R-prec" in render_page(evaluation)
