"""What several test files share: a small release of invented playlists, and the data beside us."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from catalog.embedded import EmbeddedHome
from catalog.reporting import Silent
from ingest import pipeline, synthetic
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data in {SHARED_DATA}")
    return SHARED_DATA


class Terminal(io.StringIO):
    """Standard output as a terminal."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """All that was printed, without colours."""
        return re.sub(r"\x1b\[[\d;]*m", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Terminal]:
    """Makes standard output a terminal of so many columns."""

    def make(width: int) -> Terminal:
        made = Terminal()
        monkeypatch.setattr(sys, "stdout", made)
        monkeypatch.setenv("COLUMNS", str(width))
        return made

    return make


@dataclass(frozen=True)
class Road:
    """A file of invented playlists and the release that was made from it."""

    file: Path
    home: EmbeddedHome
    work: Path
    parameters: Parameters
    outcome: pipeline.Outcome


SMALL = synthetic.Shape(playlists=500, songs=400, genres=4, mean_length=14, longest=60)
QUICK = Parameters(dimensions=16, epochs=4, min_count=2, workers=1, mode="hybrid")


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """A release of 500 invented playlists, to be read: tests that publish copy it."""
    folder = tmp_path_factory.mktemp("road")
    file = folder / "playlists.csv"
    synthetic.write_csv(synthetic.generate(SMALL, seed=1), file)
    home = EmbeddedHome(folder / "home")
    outcome = pipeline.run([file], {}, home, folder / "work", QUICK, Silent())
    return Road(file, home, folder / "work", QUICK, outcome)


def linked(source: str, target: str) -> str:
    """Copy a file; a large one by a hard link, as nobody writes into it."""
    if Path(source).stat().st_size > 1 << 16:
        os.link(source, target)
        return target
    return shutil.copy2(source, target)
