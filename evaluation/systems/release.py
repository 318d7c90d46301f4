"""The interface of everything that can be scored, and a system that searches a release."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import stamina

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
    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers, Songs
    from service.recommend.query import Recommendation
    from service.recommend.seeds import Seed

BATCH = 128  # maximum number of cases in a batch

MIN_CASES_FOR_PROCESSES = 1_500
"""Minimum number of cases for a search in several processes. With fewer cases, opening the release
in each process takes longer than the search."""

MODES: dict[str, Mode | None] = {"auto": None, **{mode.value: mode for mode in Mode}}
"""Retrieval modes by name. None stands for the default mode of the release."""

MODE_NAMES = {
    "auto": "nextsong",
    "dense": "nextsong: Word2Vec",
    "cooccurrence": "nextsong: co-occurrence",
    "hybrid": "nextsong: both, fused",
    "ranked": "nextsong: ranker",
}
"""Name of a release as a system in reports, by mode."""


class System(Protocol):
    """Interface of everything that can be scored, such as releases, services and baselines."""

    @property
    def key(self) -> str:
        """The name of the system in options, gates and logs."""

    @property
    def name(self) -> str:
        """The name of the system in reports."""

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the rankings of all cases in order, in batches of shape (cases, limit).

        A ranking holds song numbers, the best song first. -1 stands for no song, or for a song that
        the work folder lacks.
        """


def find_distinct_modes(
    modes: Sequence[str], manifest: Manifest, *, in_process: bool = True
) -> tuple[tuple[str, ...], list[str]]:
    """Return the modes that give different rankings, and a note on each mode that is left out.

    The mode `ranked` needs LightGBM. `in_process` is False if a service is scored, because the
    service may have LightGBM even if this process lacks it. Raises `MismatchError` if the modes
    include `ranked` and the release has no usable re-ranker.
    """
    can_rank = bool(load_reranker(manifest.ranker) if in_process else manifest.ranker)
    if "ranked" in modes and not can_rank:
        raise MismatchError(
            f"release {manifest.release} has no re-ranker that can be used: train one with "
            f"`nextsong ingest run --ranker`, install the extra 'ranker', or leave 'ranked' out of "
            f"--modes"
        )
    first_name: dict[Mode, str] = {}
    notes = []
    for name in dict.fromkeys(modes):
        mode = MODES[name] or get_default_mode(manifest)
        if mode is Mode.RANKED and not can_rank:
            mode = Mode.HYBRID
        if mode in first_name:
            notes.append(
                f"modes {first_name[mode]} and {name} are the same in release {manifest.release}, "
                f"and are scored once"
            )
        else:
            first_name[mode] = name
    return tuple(first_name.values()), notes


def to_song_numbers(rankings: Sequence[Sequence[UUID]], songs: Songs, limit: int) -> SongNumbers:
    """Convert rankings of song ids to song numbers, shape (rankings, limit), padded with -1.

    A release that was made from older data may recommend a song that the work folder lacks. The
    number of such a song is -1, which counts as a miss. The other songs keep their ranks.
    """
    numbers = np.full((len(rankings), limit), -1, dtype=np.int32)
    for row, ranking in enumerate(rankings):
        numbers[row, : len(ranking)] = [songs.numbers.get(song_id, -1) for song_id in ranking]
    return numbers


def recommend_playlists(
    release: OpenRelease,
    playlists: Sequence[Sequence[Seed]],
    limit: int,
    mode: Mode | None,
    *,
    allow_versions: bool = False,
) -> list[Recommendation]:
    """Return at most `limit` recommended songs for each playlist, by the code of the service."""
    queries = [
        Query(seeds, limit=limit, mode=mode, allow_versions=allow_versions) for seeds in playlists
    ]
    recommendations: list[Recommendation] = []

    # `collect` returns nothing, because asyncio logs the return value of coroutines in debug mode.
    async def collect() -> None:
        recommendations.extend(await recommend_many(release, queries))

    asyncio.run(collect())
    return recommendations


@dataclass(frozen=True, slots=True)
class _Options:
    """The options that all queries of a `Release` have."""

    mode: str
    allow_versions: bool = False


class Release:
    """A release as a system that is scored in one mode.

    If there are many cases and `open_release` is given, several processes search the release. Each
    process opens the release with `open_release`, which must be picklable. Otherwise, this process
    searches the release.
    """

    def __init__(
        self,
        release: OpenRelease,
        dataset: Dataset,
        mode: str = "auto",
        open_release: Callable[[], OpenRelease] | None = None,
        processes: int | None = None,
    ) -> None:
        self.key = "nextsong" if mode == "auto" else mode
        self.name = MODE_NAMES[mode]
        self._release = release
        self._songs = dataset.songs
        self._options = _Options(mode)
        self._open_release = open_release
        self._processes = processes or os.cpu_count() or 1

    def allow_versions(self) -> Release:
        """Return a copy of this system that may recommend several versions of a song."""
        other = copy(self)
        other._options = replace(self._options, allow_versions=True)
        return other

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the rankings of all cases, in batches of shape (n, limit)."""
        batches = list(cases.split_batches(BATCH))
        use_processes = self._processes > 1 and len(cases) >= MIN_CASES_FOR_PROCESSES
        if self._open_release is None or not use_processes:
            for batch in batches:
                yield _recommend_batch(self._release, self._songs, batch, limit, self._options)
            return
        # Threads would wait for each other, because Qdrant Edge holds the global interpreter lock
        # during a search. Processes are spawned, because searches hang in forked processes.
        with ProcessPoolExecutor(
            self._processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_initialise_worker,
            initargs=(self._open_release, self._songs),
        ) as pool:
            futures = [
                pool.submit(_recommend_in_worker, batch, limit, self._options) for batch in batches
            ]
            try:
                for future in futures:
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()


def _recommend_batch(
    release: OpenRelease, songs: Songs, cases: HeldOutCases, limit: int, options: _Options
) -> SongNumbers:
    recommendations = recommend_playlists(
        release,
        songs.seeds(cases.seeds, cases.weights),
        limit,
        MODES[options.mode],
        allow_versions=options.allow_versions,
    )
    rankings = [
        [hit.song.song_id for hit in recommendation.songs] for recommendation in recommendations
    ]
    return to_song_numbers(rankings, songs, limit)


_worker: tuple[OpenRelease, Songs] | None = None
"""The release and the songs of a worker process, set by `_initialise_worker`."""


def _initialise_worker(open_release: Callable[[], OpenRelease], songs: Songs) -> None:
    global _worker  # noqa: PLW0603 -- an initializer can only pass values to tasks by a global
    stamina.instrumentation.set_on_retry_hooks(())  # the default hook prints to standard output
    _worker = (open_release(), songs)


def _recommend_in_worker(cases: HeldOutCases, limit: int, options: _Options) -> SongNumbers:
    assert _worker is not None
    release, songs = _worker
    return _recommend_batch(release, songs, cases, limit, options)
