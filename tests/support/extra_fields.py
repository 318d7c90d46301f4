"""Test data: songs with extra payload fields of every kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.fakes import points_of

PAYLOAD = {
    "genre": "keyword",
    "live": "keyword",
    "year": "integer",
    "tempo": "float",
    "album": "text",
}
EXTRAS: list[dict[str, Any]] = [
    {"genre": "Pop", "live": "false", "year": 1974, "tempo": 147.5, "album": "Waterloo"},
    {"genre": "Pop", "live": "true", "year": 1976, "tempo": 111.0, "album": "Greatest Hits"},
    {"genre": "Art Pop", "live": "false", "year": 1997, "tempo": 90.0, "album": "Homogenic"},
    {"genre": "Rock", "year": 2001, "album": "The Great Hall"},
    {},
]
POINTS = [
    replace(point, song=replace(point.song, extra=extra))
    for point, extra in zip(
        points_of(
            ("ABBA", "Waterloo", 50, (1, 0)),
            ("ABBA", "Fernando", 40, (0.9, 0.1)),
            ("Björk", "Jóga", 30, (0.8, 0.2)),
            ("Elbow", "Red", 20, (0.7, 0.3)),
            ("Nobody", "Plain", 10, (0.6, 0.4)),
        ),
        EXTRAS,
        strict=True,
    )
]
