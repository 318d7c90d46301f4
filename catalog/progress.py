"""How long-running work says what it does: one interface, a talking reporter and a silent twin.

Library code takes a `Reporter` and never asks whether there is a terminal.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from catalog.tables import Console
from catalog.terminal import json_text, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

LOGGED_EVERY_S = 5.0
"""How often a log says how far a piece of work is."""


class Task(Protocol):
    """A piece of work under way."""

    def advance(self, done: float, total: float | None = None) -> None:
        """Say that `done` of `total` is finished (absolute numbers, any unit)."""

    def result(self, text: str) -> None:
        """Say, once, what came of it."""


class Reporter(Protocol):
    """Where work reports to."""

    def say(self, text: str) -> None:
        """Report one line."""

    def task(self, title: str) -> AbstractContextManager[Task]:
        """Open a piece of work; at its end its result and duration are reported."""


class _SilentTask:
    def advance(self, done: float, total: float | None = None) -> None:
        pass

    def result(self, text: str) -> None:
        pass


class SilentReporter:
    """Reports nothing."""

    def say(self, text: str) -> None:
        """Report one line: to nobody."""

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:  # noqa: ARG002
        """Open a piece of work that nobody hears of."""
        yield _SilentTask()


class _LiveTask:
    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._id = progress.add_task(title, total=None)
        (self._shown,) = progress.tasks
        self.text = ""

    def advance(self, done: float, total: float | None = None) -> None:
        # Rich never forgets a total, and stops the clock where it is reached; but more may follow,
        # as the building of the index follows the upload.
        self._shown.total = total
        self._progress.update(self._id, completed=done)
        self._shown.finished_time = None

    def result(self, text: str) -> None:
        self.text = text


class ConsoleReporter:
    """Reports on standard error: a line a task, and a progress bar while there is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def say(self, text: str) -> None:
        """Report one line."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Open a piece of work, with a bar that vanishes when it is done."""
        start = time.perf_counter()
        with Progress(
            TextColumn("  {task.description:<10}"),
            BarColumn(bar_width=30),
            TaskProgressColumn("{task.percentage:>3.0f}%", text_format_no_percentage=" " * 4),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        ) as progress:
            task = _LiveTask(progress, one_line(title))
            yield task
        seconds = time.perf_counter() - start
        self.say(f"  {title:<10} {one_line(task.text)}  ({seconds:.1f} s)")


class _LoggedTask:
    def __init__(self, title: str) -> None:
        self._title = title
        self._said = time.perf_counter()
        self.text = ""

    def advance(self, done: float, total: float | None = None) -> None:
        now = time.perf_counter()
        if now - self._said >= LOGGED_EVERY_S:
            self._said = now
            log("progress", task=self._title, done=done, total=total)

    def result(self, text: str) -> None:
        self.text = text


class JsonReporter:
    """Reports on standard error as JSON lines: for programs."""

    def say(self, text: str) -> None:
        """Report one line."""
        log("note", text=text.strip())

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Open a piece of work; begin and end are lines, and now and then its progress."""
        start = time.perf_counter()
        log("begin", task=title)
        task = _LoggedTask(title)
        yield task
        seconds = round(time.perf_counter() - start, 3)
        log("end", task=title, text=task.text, seconds=seconds)


def log(event: str, **fields: Any) -> None:
    """Write a JSON line to standard error: time (UTC), event and fields."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": moment, "event": event, **fields}
    sys.stderr.write(json_text(line) + "\n")
    sys.stderr.flush()
