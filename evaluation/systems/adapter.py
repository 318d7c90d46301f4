"""Anything that recommends songs, as a system that can be evaluated beside the release.

A recommender of one's own is an object with one method; it need not know anything of ours but how
a query names its songs::

    class Mine:
        def recommend(self, seeds, limit, where):
            return [("Artist", "Title"), ...]  # or song ids, best first

    harness.evaluate(place, work, plan, reporter, own={"mine": Mine()})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from catalog.errors import InputError
from catalog.model import Filter
from catalog.song import song_id
from evaluation.systems.release import numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers
    from service.recommend.seeds import Seed

BATCH = 32

Named = UUID | str | tuple[str, str]
"""A song that is recommended: by its song id, or by artist and title."""


class Recommender(Protocol):
    """What can be evaluated."""

    def recommend(self, seeds: Sequence[Seed], limit: int, where: Filter) -> Sequence[Named]:
        """At most `limit` songs, best first, that should come after the seeds.

        A seed has `song_id`, `artist` and `title`; the last one is the most recent. `where` leaves
        out the songs of the query.
        """


class Adapted:
    """A recommender under a name of its own, asked one query after the other."""

    def __init__(self, name: str, recommender: Recommender, data: Data) -> None:
        self.key = self.name = name
        self._recommender = recommender
        self._songs = data.songs

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, its songs, best first, in batches.

        Raises `InputError` where an answer is too long, or an entry names no song.
        """
        for start in range(0, len(queries), BATCH):
            batch = self._songs.seeds(queries.seeds.take(slice(start, start + BATCH)))
            yield numbers_of([self._answer(seeds, limit) for seeds in batch], self._songs, limit)

    def _answer(self, seeds: Sequence[Seed], limit: int) -> list[UUID]:
        own = frozenset(seed.song_id for seed in seeds if seed.song_id)
        found = list(self._recommender.recommend(seeds, limit, Filter(exclude_songs=own)))
        if len(found) > limit:
            raise InputError(
                f"{self.name} recommends {len(found)} songs, and was asked for {limit}"
            )
        return [self._id_of(one) for one in found]

    def _id_of(self, song: Named) -> UUID:
        if isinstance(song, UUID):
            return song
        try:
            if isinstance(song, str):
                return UUID(song)
            artist, title = song
            return song_id(artist, title)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.name} recommends {song!r}, which is neither a song id nor (artist, title)"
            ) from error
