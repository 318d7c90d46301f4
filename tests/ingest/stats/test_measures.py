"""Statistics of playlists, checked against values calculated by hand, and the HTML page."""

from __future__ import annotations

import builtins
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from catalog.console.progress import SilentReporter
from catalog.errors import InputError, MismatchError
from cli.main import main
from ingest.stats import measures
from ingest.stats import page as stats_page
from ingest.stats.charts import extra_needed
from ingest.stats.measures import Rival, measure
from tests.support.prepared import playlist, row, work_of

if TYPE_CHECKING:
    from pathlib import Path


ROWS = [
    *playlist("1", "abc", owner="u"),
    *playlist("2", "ab", owner="u"),
    *playlist("3", "ad", owner="v"),
    row("B & <b>$Co$</b>", "e", playlist_id="3"),
    row("C", "f", playlist_id="3"),
    row("c", "g", playlist_id="3"),
]


def test_counts_by_hand(tmp_path: Path) -> None:
    measured = measure(work_of(tmp_path, ROWS), SilentReporter())
    assert (measured.playlists, measured.plays, measured.owners) == (3, 10, 2)
    assert sorted(measured.lengths.values.tolist()) == [2, 3, 5]
    assert sorted(measured.playlists_of_song.values.tolist()) == [1, 1, 1, 1, 1, 2, 3]
    assert measured.playlists_of_artist is not None
    assert measured.artists_in_playlist is not None
    assert sorted(measured.playlists_of_artist.values.tolist()) == [1, 1, 3]
    assert sorted(measured.artists_in_playlist.values.tolist()) == [1, 1, 3]
    assert measured.top_songs[:2] == [("A - a", 3), ("A - b", 2)]
    assert measured.top_artists[0] == ("A", 3)
    assert len(measured.top_artists) == 3
    assert measured.playlists_of_song.fit is None  # too few songs for a fit
    figures = measured.to_json()
    assert figures["lengths"]["median"] == 3
    assert figures["playlists_of_song"]["once"] == pytest.approx(5 / 7)


def test_items_without_artists_have_no_statistics_of_artists(tmp_path: Path) -> None:
    rows = [row(None, title, playlist_id="1") for title in "ab"]
    measured = measure(work_of(tmp_path, rows, without_artist=["songs.csv"]), SilentReporter())
    assert measured.playlists_of_artist is None
    assert measured.artists_in_playlist is None
    assert measured.top_artists == []
    assert sorted(measured.top_songs) == [("a", 1), ("b", 1)]
    assert measured.to_json()["playlists_of_artist"] is None
    text = stats_page.write(measured, tmp_path / "stats").read_text()
    assert "artists in a playlist" not in text
    assert "most popular 1% of artists" not in text


def test_items_without_artists_do_not_share_one(tmp_path: Path) -> None:
    rows = [*playlist("1", "ab"), *playlist("2", "ac")]
    rows += [row(None, title, playlist_id="1", file="orders.csv") for title in "xy"]
    measured = measure(work_of(tmp_path, rows, without_artist=["orders.csv"]), SilentReporter())
    assert measured.playlists_of_artist is not None
    assert measured.playlists_of_artist.values.tolist() == [2]
    assert measured.top_artists == [("A", 2)]


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    measured = measure(work_of(tmp_path, ROWS), SilentReporter())
    page = stats_page.write(measured, tmp_path / "stats")
    html = page.read_text()
    assert "<script" not in html
    assert not re.findall(r'(?:src|href)="(?!#)', html)
    assert "<b>$Co" not in html
    assert "Co" in html
    pictures = html.count("<svg")
    for kind in ("png", "svg"):
        assert len(list((tmp_path / "stats").glob(f"*.{kind}"))) == pictures
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    missing = set(re.findall(r"url\(#([^)]*)\)", html)) - set(ids)
    assert not missing


def test_the_exponent_of_a_power_law_is_found() -> None:
    uniform = np.random.default_rng(0).random(20_000)
    values = np.floor((1 - uniform) ** (-1 / 1.5)).astype(np.int64)
    fit = measures._fit(values)
    assert fit is not None
    assert fit.exponent == pytest.approx(2.5, abs=0.15)
    verdicts = {rival.law: rival.verdict for rival in fit.rivals}
    assert verdicts["exponential"] == "power law fits better"
    for curve in fit.curves.values():
        assert curve[0] == 1
        assert all(np.diff(curve) <= 1e-12)


def test_a_normal_distribution_is_not_a_power_law() -> None:
    values = np.random.default_rng(0).lognormal(3, 0.4, 5_000).astype(np.int64) + 1
    fit = measures._fit(values)
    assert fit is not None
    assert fit.sampled == 5_000
    assert 0 < fit.in_tail < 0.9  # the power law was fitted only to the tail


@pytest.mark.parametrize(
    ("ratio", "p", "verdict"),
    [
        (3.0, 0.01, "power law fits better"),
        (-3.0, 0.01, "log-normal fits better"),
        (-3.0, 0.2, "no significant difference"),
    ],
)
def test_a_verdict_needs_significance(ratio: float, p: float, verdict: str) -> None:
    assert Rival("log-normal", ratio, p).verdict == verdict


def test_large_data_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "FITTED", 500)
    values = np.random.default_rng(0).zipf(2.2, 3_000).clip(max=10_000)
    fit = measures._fit(values)
    assert fit is not None
    assert fit.sampled == 500


def test_the_command_prints_figures_and_writes_the_page(tmp_path: Path) -> None:
    work = work_of(tmp_path, ROWS)
    arguments = ["ingest", "stats", "--work", str(work), "--out", str(tmp_path / "page"), "-q"]
    ran = CliRunner().invoke(main, [*arguments, "--json"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["plays"] == 10
    assert (tmp_path / "page" / "index.html").exists()
    assert "3 playlists, 10 plays" in CliRunner().invoke(main, arguments).stdout


def test_statistics_without_a_run_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="ingest run"):
        measure(tmp_path, SilentReporter())


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"needs matplotlib.*make install-dev"), extra_needed("x"):
        __import__("matplotlib")
