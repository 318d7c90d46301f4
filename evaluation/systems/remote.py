"""A running service, asked over gRPC: what is measured is what is served."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID

from catalog.errors import MismatchError
from evaluation.systems.release import MODE_NAMES, numbers_of
from nextsong.v1 import recommender_pb2 as pb
from service.api.validation import MAX_NAME_LENGTH
from service.client.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers
    from service.recommend.seeds import Seed

BATCH = 128

CALLS_AT_ONCE = 8

LONGEST_QUERY = 1_000
"""The service takes no more seeds: of a longer query the most recent ones are sent."""

TIMEOUT_S = 60.0

_MODES = {
    "auto": pb.MODE_UNSPECIFIED,
    "dense": pb.MODE_DENSE,
    "cooccurrence": pb.MODE_COOCCURRENCE,
    "hybrid": pb.MODE_HYBRID,
    "ranked": pb.MODE_RANKED,
}


def serving_release(address: str) -> str:
    """The id of the release that the service answers from. Raises `UnavailableError`."""
    with Client(address, TIMEOUT_S) as client:
        return client.get_release().release.id


class Service:
    """The service at `address`, answering in one mode; eight calls are under way at any time.

    All answers must come from `release`.
    """

    key = "service"

    def __init__(self, address: str, release: str, data: Data, mode: str = "auto") -> None:
        self.name = "service" + MODE_NAMES[mode].removeprefix(MODE_NAMES["auto"])
        if mode != "auto":
            self.key = f"service-{mode}"
        self._address = address
        self._release = release
        self._data = data
        self._mode = _MODES[mode]

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, its songs, best first, in batches.

        Raises `MismatchError` if another release answers, and what `service.client.Client` raises.
        """
        with Client(self._address, TIMEOUT_S) as client, ThreadPoolExecutor(CALLS_AT_ONCE) as pool:

            def ask(seeds: Sequence[Seed]) -> list[UUID]:
                request = pb.RecommendRequest(
                    seeds=[
                        pb.Seed(
                            song_id=str(seed.song_id or ""),
                            artist=seed.artist[:MAX_NAME_LENGTH],
                            title=seed.title[:MAX_NAME_LENGTH],
                        )
                        for seed in seeds[-LONGEST_QUERY:]
                    ],
                    limit=limit,
                    mode=self._mode,
                )
                response = client.recommend(request)
                if response.release != self._release:
                    raise MismatchError(
                        f"the service at {self._address} changed from release {self._release} to "
                        f"{response.release} while it was evaluated: run the evaluation again"
                    )
                return [UUID(hit.song.song_id) for hit in response.songs]

            for start in range(0, len(queries), BATCH):
                seeds = self._data.songs.seeds(queries.seeds.take(slice(start, start + BATCH)))
                yield numbers_of(list(pool.map(ask, seeds)), self._data.songs, limit)
