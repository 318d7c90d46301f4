"""The two homes of releases: a folder, or a Qdrant server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.server.options import Layout
from catalog.store import KEPT

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.server.options import QdrantOptions
    from catalog.store import Home


def open_home(
    folder: Path,
    qdrant: QdrantOptions | None = None,
    *,
    layout: Layout | None = None,
    keep: int = KEPT,
) -> Home:
    """The home on the Qdrant server if one is named, or else the one in `folder`.

    Publishing lays releases out as `layout` says, on a server, and keeps `keep` old ones.
    """
    if qdrant is None:
        from catalog.embedded.store import EmbeddedHome

        return EmbeddedHome(folder, keep=keep)
    from catalog.server.store import ServerHome

    return ServerHome(qdrant, layout=layout or Layout(), keep=keep)
