"""Extra payload fields are returned as published, and can be used in filters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.model import Condition, Filter, Value
from tests.support.embedded_releases import run
from tests.support.fakes import points_of, publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from catalog.store import OpenRelease

KINDS: Any = {
    "album": "keyword",
    "year": "integer",
    "tempo": "float",
    "live": "keyword",
    "notes": "text",
}
EXTRAS: list[Mapping[str, Value]] = [
    {
        "album": "Arrival",
        "year": 1976,
        "tempo": 101.5,
        "live": "false",
        "notes": "Très grand succès",
    },
    {"album": "Waterloo", "year": 1974, "tempo": 147.0, "live": "true", "notes": "grand prix"},
    {"album": "Arrival", "year": 1977, "live": "true"},
    {},
]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    rows = [("Abba", f"Song {place}", 9 - place, (1.0, place)) for place in range(len(EXTRAS))]
    points = [
        replace(point, song=replace(point.song, extra=extra))
        for point, extra in zip(points_of(*rows), EXTRAS, strict=True)
    ]
    store = EmbeddedStore(tmp_path_factory.mktemp("home"))
    publish(store, points, payload=KINDS)
    opened = store.open()
    yield opened
    opened.close()


def test_extra_fields_keep_their_types_and_missing_ones_are_left_out(release: OpenRelease) -> None:
    assert release.manifest.payload == KINDS
    assert [point.song.extra for point in run(release.popular(9))] == EXTRAS


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (Condition("album", any_of=("Arrival",)), [0, 2]),
        (Condition("album", any_of=("Arrival", "Waterloo")), [0, 1, 2]),
        (Condition("album", none_of=("Arrival",)), [1, 3]),
        (Condition("year", any_of=(1974, 1977)), [1, 2]),
        (Condition("year", none_of=(1974, 1977)), [0, 3]),
        (Condition("year", minimum=1976), [0, 2]),
        (Condition("year", minimum=1975, maximum=1976), [0]),
        (Condition("tempo", maximum=101.5), [0]),
        (Condition("live", any_of=("true",)), [1, 2]),
        (Condition("live", none_of=("true",)), [0, 3]),
        (Condition("live", any_of=("true", "false")), [0, 1, 2]),
        (Condition("notes", text="GRA"), [0, 1]),
        (Condition("notes", text="grand tr"), [0]),
        (Condition("notes", text="très"), [0]),
    ],
)
def test_conditions(release: OpenRelease, condition: Condition, found: list[int]) -> None:
    points = run(release.popular(9, Filter(conditions=(condition,))))
    assert [point.song.ordinal for point in points] == found


def test_conditions_are_joined_by_and(release: OpenRelease) -> None:
    where = Filter(
        conditions=(Condition("album", any_of=("Arrival",)), Condition("live", any_of=("true",)))
    )
    assert [point.song.ordinal for point in run(release.popular(9, where))] == [2]
