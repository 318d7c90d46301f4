"""Tables with border lines for terminals, and plain tables for files and pipes.

No cell is truncated: if a table does not fit on a terminal, it is printed without border lines.
"""

from __future__ import annotations

import sys
from typing import IO, Any

from rich import box, table
from rich import console as rich_console
from rich.cells import cell_len
from rich.text import Text

from catalog.console.terminal import escape_unencodable, one_line, sanitise

UNLIMITED = 1_000_000  # width in characters, more than any table needs
MIN_WIDTH = 8  # minimum width, in characters, of a cell whose text may wrap on a terminal


def is_terminal(file: IO[str] | None = None) -> bool:
    """Return whether the file, by default standard output, is a terminal."""
    file = file or sys.stdout
    return file is not None and file.isatty()


class Console(rich_console.Console):
    """A console that escapes control characters, and wraps lines only on a terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return `text` as rich text, with control characters escaped."""
        return super().render_str(sanitise(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects. A table has border lines only on a terminal that is wide enough."""
        if is_terminal(self.file) and all(self._fits(each) for each in objects):
            super().print(*objects, **options)
            return
        parts: list[Any] = []
        for each in objects:
            if isinstance(each, Table):
                each.make_plain()
                if each.title:  # rich would wrap the title to the width of the table
                    parts.append(each.title)
                    each.title = None
            parts.append(each)
        width, self.width = self.width, UNLIMITED
        try:
            with self.capture() as captured:
                super().print(*parts, **options)
        finally:
            self.width = width
        lines = (line.rstrip() for line in captured.get().split("\n"))
        self.file.write(escape_unencodable("\n".join(lines), self.file))
        self.file.flush()

    def on_broken_pipe(self) -> None:
        """Re-raise the `BrokenPipeError`, which the root command handles."""
        raise  # noqa: PLE0704 -- rich calls this while it handles the error

    def _fits(self, item: Any) -> bool:
        return not isinstance(item, Table) or item.compute_min_width() <= self.width


class Table(table.Table):
    """A table whose cells are single lines of text and are never truncated."""

    def __init__(self, title: str | None = None, **style: Any) -> None:
        options: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False} | style
        super().__init__(title=title and one_line(title), title_justify="left", **options)
        self._widths: list[int] = []

    def add_column(self, header: Any = "", *arguments: Any, **options: Any) -> None:
        """Add a column. Text that is too wide for it is wrapped."""
        super().add_column(header, *arguments, **{"overflow": "fold", **options})
        self._widths.append(cell_len(str(header)))

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row. String cells may contain rich markup."""
        lines = [one_line(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*lines, **options)
        for column in self.columns[len(self._widths) :]:  # columns that the row added
            column.overflow = "fold"
            self._widths.append(0)
        for column_index, line in enumerate(lines):
            if isinstance(line, str):
                width = Text.from_markup(line, emoji=False).cell_len
                self._widths[column_index] = max(self._widths[column_index], width)

    def compute_min_width(self) -> int:
        """Return the smallest width, in characters, at which no cell is truncated."""
        cells = (
            width if column.no_wrap else min(MIN_WIDTH, width)
            for column, width in zip(self.columns, self._widths, strict=True)
        )
        gap = 2 if self.collapse_padding else 3
        return sum(cells) + gap * (len(self.columns) - 1) + 2 * self.show_edge

    def make_plain(self) -> None:
        """Remove all border lines, and separate columns by two or more spaces."""
        self.box, self.collapse_padding, self.title_style = None, False, "none"
