"""Use the release's LightGBM model to re-rank the candidates of several searches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.recency import Recency
from catalog.reranker import CHANNELS, RECENT, SongTraits, features, merge_candidates
from service.recommend.weights import build_dense_query, build_sparse_query, list_entries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from catalog.model import Hit, Search, Song, Vector
    from catalog.reranker import Channel, Reranker
    from catalog.store import OpenRelease
    from service.recommend.seeds import ResolvedSeed

MAX_CHANNEL_DEPTH = max(channel.depth for channel in CHANNELS)  # maximum songs per channel


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of a query.

    - `hits`: the n distinct songs, in the order in which they first appear.
    - `scores`: the score of each song in each channel, shape (channels, n); NaN if the channel did
      not return the song.
    - `played`: the known songs of the playlist, in play order.
    - `recent_vector`: the mean vector of the last `RECENT` songs of `played`; None if none of them
      has a vector.
    """

    hits: list[Hit]
    scores: NDArray[np.float64]
    played: list[Song]
    recent_vector: Vector | None


def build_channel_searches(search: Search, seeds: Sequence[ResolvedSeed]) -> list[Search]:
    """Return a search for each channel of the re-ranker.

    The limits of the searches are the same as in training, because ranks and scores depend on them.
    The limits are higher only if the query asks for more songs than the deepest channel returns.
    """
    return [_build_channel_search(search, channel, seeds) for channel in CHANNELS]


def _build_channel_search(
    search: Search, channel: Channel, seeds: Sequence[ResolvedSeed]
) -> Search:
    recency = Recency(channel.power)
    entries = () if channel.dense else list_entries(seeds, recency, {})
    return replace(
        search,
        vector=build_dense_query(seeds, recency) if channel.dense else None,
        weights=build_sparse_query(entries),
        limit=channel.depth if search.limit <= MAX_CHANNEL_DEPTH else search.limit,
    )


def gather_candidates(seeds: Sequence[ResolvedSeed], channels: Sequence[list[Hit]]) -> Candidates:
    """Return the distinct candidates of the channels."""
    hits: dict[int, Hit] = {}
    lists = []
    for channel_hits in channels:
        ordinals = [hit.song.ordinal for hit in channel_hits]
        hits |= zip(ordinals, channel_hits, strict=True)
        channel_scores = np.array([hit.score for hit in channel_hits], np.float64)
        lists.append((np.array(ordinals, np.int64), channel_scores))
    songs, scores = merge_candidates(lists)
    played = [seed for seed in seeds if seed.weight > 0 and seed.point]
    return Candidates(
        [hits[ordinal] for ordinal in songs.tolist()],
        scores,
        [seed.point.song for seed in played if seed.point],
        build_dense_query(played[-RECENT:], Recency()),
    )


async def fetch_similarities(
    release: OpenRelease, queries: Sequence[Candidates]
) -> list[dict[UUID, float]]:
    """Return the cosine similarities of each query's candidates to its `recent_vector`.

    All queries share one request.
    """
    pairs = [
        (candidates.recent_vector, [hit.song.song_id for hit in candidates.hits])
        for candidates in queries
        if candidates.recent_vector is not None and candidates.hits
    ]
    cosines = iter(await release.similarities(pairs) if pairs else [])
    return [
        next(cosines) if candidates.recent_vector is not None and candidates.hits else {}
        for candidates in queries
    ]


def rerank(
    reranker: Reranker, candidates: Candidates, similarities: dict[UUID, float]
) -> list[Hit]:
    """Return the candidates, ordered and scored by the probabilities that the model predicts."""
    if not candidates.hits:
        return []
    songs = [hit.song for hit in candidates.hits]
    cosines = np.array([similarities.get(song.song_id, np.nan) for song in songs])
    numbers: list[dict[Any, int]] = [{} for _ in ("artist", *reranker.fields)]
    seed_traits = _number_traits(candidates.played, reranker.fields, numbers)
    song_traits = _number_traits(songs, reranker.fields, numbers)
    scores = reranker.score(features(candidates.scores, cosines, song_traits, seed_traits))
    return [
        replace(candidates.hits[index], score=float(scores[index]))
        for index in np.argsort(-scores, kind="stable").tolist()
    ]


def _number_traits(
    songs: Sequence[Song], fields: Sequence[str], numbers: list[dict[Any, int]]
) -> SongTraits:
    """Return the traits of songs, with numbers for artists and for values of `fields`.

    `numbers` holds a dictionary for artists, followed by one dictionary per field. New values are
    added to these dictionaries.
    """
    groups = np.empty((len(numbers), len(songs)), np.int64)
    artist_numbers, *field_numbers = numbers
    groups[0] = [
        artist_numbers.setdefault(song.artist_key, len(artist_numbers)) if song.artist_keys else -1
        for song in songs
    ]
    for row, name, known in zip(groups[1:], fields, field_numbers, strict=True):
        values = [song.extra.get(name) for song in songs]
        row[:] = [-1 if value is None else known.setdefault(value, len(known)) for value in values]
    return SongTraits(np.array([song.playlists for song in songs]), groups)
