"""Open a release store: a folder, or a Qdrant server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.server.options import CollectionLayout
from catalog.store import KEPT

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.server.options import QdrantOptions
    from catalog.store import ReleaseStore


def open_store(
    folder: Path,
    qdrant: QdrantOptions | None = None,
    *,
    layout: CollectionLayout | None = None,
    keep: int = KEPT,
) -> ReleaseStore:
    """Return the store on the Qdrant server if `qdrant` is given, else the store in `folder`.

    When a release is published, the `keep` newest old releases are kept and all older ones removed.
    `layout` sets the shards, replicas and storage of new collections on a server.
    """
    if qdrant is None:
        from catalog.embedded.store import EmbeddedStore

        return EmbeddedStore(folder, keep=keep)
    from catalog.server.store import ServerStore

    return ServerStore(qdrant, layout=layout or CollectionLayout(), keep=keep)
