"""Fixtures of the ingest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.pipeline_runs import QuickHome

if TYPE_CHECKING:
    from tests.support.pipeline_runs import Lane


@pytest.fixture
def quick(lane: Lane) -> Lane:
    """A copy of the work folder and the store of `road`, whose publishing builds no shard."""
    lane.home = QuickHome(lane.home.path)
    return lane
