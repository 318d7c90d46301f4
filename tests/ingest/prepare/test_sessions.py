"""Sessions made from files without playlists: pauses between sessions, and units of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.prepared import Row, playlist, prepared, row

if TYPE_CHECKING:
    from pathlib import Path


def test_pauses_end_sessions_in_files_without_playlists(tmp_path: Path) -> None:
    def play(title: str, owner: str, second: float | None, file: str = "log.csv") -> Row:
        return row(title=title, owner=owner, position=second, file=file)

    rows = [
        play("a", "u", 100.0),
        play("b", "u", 160.0),
        play("x", "v", 150.0),
        play("c", "u", 800.0),  # more than 10 minutes after b
        play("d", "u", 1_400.0),  # exactly 10 minutes after c
        play("y", "v", 400.0),
        play("z", "u", None),
        play("z", "", 120.0),
        *playlist("listed", "mn", owner="u"),
    ]
    made = prepared(tmp_path, rows, session_gap=10.0, session_files=("log.csv",))
    assert made.titles() == {"listed": "mn", "u 100": "ab", "u 800": "cd", "v 150": "xy"}
    assert [item["reason"] for item in made.rejects] == ["no playlist", "no playlist"]
    assert made.summary.sessions is True


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9), (None, 1)],
)
def test_the_unit_of_times_is_detected_from_their_size(
    tmp_path: Path, unit: str | None, scale: float
) -> None:
    seconds = [1_600_000_000 + step for step in (0, 200, 400, 9_000, 9_100)]
    rows = [
        row(title=title, owner="u", position=scale * second, file="log.csv")
        for title, second in zip("abcde", seconds, strict=True)
    ]
    # A second file has times in seconds for the same listener.
    rows.append(row(title="f", owner="u", position=1_600_009_200.0, file="more.csv"))
    made = prepared(tmp_path, rows, session_files=("log.csv", "more.csv"))
    assert made.titles() == {"u 1600000000": "abc", "u 1600009000": "def"}
    assert made.summary.units == ({unit: ["log.csv"]} if unit else {})
