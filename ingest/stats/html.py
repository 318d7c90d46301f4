"""A self-contained HTML page of numbers, tables and charts, without scripts or other files.

The page and its charts follow the reader's choice of a light or dark theme.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

from catalog.files import write_atomically
from ingest.stats.charts import extra_needed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from ingest.stats.charts import Picture


@dataclass(frozen=True)
class Fact:
    """A number that is shown at the top of the page, as text, with a label."""

    value: str
    label: str


@dataclass(frozen=True)
class Table:
    """A table: column headings, and rows of text cells.

    The first column is aligned left, all other columns right. `marked` contains the indexes of the
    rows to highlight.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    marked: Collection[int] = ()


@dataclass(frozen=True)
class Section:
    """A section of a page: a heading, followed by paragraphs, charts and tables."""

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A page: title, introduction (`lead`), numbers (`facts`), sections and footer (`foot`)."""

    title: str
    lead: Sequence[str] = ()
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = field(default_factory=list)
    foot: str = ""


def write_page(page: Page, path: Path) -> None:
    """Write `page` as HTML.

    Raises `InputError` if the extra `plots` is not installed, and `StorageError`.
    """
    with extra_needed("plots"):
        from jinja2 import Environment, StrictUndefined
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    write_atomically(path, environment.from_string(template).render(page=page))
