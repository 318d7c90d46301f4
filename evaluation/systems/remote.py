"""A system that calls a running service over gRPC."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import TYPE_CHECKING
from uuid import UUID

from catalog.errors import MismatchError
from evaluation.systems.release import BATCH, MODE_NAMES, to_song_numbers
from nextsong.v1 import recommender_pb2 as pb
from service.api.validation import MAX_NAME_LENGTH
from service.client.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers
    from service.recommend.seeds import Seed

CONCURRENT_CALLS = 8  # maximum number of calls at the same time

MAX_SEEDS = 1_000  # maximum number of seeds in a call, of which the most recent are sent

TIMEOUT_S = 60.0  # timeout of a call in seconds

_MODES = {
    "auto": pb.MODE_UNSPECIFIED,
    "dense": pb.MODE_DENSE,
    "cooccurrence": pb.MODE_COOCCURRENCE,
    "hybrid": pb.MODE_HYBRID,
    "ranked": pb.MODE_RANKED,
}


def get_served_release(address: str) -> str:
    """Return the id of the release that a service uses. Raises `UnavailableError`."""
    with Client(address, TIMEOUT_S) as client:
        return client.get_release().release.id


class Service:
    """A system that calls a running service, in one retrieval mode.

    `address` is HOST:PORT. The service must use the release with the id `release` in all calls.
    """

    key = "service"

    def __init__(
        self,
        address: str,
        release: str,
        dataset: Dataset,
        mode: str = "auto",
    ) -> None:
        self.name = "service" + MODE_NAMES[mode].removeprefix(MODE_NAMES["auto"])
        if mode != "auto":
            self.key = f"service-{mode}"
        self._address = address
        self._release = release
        self._songs = dataset.songs
        self._mode = _MODES[mode]
        self._allow_versions = False

    def allow_versions(self) -> Service:
        """Return a copy of this system that may recommend several versions of a song."""
        other = copy(self)
        other._allow_versions = True
        return other

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the rankings of all cases, in batches of shape (n, limit).

        Raises `MismatchError` if the service changes to another release, and the errors of
        `service.client.client.Client`.
        """
        with (
            Client(self._address, TIMEOUT_S) as client,
            ThreadPoolExecutor(CONCURRENT_CALLS) as pool,
        ):
            for batch in cases.split_batches(BATCH):
                playlists = self._songs.seeds(batch.seeds, batch.weights)
                rankings = pool.map(lambda seeds: self._recommend(client, seeds, limit), playlists)
                yield to_song_numbers(list(rankings), self._songs, limit)

    def _recommend(self, client: Client, seeds: Sequence[Seed], limit: int) -> list[UUID]:
        request = pb.RecommendRequest(
            seeds=[
                pb.Seed(
                    song_id=str(seed.song_id or ""),
                    artist=seed.artist[:MAX_NAME_LENGTH],
                    title=seed.title[:MAX_NAME_LENGTH],
                    weight=seed.weight,
                )
                for seed in seeds[-MAX_SEEDS:]
            ],
            limit=limit,
            mode=self._mode,
            allow_versions=self._allow_versions,
        )
        response = client.recommend(request)
        if response.release != self._release:
            raise MismatchError(
                f"the service at {self._address} changed from release {self._release} to "
                f"{response.release} during the evaluation: run the evaluation again"
            )
        return [UUID(hit.song.song_id) for hit in response.songs]
