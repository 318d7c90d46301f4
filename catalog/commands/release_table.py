"""The releases of a store, as a table and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from catalog.console.tables import Console, Table
from catalog.errors import CorruptReleaseError
from catalog.store import require_current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.manifest import Manifest
    from catalog.store import ReleaseStore

FEW_SOURCES = 3  # files named in the table; JSON output names all


@dataclass(frozen=True, slots=True)
class Entry:
    """A release of a store. `problem` explains why its manifest cannot be read."""

    release: str
    current: bool
    manifest: Manifest | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the release as printed by `releases list --json`."""
        fields: dict[str, Any] = {"release": self.release, "current": self.current}
        if self.manifest is None:
            return fields | {"problem": self.problem}
        counts = self.manifest.counts
        return fields | {
            "created": self.manifest.created,
            "songs": counts.songs,
            "vectors": counts.vectors,
            "predicted": counts.predicted,
            "training_playlists": counts.training_playlists,
            "sources": self.manifest.origin.sources,
        }


def entries(store: ReleaseStore) -> list[Entry]:
    """Return all releases of a store, newest first."""
    current = store.current()
    found = []
    for release in reversed(store.releases()):
        try:
            found.append(Entry(release, release == current, store.manifest(release)))
        except CorruptReleaseError as error:
            found.append(Entry(release, release == current, problem=str(error)))
    return found


def chosen(store: ReleaseStore, release: str | None) -> str:
    """Return the release that is named, else the current one. Raises `NoReleaseError`."""
    return release or require_current(store)


def _few(sources: Sequence[str]) -> str:
    more = len(sources) - FEW_SOURCES
    return ", ".join(sources[:FEW_SOURCES]) + (f" and {more:,} more" if more > 0 else "")


def table(found: Sequence[Entry]) -> None:
    """Print releases as a table."""
    console = Console()
    if not found:
        console.print("no release yet: publish one with `nextsong ingest run FILE`")
        return
    shown = Table(box=None)
    shown.add_column("")
    shown.add_column("release", no_wrap=True)
    shown.add_column("made")
    for name in ("songs", "vectors"):
        shown.add_column(name, justify="right")
    shown.add_column("from")
    for entry in found:
        mark = "*" if entry.current else ""
        if entry.manifest is None:
            shown.add_row(mark, entry.release, "unreadable")
            continue
        counts = entry.manifest.counts
        sources = entry.manifest.origin.sources
        made = entry.manifest.created[:16].replace("T", " ")
        cells = (made, f"{counts.songs:,}", f"{counts.vectors:,}", _few(sources))
        shown.add_row(mark, entry.release, *(escape(cell) for cell in cells))
    console.print(shown)
