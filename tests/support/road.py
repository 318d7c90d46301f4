"""A small release of synthetic playlists (`Road`), and a fake terminal."""

from __future__ import annotations

import io
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.embedded.store import EmbeddedStore
from evaluation.synthetic import playlists
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from catalog.server.store import ServerStore
    from ingest import pipeline


ROOT = Path(__file__).parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"


SMALL = playlists.Shape(playlists=500, songs=400, genres=4, mean_length=14, longest=60)
QUICK = Parameters(dimensions=16, epochs=4, min_count=2, workers=1, mode="hybrid")


@dataclass(frozen=True)
class Road:
    """A file of synthetic playlists, with the store and work folder of the release made from it."""

    file: Path
    home: EmbeddedStore
    work: Path
    parameters: Parameters
    outcome: pipeline.Outcome


@dataclass(frozen=True)
class ServerRoad:
    """The playlists of `Road`, published to a Qdrant server."""

    file: Path
    home: ServerStore
    work: Path
    outcome: pipeline.Outcome


def linked(source: str, target: str) -> str:
    """Copy a file. Large files are hard-linked, because they are never changed."""
    if Path(source).stat().st_size > 1 << 16:
        os.link(source, target)
        return target
    return shutil.copy2(source, target)


def copy_store(store: EmbeddedStore, folder: Path) -> EmbeddedStore:
    """Copy a release store to a new folder. Tests may add and remove files of the copy."""
    shutil.copytree(store.path, folder, copy_function=linked)
    return EmbeddedStore(folder)


class Terminal(io.StringIO):
    """A fake standard output that is a terminal."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """Return everything that was printed, without colours."""
        return re.sub(r"\x1b\[[\d;]*m", "", self.getvalue())
