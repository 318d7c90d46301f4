"""Fixtures for tests of the package `ingest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.pipeline_runs import QuickHome

if TYPE_CHECKING:
    from tests.support.pipeline_runs import Lane


@pytest.fixture
def quick(lane: Lane) -> Lane:
    """A copy of the work folder and store of `road`. Publishing in it does not build a shard."""
    lane.home = QuickHome(lane.home.path)
    return lane
