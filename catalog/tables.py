"""Tables on a terminal, and plain ones where output goes elsewhere.

Nothing is cut: a table that does not fit on the terminal is plain, too.
"""

from __future__ import annotations

import sys
from typing import IO, Any

from rich import box, table
from rich import console as rich_console
from rich.cells import cell_len
from rich.text import Text

from catalog.terminal import one_line, sanitise, writable

UNLIMITED = 1_000_000  # columns
NARROWEST = 8  # columns that a cell which may wrap must have on a terminal


def on_terminal(file: IO[str] | None = None) -> bool:
    """Whether the file, standard output if none is given, is a terminal."""
    file = file or sys.stdout
    return file is not None and file.isatty()


class Console(rich_console.Console):
    """A console that writes control characters out, and does not wrap but on a terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make text of a string, whose control characters are written out."""
        return super().render_str(sanitise(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print: tables that do not fit on the terminal, and all that goes elsewhere, plain."""
        if on_terminal(self.file) and all(self._fits(each) for each in objects):
            super().print(*objects, **options)
            return
        for each in objects:
            if isinstance(each, Table):
                each.make_plain()
        width, self.width = self.width, UNLIMITED
        try:
            with self.capture() as captured:
                super().print(*objects, **options)
        finally:
            self.width = width
        lines = (line.rstrip() for line in captured.get().split("\n"))
        self.file.write(writable("\n".join(lines), self.file))
        self.file.flush()

    def on_broken_pipe(self) -> None:
        """Leave it to the root command."""
        raise  # noqa: PLE0704 -- called while the error is handled

    def _fits(self, shown: Any) -> bool:
        return not isinstance(shown, Table) or shown.least_width() <= self.width


class Table(table.Table):
    """A table whose cells are one line of data each. Cells that must not wrap are never cut."""

    def __init__(self, title: str | None = None, **look: Any) -> None:
        chosen: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False} | look
        super().__init__(title=title and one_line(title), title_justify="left", **chosen)
        self._widths: list[int] = []

    def add_column(self, header: Any = "", *arguments: Any, **options: Any) -> None:
        """Add a column; text that is wider than it goes on in the next line."""
        super().add_column(header, *arguments, **{"overflow": "fold", **options})
        self._widths.append(cell_len(str(header)))

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of markup."""
        lines = [one_line(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*lines, **options)
        for column in self.columns[len(self._widths) :]:  # those without a heading
            column.overflow = "fold"
            self._widths.append(0)
        for place, line in enumerate(lines):
            if isinstance(line, str):
                width = Text.from_markup(line, emoji=False).cell_len
                self._widths[place] = max(self._widths[place], width)

    def least_width(self) -> int:
        """Return how many columns of a terminal it needs, so that nothing is cut."""
        cells = (
            width if column.no_wrap else min(NARROWEST, width)
            for column, width in zip(self.columns, self._widths, strict=True)
        )
        gap = 2 if self.collapse_padding else 3
        return sum(cells) + gap * (len(self.columns) - 1) + 2 * self.show_edge

    def make_plain(self) -> None:
        """Leave out all lines; two or more spaces stand between columns."""
        self.box, self.collapse_padding, self.title_style = None, False, "none"
