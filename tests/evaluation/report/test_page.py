"""The report: one page that needs nothing else, and says what the evaluation says."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.progress import SilentReporter
from evaluation.judge import harness
from evaluation.report import plots, song_map
from evaluation.report.examples import examples
from evaluation.report.page import page, write
from evaluation.report.terminal import number
from evaluation.systems.location import Place
from tests.support.road import linked

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.judge.result import Evaluation
    from tests.support.road import Road

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Checked(HTMLParser):
    """Remembers what a browser would load, and whether tags are closed as they were opened."""

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
    return harness.evaluate(Place(home), road.work, plan, SilentReporter())


@pytest.fixture(scope="module")
def html(result: Evaluation) -> str:
    return page(result)


def test_the_page_is_whole_and_loads_nothing(html: str) -> None:
    checked = Checked()
    checked.feed(html)
    assert checked.open == []
    assert checked.loads == []
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "<script" not in html


def test_the_page_says_what_the_evaluation_says(html: str, result: Evaluation) -> None:
    checked = Checked()
    checked.feed(html)
    text = " ".join(" ".join(checked.text).split())
    for system in result.systems:
        assert system.name in text
        assert number(system.figures["hr@10"].mean) in text
    for said in (
        result.conditions.release,
        result.conditions.data_fingerprint,
        result.run,
        "being less wrong",
        "tail: the last 10%",
        "one artist alone",
        "passed",
    ):
        assert said in text
    assert "nan" not in text.split()


def test_names_cannot_break_the_page(result: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(song_map, "drawn", lambda _data: None)
    evil = ["<script>alert(1)</script>"] * len(result.queries)
    found = page(replace(result, queries=replace(result.queries, names=evil)))
    assert "<script" not in found
    assert "&lt;script&gt;" in found


def test_examples_are_of_each_kind_and_true(result: Evaluation) -> None:
    found = examples(result)
    kinds = [0 if one.place == 0 else 1 if one.place <= 10 else 2 for one in found]
    assert set(kinds) == {0, 1, 2}
    for one in found:
        hits = [place for place, (*_, hit) in enumerate(one.suggested, 1) if hit]
        assert hits == ([one.place] if 0 < one.place <= 10 else [])
        if hits:
            assert one.suggested[one.place - 1][:2] == one.label


def test_curves_have_the_colours_of_the_page(result: Evaluation) -> None:
    drawn = plots.curves(result)
    svg = str(drawn["svg"])
    assert "var(--c0)" in svg
    assert not re.search(r"#0[ab]0[ab]", svg)
    assert drawn["legend"][0] == result.main.name  # type: ignore[index]


def test_the_map_puts_like_songs_together(result: Evaluation) -> None:
    found = song_map.drawn(result.data)
    assert found is not None
    data = result.data
    assert data.vectors is not None
    assert {dot.colour for dot in found.dots} <= set(range(-1, len(found.legend)))
    known = [song for song in data.songs.by_popularity if data.vectors[song].any()]
    place = {dot.name: (dot.x, dot.y) for dot in found.dots}
    shown = known[: song_map.SONGS]
    at = np.array([place[data.songs.name(int(song))] for song in shown])
    vectors = data.vectors[shown]
    far = np.linalg.norm(at[:, None] - at[None], axis=2)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    assert np.median(far[np.arange(len(at)), cosine.argmax(axis=1)]) < 0.5 * np.median(far)


def test_the_map_says_how_its_colours_were_chosen(result: Evaluation) -> None:
    # By how far a word stands out, not by how often it comes.
    assert "stands out" in song_map.BY_WORD
    assert "most often" not in song_map.BY_WORD
    found = song_map.drawn(result.data)
    assert found is not None
    assert found.coloured_by in (song_map.BY_WORD, "the artists with the most songs here")


def test_a_report_is_written(
    result: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(song_map, "drawn", lambda _data: None)
    path = tmp_path / "new" / "report.html"
    write(result, path, SilentReporter())
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_report_of_halves(road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(road.home.path, tmp_path / "home", copy_function=linked)
    plan = harness.Plan(
        holdout="half", modes=("auto",), baselines=(), behaviours=False, recall=False, sample=10
    )
    found = harness.evaluate(Place(tmp_path / "home"), road.work, plan, SilentReporter())
    monkeypatch.setattr(song_map, "drawn", lambda _data: None)
    assert "R-prec" in page(found)
