"""One self-contained HTML page of figures, tables and pictures: no script, nothing to fetch.

The pages of all rooms look alike. A page follows the reader's light or dark setting, its pictures
included, and reads well from a phone to a printer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.files import write_atomically
from ingest.stats.charts import extra_needed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ingest.stats.charts import Picture


@dataclass(frozen=True)
class Fact:
    """A figure to be seen first, as text, and what it counts."""

    value: str
    label: str


@dataclass(frozen=True)
class Table:
    """Rows of texts under `columns`; the first column is a name, the others align as numbers.

    `marked` holds the places of the rows that stand out.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    marked: Collection[int] = ()


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then pictures, then tables."""

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A whole page. `lead` is its first paragraphs."""

    title: str
    lead: Sequence[str] = ()
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = field(default_factory=list)
    foot: str = ""


def write_page(page: Page, path: Path) -> None:
    """Write `page` as HTML. Raises `InputError` without the extra `plots`, and `StorageError`."""
    with extra_needed("plots"):
        from jinja2 import Environment, StrictUndefined
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    write_atomically(path, environment.from_string(template).render(page=page))
