"""The location of the releases and of the log of runs, as a value that can be pickled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.open_store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.server.options import QdrantOptions
    from catalog.store import OpenRelease, ReleaseStore


@dataclass(frozen=True)
class StoreLocation:
    """The location of the log of runs and of the releases, for use in several processes.

    The log of runs is in `folder`. The releases are on the server `qdrant`, or in `folder` if
    `qdrant` is None.
    """

    folder: Path
    qdrant: QdrantOptions | None = None

    def open_store(self) -> ReleaseStore:
        """Open the release store. The caller must close it."""
        return open_store(self.folder, self.qdrant)

    def open_release(self, release: str | None = None) -> OpenRelease:
        """Open a release, by default the current one. Raises the errors of `ReleaseStore.open`.

        The caller must close the release.
        """
        return self.open_store().open(release)

    def release_ids(self) -> list[str]:
        """Return the ids of all releases, the oldest first."""
        store = self.open_store()
        try:
            return store.releases()
        finally:
            store.close()
