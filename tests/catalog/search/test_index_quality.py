"""Recall of the vector index against exact search, and the choice of HNSW's `ef` by recall."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pytest

from catalog.errors import EngineError
from catalog.model import Hit, Point, Search, Song
from catalog.search.index_quality import (
    choose_search_width,
    measure_recall,
    measure_recall_by_filter,
    sample_songs,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.road import Road


def song(number: int) -> Song:
    return Song(UUID(int=number), "A", str(number), ("a",), number, 1)


class Index:
    """A release whose index finds only the first `right` of the ten hits of exact search."""

    def __init__(self, manifest: Any, right: int) -> None:
        self.manifest = manifest
        self.right = right
        self.closed = False

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        return [self._found(10 if search.exact else self.right) for search in searches]

    def _found(self, right: int) -> list[Hit]:
        numbers = [*range(right), *range(100 + right, 110)]
        return [
            Hit(song(number), 1 - place / 100 - (number >= 100))
            for place, number in enumerate(numbers)
        ]

    async def popular(self, limit: int, where: object = None) -> list[Point]:
        return [Point(song(number), np.ones(2, np.float32)) for number in range(limit)]

    def close(self) -> None:
        self.closed = True


def test_recall_is_the_share_of_the_exact_hits(road: Road) -> None:
    index: Any = Index(road.outcome.manifest, 7)
    points = asyncio.run(index.popular(4))
    measured = asyncio.run(measure_recall(index, points))
    assert (measured.recall, measured.lowest, measured.queries) == (0.7, 0.7, 4)


def test_a_song_that_ties_with_the_tenth_counts_as_right(road: Road) -> None:
    class Tied(Index):
        def _found(self, right: int) -> list[Hit]:
            return [Hit(song(n), 0.5) for n in [*range(right), *range(100 + right, 110)]]

    index: Any = Tied(road.outcome.manifest, 3)
    assert asyncio.run(measure_recall(index, asyncio.run(index.popular(2)))).recall == 1.0


def test_recall_without_queries_is_1(road: Road) -> None:
    index: Any = Index(road.outcome.manifest, 3)
    measured = asyncio.run(measure_recall(index, [Point(song(1), None)]))
    assert (measured.recall, measured.queries) == (1.0, 0)


def test_the_search_width_grows_until_recall_is_good(road: Road) -> None:
    opened = []

    def open_with(manifest: Any) -> Any:
        opened.append(Index(manifest, 10 if manifest.search_ef >= 200 else 5))
        return opened[-1]

    manifest = choose_search_width(road.outcome.manifest, open_with)
    assert manifest.search_ef == 200
    assert manifest.recall == 1.0
    assert [one.manifest.search_ef for one in opened] == [100, 200]
    assert all(one.closed for one in opened)


def test_an_index_with_low_recall_is_refused(road: Road) -> None:
    with pytest.raises(EngineError, match=r"only 90\.0% .* needs at least 97%"):
        choose_search_width(road.outcome.manifest, lambda manifest: Index(manifest, 9))  # type: ignore[arg-type]


def test_the_manifest_has_width_and_recall(road: Road) -> None:
    manifest = road.outcome.manifest
    assert manifest.search_ef == 100
    assert manifest.recall is not None
    assert 0.97 <= manifest.recall <= 1


def test_recall_under_filters_of_several_selectivities(road: Road) -> None:
    release = road.home.open()
    measured = asyncio.run(measure_recall_by_filter(release, size=20))
    sample = asyncio.run(sample_songs(release, 20))
    release.close()
    assert len(sample) == 20
    ordinals = [point.song.ordinal for point in sample]
    assert ordinals == sorted(set(ordinals))
    assert ordinals[-1] > 10 * 20  # not only the most popular songs
    by_name = {one.name: one for one in measured}
    assert by_name["no filter"].selectivity == 1
    assert by_name["the most popular 10%"].selectivity == pytest.approx(0.1, abs=0.01)
    assert by_name["one artist alone"].selectivity < 0.5
    assert by_name["all but one artist"].selectivity > 0.5
    for one in measured:
        assert 0.9 <= one.lowest <= one.recall <= 1
