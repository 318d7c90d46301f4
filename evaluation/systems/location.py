"""Where releases and the log of runs are, as a value that other processes can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.open_store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.server.options import QdrantOptions
    from catalog.store import OpenRelease, ReleaseStore


@dataclass(frozen=True)
class Place:
    """The folder of the log of runs, and of the releases unless they are on a Qdrant server."""

    folder: Path
    qdrant: QdrantOptions | None = None

    def home(self) -> ReleaseStore:
        """The home of the releases, to be closed."""
        return open_store(self.folder, self.qdrant)

    def open(self, release: str | None = None) -> OpenRelease:
        """Open a release, the current one if none is named. Raises as `ReleaseStore.open` does."""
        return self.home().open(release)

    def releases(self) -> list[str]:
        """The ids of all releases, the oldest first."""
        home = self.home()
        try:
            return home.releases()
        finally:
            home.close()
