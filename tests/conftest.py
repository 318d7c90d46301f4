"""What several test files share: a small release of invented playlists, and the data beside us."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.progress import SilentReporter
from evaluation.synthetic import playlists
from ingest import pipeline
from tests.support.road import QUICK, SHARED_DATA, SMALL, Road

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """A release of 500 invented playlists, to be read: tests that publish copy it."""
    folder = tmp_path_factory.mktemp("road")
    file = folder / "playlists.csv"
    playlists.write_csv(playlists.generate(SMALL, seed=1), file)
    home = EmbeddedStore(folder / "home")
    outcome = pipeline.run([file], {}, home, folder / "work", QUICK, SilentReporter())
    return Road(file, home, folder / "work", QUICK, outcome)
