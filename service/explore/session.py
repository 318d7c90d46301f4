"""The state of a browser tab: the request that the user builds, and the songs of its seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from catalog.song import full_name
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEFAULT_LIMIT = 20  # songs to recommend

WEIGHTS = (1.0, 2.0, 4.0, 0.5)
"""Positive weights of a song, in the order in which clicks on its weight button select them."""

DISLIKED = -1.0
"""Weight of a song that the user dislikes."""


def start_request() -> pb.RecommendRequest:
    """Return the request of a page that was opened without a link."""
    return pb.RecommendRequest(limit=DEFAULT_LIMIT, explain=True)


@dataclass
class Session:
    """The request of a browser tab, which the user changes step by step.

    - `request`: its seeds are the playlist; its other fields are the options of the page.
    - `songs`: songs of the catalog that the page has shown or resolved, by id.
    - `resolutions`: how each seed was resolved in the last response, by its song id and its name.
    """

    request: pb.RecommendRequest = field(default_factory=start_request)
    songs: dict[str, pb.Song] = field(default_factory=dict)
    resolutions: dict[tuple[str, str], pb.Resolution] = field(default_factory=dict)

    @property
    def seeds(self) -> Sequence[pb.Seed]:
        """The songs of the playlist, in play order."""
        return self.request.seeds

    def add(self, song: pb.Song, weight: float = 1.0) -> int:
        """Add a song to the end of the playlist, and return its index.

        If the playlist already has the song, the song gets the new weight and keeps its place.
        """
        self.songs[song.song_id] = song
        for index, seed in enumerate(self.seeds):
            if seed.song_id == song.song_id:
                self.weigh(index, weight)
                return index
        seed = self.request.seeds.add(song_id=song.song_id)
        if weight != 1:
            seed.weight = weight
        return len(self.seeds) - 1

    def remove(self, index: int) -> None:
        """Remove the song at `index`."""
        del self.request.seeds[index]

    def move(self, index: int, target: int) -> int:
        """Move the song at `index` to the index `target`, and return its new index.

        An index outside the playlist stands for the first or the last song.
        """
        seeds = list(self.seeds)
        target = max(0, min(target, len(seeds) - 1))
        seeds.insert(target, seeds.pop(index))
        self.replace(seeds)
        return target

    def replace(self, seeds: Iterable[pb.Seed]) -> None:
        """Replace the playlist."""
        copies = [pb.Seed.FromString(seed.SerializeToString()) for seed in seeds]
        del self.request.seeds[:]
        self.request.seeds.extend(copies)

    def weigh(self, index: int, weight: float) -> None:
        """Set the weight of the song at `index`. The weight must not be 0."""
        seed = self.request.seeds[index]
        if weight == 1:
            seed.ClearField("weight")
        else:
            seed.weight = weight

    def weigh_more(self, index: int) -> None:
        """Give the song at `index` the next weight in `WEIGHTS`, or the first after the last."""
        weight = get_weight(self.seeds[index])
        position = WEIGHTS.index(weight) + 1 if weight in WEIGHTS else 0
        self.weigh(index, WEIGHTS[position % len(WEIGHTS)])

    def toggle_dislike(self, index: int) -> None:
        """Set the weight of the song at `index` to `DISLIKED`, or to 1 if it is negative."""
        self.weigh(index, 1.0 if get_weight(self.seeds[index]) < 0 else DISLIKED)

    def learn(self, response: pb.RecommendResponse) -> None:
        """Store the songs and resolutions in `response`, the response to the session's request.

        Seeds given by name are replaced by the ids of the songs that they name.
        """
        for seed, resolved in zip(self.seeds, response.seeds, strict=True):
            if resolved.resolution == pb.RESOLUTION_SONG:
                self.songs[resolved.song.song_id] = resolved.song
                seed.song_id = resolved.song.song_id
                seed.ClearField("artist")
                seed.ClearField("title")
            self.resolutions[seed.song_id, full_name(seed.artist, seed.title)] = resolved.resolution

    def describe(self, seed: pb.Seed) -> tuple[str, str, str]:
        """Return the title and artist of a seed, and a note if the catalog lacks the song."""
        song = self.songs.get(seed.song_id)
        if song is not None:
            return song.title or song.song_id, song.artist, ""
        resolution = self.resolutions.get((seed.song_id, full_name(seed.artist, seed.title)))
        if resolution == pb.RESOLUTION_ARTIST:
            note = "not in this release; its artist is"
        elif resolution == pb.RESOLUTION_UNKNOWN:
            note = "not in this release"
        else:
            note = ""
        return seed.title or seed.song_id, seed.artist, note


def get_weight(seed: pb.Seed) -> float:
    """Return the weight of a seed. The default is 1."""
    return seed.weight if seed.HasField("weight") else 1.0
