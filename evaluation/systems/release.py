"""What is scored: anything that answers queries with ranked songs; and the release, in process."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np

from catalog.errors import MismatchError
from catalog.reranker import load_reranker
from service.recommend.engine import recommend_many
from service.recommend.plan import get_default_mode
from service.recommend.query import Mode, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from catalog.manifest import Manifest
    from catalog.store import OpenRelease
    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers, Ragged, Songs
    from service.recommend.query import Recommendation
    from service.recommend.seeds import Seed

BATCH = 128

FEWEST_FOR_PROCESSES = 1_500
"""With fewer queries, opening the release in other processes costs more than it saves."""

MODES: dict[str, Mode | None] = {"auto": None, **{mode.value: mode for mode in Mode}}

MODE_NAMES = {
    "auto": "nextsong",
    "dense": "nextsong: Word2Vec",
    "cooccurrence": "nextsong: co-occurrence",
    "hybrid": "nextsong: both, fused",
    "ranked": "nextsong: ranker",
}


class System(Protocol):
    """Anything that recommends."""

    @property
    def key(self) -> str:
        """What options, gates and logs call it."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, its songs, best first: batches of shape (b, limit).

        -1 stands where there is no song, or one that the work folder does not know.
        """


def distinct_modes(
    modes: Sequence[str], manifest: Manifest, *, here: bool = True
) -> tuple[tuple[str, ...], list[str]]:
    """Return the modes that answer differently, and for each one left out a line that says why.

    `here` is False if a service answers, which may have libraries that this process lacks. Raises
    `MismatchError` if `ranked` is among the modes and the release has no ranker.
    """
    can_rank = bool(load_reranker(manifest.ranker) if here else manifest.ranker)
    if "ranked" in modes and not can_rank:
        raise MismatchError(
            f"release {manifest.release} has no ranker that can be used: train it with "
            f"`nextsong ingest run --ranker`, install the extra 'ranker', or leave 'ranked' out of "
            f"--modes"
        )
    kept: dict[Mode, str] = {}
    skipped = []
    for mode in dict.fromkeys(modes):
        resolved = MODES[mode] or get_default_mode(manifest)
        if resolved is Mode.RANKED and not can_rank:
            resolved = Mode.HYBRID
        if resolved in kept:
            skipped.append(
                f"modes {kept[resolved]} and {mode} are the same in release {manifest.release}, "
                f"and are scored once"
            )
        else:
            kept[resolved] = mode
    return tuple(kept.values()), skipped


def numbers_of(answers: Sequence[Sequence[UUID]], songs: Songs, limit: int) -> Numbers:
    """Rankings by song id as rankings by number, shape (answers, limit).

    A song that the work folder does not know, as a release of older data may recommend, keeps its
    place, and is -1 there: it can be no label, and nothing is known of it that could be measured.
    """
    rankings = np.full((len(answers), limit), -1, dtype=np.int32)
    for row, answer in enumerate(answers):
        rankings[row, : len(answer)] = [songs.numbers.get(one, -1) for one in answer]
    return rankings


def answers(
    release: OpenRelease, playlists: Sequence[Sequence[Seed]], limit: int, mode: Mode | None
) -> list[Recommendation]:
    """What the release answers to these playlists, as the service does."""
    asks = [Query(seeds, limit=limit, mode=mode) for seeds in playlists]
    found: list[Recommendation] = []

    async def ask() -> None:  # asyncio.run writes out, at its end, all that a coroutine returns
        found.extend(await recommend_many(release, asks))

    asyncio.run(ask())
    return found


class Release:
    """A release that answers in one mode, in this process or, for many queries, in several.

    `opened` opens it in another process, and must be a value that can be sent there.
    """

    def __init__(
        self,
        release: OpenRelease,
        data: Data,
        mode: str = "auto",
        opened: Callable[[], OpenRelease] | None = None,
        processes: int | None = None,
    ) -> None:
        self.key = "nextsong" if mode == "auto" else mode
        self.name = MODE_NAMES[mode]
        self._release = release
        self._data = data
        self._mode = mode
        self._opened = opened
        self._processes = processes or os.cpu_count() or 1

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, its songs, best first, in batches."""
        parts = [
            queries.seeds.take(slice(start, start + BATCH))
            for start in range(0, len(queries), BATCH)
        ]
        several = self._processes > 1 and len(queries) >= FEWEST_FOR_PROCESSES
        if self._opened is None or not several:
            for part in parts:
                yield _answered(self._release, self._data.songs, part, limit, self._mode)
            return
        # Each process opens the release for itself: the engine holds the interpreter while it
        # searches, and does not survive a fork.
        with ProcessPoolExecutor(
            self._processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_open_here,
            initargs=(self._opened, self._data.songs),
        ) as pool:
            tasks = [pool.submit(_answered_here, part, limit, self._mode) for part in parts]
            try:
                for task in tasks:
                    yield task.result()
            finally:
                for task in tasks:
                    task.cancel()


def _answered(release: OpenRelease, songs: Songs, seeds: Ragged, limit: int, mode: str) -> Numbers:
    found = answers(release, songs.seeds(seeds), limit, MODES[mode])
    ids = [[hit.song.song_id for hit in answer.songs] for answer in found]
    return numbers_of(ids, songs, limit)


_here: tuple[OpenRelease, Songs] | None = None
"""The release and the songs, in a process of the pool."""


def _open_here(opened: Callable[[], OpenRelease], songs: Songs) -> None:
    global _here  # noqa: PLW0603 -- a pool's initializer has no other place to leave its work
    _here = (opened(), songs)


def _answered_here(seeds: Ragged, limit: int, mode: str) -> Numbers:
    assert _here is not None
    return _answered(*_here, seeds, limit, mode)
