"""Search parameters in requests to a Qdrant server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.schema import ACORN_MAX_SELECTIVITY
from catalog.server.queries import build_search_params

if TYPE_CHECKING:
    from tests.support.road import Road


def test_filtered_searches_use_acorn(road: Road) -> None:
    acorn = build_search_params(road.outcome.manifest).acorn
    assert acorn is not None
    assert (acorn.enable, acorn.max_selectivity) == (True, ACORN_MAX_SELECTIVITY)
