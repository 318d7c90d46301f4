"""Adapter to evaluate a custom recommender in the same way as a release.

A recommender is an object with one method::

    class Mine:
        def recommend(self, seeds, limit, where):
            return [("Artist", "Title"), ...]  # or song ids, best first

    harness.evaluate(location, work, plan, reporter, own={"mine": Mine()})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from catalog.errors import InputError
from catalog.model import Filter
from catalog.song import song_id
from evaluation.systems.release import to_song_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers
    from service.recommend.seeds import Seed

BATCH = 32  # number of queries in a batch

SongReference = UUID | str | tuple[str, str]
"""A recommended song: its song id, or its artist and title."""


class Recommender(Protocol):
    """Interface of a custom recommender."""

    def recommend(
        self, seeds: Sequence[Seed], limit: int, where: Filter
    ) -> Sequence[SongReference]:
        """Return at most `limit` songs that should come after the seeds, the best first.

        The last seed is the most recent song. Return only songs that match `where`, which excludes
        the seeds.
        """


class AdaptedSystem:
    """A system that calls a custom recommender, for one query at a time."""

    def __init__(self, name: str, recommender: Recommender, dataset: Dataset) -> None:
        self.key = self.name = name
        self._recommender = recommender
        self._songs = dataset.songs

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the rankings of all cases, in batches of shape (n, limit).

        Raises `InputError` if the recommender returns more than `limit` songs, or a value that is
        not a `SongReference`.
        """
        for batch in cases.split_batches(BATCH):
            playlists = self._songs.seeds(batch.seeds, batch.weights)
            rankings = [self._recommend(seeds, limit) for seeds in playlists]
            yield to_song_numbers(rankings, self._songs, limit)

    def _recommend(self, seeds: Sequence[Seed], limit: int) -> list[UUID]:
        seed_ids = frozenset(seed.song_id for seed in seeds if seed.song_id)
        ranking = list(self._recommender.recommend(seeds, limit, Filter(exclude_songs=seed_ids)))
        if len(ranking) > limit:
            raise InputError(
                f"{self.name} recommends {len(ranking)} songs, more than the limit of {limit}"
            )
        return [self._resolve(song) for song in ranking]

    def _resolve(self, song: SongReference) -> UUID:
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
