"""Filtered search in the HNSW graph with ACORN, which keeps recall high if few songs pass."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from catalog.embedded.release import EmbeddedRelease
from catalog.model import Filter
from catalog.search.index_quality import measure_recall, sample_songs
from tests.support.embedded_releases import library

if TYPE_CHECKING:
    from pathlib import Path


def test_a_filter_does_not_lower_the_recall_of_the_index(tmp_path: Path) -> None:
    # A fifth of the songs pass the filter, which is too many for exact search (see
    # `FULL_SCAN_THRESHOLD_KB`), and too few for the HNSW graph without ACORN: recall is about .7.
    (wide,) = library(tmp_path, 3_000, 512)
    fifth = Filter(min_playlists=2_400)
    narrow = replace(wide.release.manifest, search_ef=64)
    with closing(EmbeddedRelease(wide.shard, narrow)) as release:
        songs = asyncio.run(sample_songs(release, 50))
        measured = asyncio.run(measure_recall(release, songs, fifth))
    assert measured.recall > 0.9
