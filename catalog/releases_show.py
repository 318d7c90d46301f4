"""The releases of a home, as a table and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from catalog.errors import CorruptReleaseError, NoReleaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.manifest import Manifest
    from catalog.release import Home


@dataclass(frozen=True, slots=True)
class Entry:
    """A release of a home. Where its manifest cannot be read, `problem` says why."""

    release: str
    current: bool
    manifest: Manifest | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """What `releases list --json` prints."""
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


def entries(home: Home) -> list[Entry]:
    """All releases of a home, the newest first."""
    current = home.current()
    found = []
    for release in reversed(home.releases()):
        try:
            found.append(Entry(release, release == current, home.manifest(release)))
        except CorruptReleaseError as error:
            found.append(Entry(release, release == current, problem=str(error)))
    return found


def chosen(home: Home, release: str | None) -> str:
    """The release that is meant: the one named, or the current one; raises `NoReleaseError`."""
    meant = release or home.current()
    if meant is None:
        raise NoReleaseError(f"no release in {home.place} yet")
    return meant


def table(found: Sequence[Entry]) -> None:
    """Print releases as a table."""
    console = Console(highlight=False)
    if not found:
        console.print("no release yet: publish one with `nextsong ingest run FILE`", markup=False)
        return
    shown = Table(box=None, pad_edge=False)
    for name in ("", "release", "made", "songs", "vectors", "from"):
        shown.add_column(name, justify="right" if name in {"songs", "vectors"} else "left")
    for entry in found:
        mark = "*" if entry.current else ""
        if entry.manifest is None:
            shown.add_row(mark, entry.release, "unreadable", "", "", "")
            continue
        counts = entry.manifest.counts
        sources = ", ".join(entry.manifest.origin.sources)
        made = entry.manifest.created[:16].replace("T", " ")
        shown.add_row(
            mark, entry.release, made, f"{counts.songs:,}", f"{counts.vectors:,}", sources
        )
    console.print(shown)
