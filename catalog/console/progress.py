"""Progress of long-running work: the interface `Reporter`, and its implementations.

Functions with long-running work take a `Reporter`, so they do not depend on a terminal.
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

from catalog.console.tables import Console
from catalog.console.terminal import json_text, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

LOG_INTERVAL_S = 5.0
"""Minimum seconds between two progress lines of one task in the JSON log."""


class Task(Protocol):
    """A running task, whose progress and result are reported."""

    def advance(self, done: float, total: float | None = None) -> None:
        """Report that `done` of `total` units have been finished since the start of the task."""

    def result(self, text: str) -> None:
        """Set the text that describes the result. It is reported when the task ends."""


class Reporter(Protocol):
    """A destination for progress reports."""

    def say(self, text: str) -> None:
        """Report `text` as one line."""

    def task(self, title: str) -> AbstractContextManager[Task]:
        """Start a task. Its result and duration are reported at the end of the `with` block."""


class _SilentTask:
    def advance(self, done: float, total: float | None = None) -> None:
        pass

    def result(self, text: str) -> None:
        pass


class SilentReporter:
    """A reporter that reports nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:  # noqa: ARG002
        """Start a task that is not reported."""
        yield _SilentTask()


class _LiveTask:
    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._id = progress.add_task(title, total=None)
        (self._shown,) = progress.tasks
        self.text = ""

    def advance(self, done: float, total: float | None = None) -> None:
        # A task can have several phases with different totals, such as upload and indexing. By
        # default, rich stops the clock when the first total is reached.
        self._shown.total = total
        self._progress.update(self._id, completed=done)
        self._shown.finished_time = None

    def result(self, text: str) -> None:
        self.text = text


class ConsoleReporter:
    """A reporter that writes a line for each task to standard error.

    On a terminal, it also shows a progress bar.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def say(self, text: str) -> None:
        """Report `text` as one line."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Start a task with a progress bar that is removed when the task ends."""
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
        self._last_line = time.perf_counter()
        self.text = ""

    def advance(self, done: float, total: float | None = None) -> None:
        now = time.perf_counter()
        if now - self._last_line >= LOG_INTERVAL_S:
            self._last_line = now
            log("progress", task=self._title, done=done, total=total)

    def result(self, text: str) -> None:
        self.text = text


class JsonReporter:
    """A reporter that writes JSON lines to standard error, to be read by programs."""

    def say(self, text: str) -> None:
        """Report `text` as one line."""
        log("note", text=text.strip())

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Start a task. Its start, its end and, every `LOG_INTERVAL_S`, its progress are logged."""
        start = time.perf_counter()
        log("begin", task=title)
        task = _LoggedTask(title)
        yield task
        seconds = round(time.perf_counter() - start, 3)
        log("end", task=title, text=task.text, seconds=seconds)


def log(event: str, **fields: Any) -> None:
    """Write a JSON line to standard error: UTC time, event and fields."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": moment, "event": event, **fields}
    sys.stderr.write(json_text(line) + "\n")
    sys.stderr.flush()
