"""The data of the pages: a release, its store, and recommendations from the API's methods."""

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
    """A run in the log of runs, such as an ingest or an evaluation.

    - `time`: end of the run in ISO 8601.
    - `kind`: command of the run, such as `evaluate`.
    - `release`: id of the release.
    - `label`: test set and protocol; runs with equal labels can be compared.
    - `figures`: the value of each metric; empty if the run did not evaluate the release.
    """

    run_id: str
    time: str
    kind: str
    release: str
    label: str
    figures: Mapping[str, float]


@dataclass
class Explorer:
    """A release that the pages show, and other releases of its store to compare it with.

    - `home`: folder of the data report.
    - `load_runs`: returns the runs in the log, the oldest first. Raises `NextsongError`.
    - `overview`: the map of the songs and the values of their extra fields.
    """

    store: ReleaseStore
    release: OpenRelease
    home: Path
    load_runs: Callable[[], Sequence[LoggedRun]]
    overview: OverviewTask
    _other_releases: dict[str, OpenRelease] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the release."""
        return self.release.manifest

    @property
    def modes(self) -> list[pb.Mode]:
        """The modes that differ in this release. Without a re-ranker, RANKED equals HYBRID."""
        modes = [mode for mode in MODE_NAMES if mode != pb.MODE_UNSPECIFIED]
        return [mode for mode in modes if mode != pb.MODE_RANKED or self.manifest.ranker]

    async def search(self, text: str, limit: int) -> Sequence[pb.Song]:
        """Return songs with names similar to a text, most similar first. Raises `NextsongError`."""
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
        """Answer a request from `release`, by default the explored one. Raises `NextsongError`."""
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
        """Return a response that has the resolved seeds. Raises `NextsongError`."""
        return await methods.recommend(self.release, pb.RecommendRequest(seeds=seeds, limit=1))

    async def get_songs(self, song_ids: Sequence[str]) -> list[pb.Song]:
        """Return those songs with these ids that the release has. Raises `NextsongError`."""
        response = await self.resolve([pb.Seed(song_id=song_id) for song_id in song_ids])
        return [seed.song for seed in response.seeds if seed.resolution == pb.RESOLUTION_SONG]

    async def list_releases(self) -> list[str]:
        """Return the ids of the releases in the store, the newest first."""
        return list(reversed(await asyncio.to_thread(self.store.releases)))

    async def open_other(self, release: str) -> OpenRelease:
        """Return a release of the store, which stays open until `close`.

        Raises `NextsongError` if the store does not have the release or cannot open it.
        """
        if release == self.manifest.release:
            return self.release
        async with self._opening:  # two tabs may request the same release at once
            if release not in self._other_releases:
                if release not in await self.list_releases():
                    raise NoReleaseError(f"no release {release} in {self.store.location}")
                opened = await asyncio.to_thread(open_with_reranker, self.store, release)
                self._other_releases[release] = opened
        return self._other_releases[release]

    def close(self) -> None:
        """Close all opened releases, and stop the computation of the map."""
        self.overview.stop()
        for release in [self.release, *self._other_releases.values()]:
            release.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and the milliseconds that it took."""

    response: pb.RecommendResponse
    milliseconds: float


def describe_value(value: pb.Value) -> Any:
    """Return the text, number or boolean in a message, or "" if it is empty."""
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind else ""
