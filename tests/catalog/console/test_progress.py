"""Progress bars of long-running tasks."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from catalog.console.progress import ConsoleReporter


def shown(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    made = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr("catalog.console.progress.Console", lambda **_: made)
    return made


def test_a_task_can_continue_after_its_total_is_reached(console: Console) -> None:
    with ConsoleReporter().task("publish") as task:
        task.advance(3, 3)
        time.sleep(0.25)
        assert "100%" in shown(console)
        task.advance(0, None)  # the index is built, which takes an unknown time
        before = len(shown(console))
        time.sleep(1.3)
        after = shown(console)[before:]
        assert "%" not in after
        assert "0:00:01" in after
        task.advance(1, 4)
        time.sleep(0.25)
        assert "25%" in shown(console)[before + len(after) :]


def test_an_unknown_total_has_no_percentage(console: Console) -> None:
    with ConsoleReporter().task("index") as task:
        task.advance(1200)
        time.sleep(0.25)
    assert "index" in shown(console)
    assert "%" not in shown(console)
