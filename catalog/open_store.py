"""The two homes of releases: a folder, or a Qdrant server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.server.options import Layout
from catalog.store import KEPT

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.server.options import QdrantOptions
    from catalog.store import ReleaseStore


def open_store(
    folder: Path,
    qdrant: QdrantOptions | None = None,
    *,
    layout: Layout | None = None,
    keep: int = KEPT,
) -> ReleaseStore:
    """The home on the Qdrant server if one is named, or else the one in `folder`.

    Publishing lays releases out as `layout` says, on a server, and keeps `keep` old ones.
    """
    if qdrant is None:
        from catalog.embedded.store import EmbeddedStore

        return EmbeddedStore(folder, keep=keep)
    from catalog.server.store import ServerStore

    return ServerStore(qdrant, layout=layout or Layout(), keep=keep)
