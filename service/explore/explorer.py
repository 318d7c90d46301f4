"""What the pages know and ask: a release, its store, and the answers of the API's methods."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from catalog.errors import NoReleaseError
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods, responses, validation
from service.operate.watcher import open_with_reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from catalog.manifest import Manifest
    from catalog.store import OpenRelease, ReleaseStore
    from service.explore.overview import OverviewTask

MODE_NAMES: Mapping[pb.Mode, str] = {
    pb.MODE_UNSPECIFIED: "Auto",
    pb.MODE_HYBRID: "Hybrid",
    pb.MODE_COOCCURRENCE: "Co-occurrence",
    pb.MODE_DENSE: "Dense",
    pb.MODE_RANKED: "Ranked",
}
"""The label of each mode. Auto is the mode that was selected when the release was trained."""


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """A run of the log of runs: its end time in ISO 8601, kind, release, label and figures.

    Runs with equal labels can be compared. `figures` maps metrics to values.
    """

    run_id: str
    time: str
    kind: str
    release: str
    label: str
    figures: Mapping[str, float]


@dataclass
class Explorer:
    """A release that the pages explore. `close` closes everything that it has opened.

    - `home`: folder with the data report and with what the pages compute once for each release.
    - `load_runs`: returns the runs in the log, the oldest first. Raises `NextsongError`.
    - `overview`: the map of the songs and the values of their extra fields.
    """

    store: ReleaseStore
    release: OpenRelease
    home: Path
    load_runs: Callable[[], Sequence[LoggedRun]]
    overview: OverviewTask
    _others: dict[str, OpenRelease] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the release."""
        return self.release.manifest

    @property
    def modes(self) -> list[pb.Mode]:
        """The modes that differ in this release. Without a re-ranker, RANKED is like HYBRID."""
        modes = [mode for mode in MODE_NAMES if mode != pb.MODE_UNSPECIFIED]
        return [mode for mode in modes if mode != pb.MODE_RANKED or self.manifest.ranker]

    async def search(self, text: str, limit: int) -> Sequence[pb.Song]:
        """Return the songs that a typed text finds, also if misspelt. Raises `NextsongError`."""
        request = pb.SearchSongsRequest(query=text, limit=limit, fuzzy=True)
        return (await methods.search_songs(self.release, request)).songs

    async def list_popular(self, request: pb.RecommendRequest) -> list[pb.Song]:
        """Return the most popular songs that pass the filter of a request."""
        where = await validation.parse_filter(request.filter, self.manifest.payload)
        points = await self.release.popular(request.limit, where)
        return [responses.build_song(point.song) for point in points]

    async def recommend(
        self, request: pb.RecommendRequest, release: OpenRelease | None = None
    ) -> Answer:
        """Answer a request from the release, or from another one. Raises `NextsongError`."""
        start = time.perf_counter()
        response = await methods.recommend(release or self.release, request)
        return Answer(response, (time.perf_counter() - start) * 1e3)

    async def recommend_in_modes(self, request: pb.RecommendRequest) -> dict[pb.Mode, Answer]:
        """Answer a request once in each of the modes. Raises `NextsongError`."""
        answers = {}
        for mode in self.modes:
            copy = pb.RecommendRequest()
            copy.CopyFrom(request)
            copy.mode = mode
            answers[mode] = await self.recommend(copy)
        return answers

    async def resolve(self, seeds: Sequence[pb.Seed]) -> pb.RecommendResponse:
        """Return a response that resolves the seeds. Raises `NextsongError`."""
        return await methods.recommend(self.release, pb.RecommendRequest(seeds=seeds, limit=1))

    async def get_songs(self, song_ids: Sequence[str]) -> list[pb.Song]:
        """Return the songs with these ids that the release has."""
        response = await self.resolve([pb.Seed(song_id=song_id) for song_id in song_ids])
        return [seed.song for seed in response.seeds if seed.resolution == pb.RESOLUTION_SONG]

    async def list_releases(self) -> list[str]:
        """Return the ids of the releases in the store, the newest first."""
        return list(reversed(await asyncio.to_thread(self.store.releases)))

    async def open_other(self, release: str) -> OpenRelease:
        """Open another release of the store, which stays open. Raises `NextsongError`."""
        if release == self.manifest.release:
            return self.release
        async with self._opening:  # two tabs may ask for the same release
            if release not in self._others:
                if release not in await self.list_releases():
                    raise NoReleaseError(f"no release {release} in {self.store.location}")
                opened = await asyncio.to_thread(open_with_reranker, self.store, release)
                self._others[release] = opened
        return self._others[release]

    def close(self) -> None:
        """Close all releases, and stop the computation of the map."""
        self.overview.stop()
        for release in [self.release, *self._others.values()]:
            release.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and the milliseconds that it took."""

    response: pb.RecommendResponse
    milliseconds: float


def describe_value(value: pb.Value) -> Any:
    """Return the content of a message that holds a value."""
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind else ""
