"""Slices: the figures of a system on groups of similar cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.judge.intervals import Figure, estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evaluation.judge.scoring import SystemScores
    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset

    Members = NDArray[np.bool_]  # shape (cases,)

METRICS = ("hr@10", "hr@100", "mrr@10")

LENGTHS = ((1, 1), (2, 4), (5, 9), (10, 19), (20, 49), (50, 99), (100, None))
"""Minimum and maximum number of songs in a query, for each slice by length."""

ARTIST_OF_LABEL = "artist of the label"

HEAD, MIDDLE = 0.5, 0.9
"""Bounds of the slices by popularity.

A play is an occurrence of a song in a training playlist. The head consists of the most popular
songs, which have the share `HEAD` of all plays. The head and the middle together have the share
`MIDDLE`. All other songs with plays are the tail.
"""


@dataclass(frozen=True)
class Slice:
    """The figures of all systems on one slice (a group of similar cases).

    `group` and `name` are the labels of the slice in reports, and `queries` is the number of cases.
    `figures` maps the key of each system to its figures by metric.
    """

    group: str
    name: str
    queries: int
    figures: dict[str, dict[str, Figure]]


def measure_slices(
    systems: Sequence[SystemScores], cases: HeldOutCases, dataset: Dataset
) -> list[Slice]:
    """Return the figures of each system on each slice that contains at least one case."""
    return [
        Slice(group, name, int(members.sum()), _estimate_figures(systems, members))
        for group, members_by_name in group_cases(cases, dataset).items()
        for name, members in members_by_name.items()
        if members.any()
    ]


def _estimate_figures(
    systems: Sequence[SystemScores], members: Members
) -> dict[str, dict[str, Figure]]:
    # One call for all systems is faster, because the systems share the bootstrap resamples.
    estimates = estimate(
        {
            (system.key, metric): system.per_query[metric][members]
            for system in systems
            for metric in METRICS
            if metric in system.per_query
        }
    )
    figures: dict[str, dict[str, Figure]] = {system.key: {} for system in systems}
    for (key, metric), figure in estimates.items():
        figures[key][metric] = figure
    return figures


def group_cases(cases: HeldOutCases, dataset: Dataset) -> Mapping[str, Mapping[str, Members]]:
    """Return a mask of the cases in each slice, shape (cases,), by group and name of the slice.

    Each case is in exactly one slice of each group, except in the group `ARTIST_OF_LABEL`: cases
    whose label has no artist are in none of its slices. This group is omitted if no song has an
    artist.
    """
    groups = {
        "length of the query": _slice_by_length(cases),
        "popularity of the label": _slice_by_label_popularity(cases, dataset),
        "known songs of the query": _slice_by_known_songs(cases, dataset),
        "vectors of the query": _slice_by_vectors(cases, dataset),
        "last song of the query": _slice_by_last_song(cases, dataset),
    }
    if dataset.songs.has_artists:
        groups[ARTIST_OF_LABEL] = _slice_by_label_artist(cases, dataset)
    return groups


def _slice_by_length(cases: HeldOutCases) -> dict[str, Members]:
    length = cases.seeds.lengths
    return {
        _name_length(low, high): (length >= low) & (length <= (high or np.inf))
        for low, high in LENGTHS
    }


def _name_length(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} songs or more"
    return f"{low} to {high} songs" if high > low else "1 song"


def _slice_by_label_popularity(cases: HeldOutCases, dataset: Dataset) -> dict[str, Members]:
    tier = _find_popularity_tiers(dataset)[cases.label]
    return {
        "head: half of all plays": tier == 1,
        "middle: the next 40%": tier == 2,
        "tail: the last 10%": tier == 3,
        "new: listed, without plays": tier == 4,
        "not in the catalog": tier == 0,
    }


def _find_popularity_tiers(dataset: Dataset) -> NDArray[np.int64]:
    """Return the popularity tier of each song, shape (songs,).

    The tiers are 1 (head), 2 (middle), 3 (tail), 4 (in the catalog without plays) and 0 (not in the
    catalog).
    """
    order = dataset.songs.by_popularity
    plays = dataset.songs.playlists[order]
    total = np.cumsum(plays)
    share_before = (total - plays) / max(1, total[-1] if len(total) else 1)
    tiers = np.zeros(len(dataset.songs), dtype=np.int64)
    tiers[order] = 1 + (share_before >= HEAD) + (share_before >= MIDDLE)
    tiers[order[plays == 0]] = 4
    return tiers


def _slice_by_known_songs(cases: HeldOutCases, dataset: Dataset) -> dict[str, Members]:
    """Return the slices by the share of seeds that are in the catalog.

    Cases with no seed in the catalog are divided into two slices, depending on whether the catalog
    has a song by an artist of a seed.
    """
    seeds, songs = cases.seeds, dataset.songs
    share = _count_seeds(cases, _in_catalog(cases, dataset)) / np.maximum(seeds.lengths, 1)
    if songs.has_artists:
        known_artists = np.unique(songs.artist[songs.by_popularity])
        artist = np.where(seeds.songs >= 0, songs.artist[seeds.songs], -1)
        artist_in_catalog = (artist >= 0) & np.isin(artist, known_artists)
        has_artist = _count_seeds(cases, artist_in_catalog) > 0
        unknown = {
            "none, no artist either": (share == 0) & ~has_artist,
            "none, but artists": (share == 0) & has_artist,
        }
    else:
        unknown = {"none": share == 0}
    return unknown | {
        "up to half": (share > 0) & (share <= 0.5),
        "more than half": (share > 0.5) & (share < 1),
        "all": share == 1,
    }


def _slice_by_vectors(cases: HeldOutCases, dataset: Dataset) -> dict[str, Members]:
    """Return the slices by the number of seeds that are in the catalog and have a dense vector.

    Seeds in fewer than `min_count` training playlists have no dense vector, so the query uses only
    their co-occurrence weights.
    """
    in_catalog = _in_catalog(cases, dataset)
    is_frequent = dataset.songs.playlists[cases.seeds.songs] >= dataset.min_count
    known = _count_seeds(cases, in_catalog)
    with_vector = _count_seeds(cases, in_catalog & is_frequent)
    return {
        "no song is known": known == 0,
        "all below min_count": (known > 0) & (with_vector == 0),
        "some below min_count": (with_vector > 0) & (with_vector < known),
        "none below min_count": (with_vector > 0) & (with_vector == known),
    }


def _slice_by_last_song(cases: HeldOutCases, dataset: Dataset) -> dict[str, Members]:
    last = cases.seeds.songs[cases.seeds.offsets[1:] - 1]
    playlists = np.where(last >= 0, dataset.songs.playlists[last], 0)
    return {
        "cold: in no playlist": playlists == 0,
        "cool: below min_count": (playlists >= 1) & (playlists < dataset.min_count),
        "warm: min_count or more": playlists >= max(1, dataset.min_count),
    }


def _slice_by_label_artist(cases: HeldOutCases, dataset: Dataset) -> dict[str, Members]:
    """Return the slices by whether the artist of the first label is also the artist of a seed."""
    seeds, artist = cases.seeds, dataset.songs.artist
    label_artist = artist[cases.label]
    is_same = (seeds.songs >= 0) & (artist[seeds.songs] == label_artist[seeds.rows])
    is_in_query = _count_seeds(cases, is_same) > 0
    has_artist = label_artist >= 0
    return {
        "is in the query": has_artist & is_in_query,
        "is not in the query": has_artist & ~is_in_query,
    }


def _in_catalog(cases: HeldOutCases, dataset: Dataset) -> NDArray[np.bool_]:
    """Return whether each seed is in the catalog, shape (seeds of all cases,)."""
    songs = cases.seeds.songs
    return (songs >= 0) & dataset.songs.in_catalog[songs]


def _count_seeds(cases: HeldOutCases, is_counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of seeds of each case for which `is_counted` is True, shape (cases,).

    `is_counted` has shape (seeds of all cases,).
    """
    return np.bincount(cases.seeds.rows[is_counted], minlength=len(cases))
