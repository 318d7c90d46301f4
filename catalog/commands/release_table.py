"""The list of the releases of a store, as a table or as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from catalog.console.tables import Console, Table
from catalog.errors import CorruptReleaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.manifest import Manifest
    from catalog.store import ReleaseStore

MAX_SOURCES = 3  # maximum number of input files per table row; the JSON output names all files


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the list: a release, and whether it is the current release of the store.

    If the manifest cannot be read, `manifest` is None, and `problem` explains why.
    """

    release: str
    current: bool
    manifest: Manifest | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that `nextsong releases list --json` prints for the release."""
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


def list_entries(store: ReleaseStore) -> list[Entry]:
    """Return all releases of a store, newest first."""
    current = store.current()
    return [_read_entry(store, release, current) for release in reversed(store.releases())]


def _read_entry(store: ReleaseStore, release: str, current: str | None) -> Entry:
    try:
        return Entry(release, release == current, store.manifest(release))
    except CorruptReleaseError as error:
        return Entry(release, release == current, problem=str(error))


def _shorten(sources: Sequence[str]) -> str:
    more = len(sources) - MAX_SOURCES
    return ", ".join(sources[:MAX_SOURCES]) + (f" and {more:,} more" if more > 0 else "")


def print_table(entries: Sequence[Entry]) -> None:
    """Print releases as a table."""
    console = Console()
    if not entries:
        console.print("no release yet: publish one with `nextsong ingest run FILE`")
        return
    table = Table(box=None)
    table.add_column("")
    table.add_column("release", no_wrap=True)
    table.add_column("made")
    for name in ("songs", "vectors"):
        table.add_column(name, justify="right")
    table.add_column("from")
    for entry in entries:
        mark = "*" if entry.current else ""
        if entry.manifest is None:
            table.add_row(mark, entry.release, "unreadable")
            continue
        counts = entry.manifest.counts
        sources = entry.manifest.origin.sources
        made = entry.manifest.created[:16].replace("T", " ")
        cells = (made, f"{counts.songs:,}", f"{counts.vectors:,}", _shorten(sources))
        table.add_row(mark, entry.release, *(escape(cell) for cell in cells))
    console.print(table)
