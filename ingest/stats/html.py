"""A self-contained HTML page of figures, tables and pictures, without scripts or external files.

The page and its pictures follow the reader's light or dark setting.
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
    """A figure at the top of the page, as text, and its label."""

    value: str
    label: str


@dataclass(frozen=True)
class Table:
    """A table: the headings of its columns, and its rows of texts.

    The first column is aligned to the left, all others to the right. `marked` holds the indexes of
    the rows to highlight.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    marked: Collection[int] = ()


@dataclass(frozen=True)
class Section:
    """A heading, followed by paragraphs, pictures and tables."""

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A page: title, first paragraphs (`lead`), figures (`facts`), sections, last line (`foot`)."""

    title: str
    lead: Sequence[str] = ()
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = field(default_factory=list)
    foot: str = ""


def write_page(page: Page, path: Path) -> None:
    """Write `page` as HTML. Raises `InputError` without the extra `plots`, and `StorageError`."""
    with extra_needed("plots"):
        from jinja2 import Environment, StrictUndefined
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    write_atomically(path, environment.from_string(template).render(page=page))
