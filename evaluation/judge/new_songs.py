"""Measurement of how often a release recommends new songs, which no training playlist contains.

A play is an occurrence of a song in a playlist. All plays of a random sample of songs are removed
from the training playlists, and a temporary release is made from the remaining plays, with the
parameters of the evaluated release. The sampled songs stay in its catalog, as if a catalog file
listed them. Each play of a sampled song in a held-out playlist becomes a case. Only songs in
training playlists are sampled, so no song is in the catalog merely because it is a label.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.draft import Draft
from catalog.errors import MismatchError
from evaluation.baselines.artist_songs import ArtistSongs
from evaluation.judge.intervals import Figure, estimate
from evaluation.metrics.ranking import hits
from evaluation.metrics.relevance import match_labels
from evaluation.protocol.cases import HeldOutCases, read_playlists
from evaluation.protocol.dataset import SongLists, is_ordered
from evaluation.systems.location import StoreLocation
from evaluation.systems.release import Release
from ingest.learn.arrays import StageFiles, encode_keys
from ingest.learn.cooccurrence import count_cooccurrence
from ingest.learn.word2vec import train_word2vec
from ingest.parameters import Parameters
from ingest.prepare.catalog_songs import find_songs
from ingest.publish.points import PointOptions, assemble_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.console.progress import Reporter
    from catalog.manifest import Manifest
    from catalog.store import OpenRelease
    from evaluation.protocol.cases import Split
    from evaluation.protocol.dataset import Dataset, SongNumbers
    from evaluation.systems.release import System

SHARE = 0.05
"""Share of the songs in training playlists that become new songs."""

MAX_CASES = 4_000
"""Maximum number of cases. If there are more, a random sample is used."""

KS = (10, 100)  # values of k, in songs, for hit rates and coverage


@dataclass(frozen=True)
class NewSongScores:
    """The figures of one system on new songs.

    - `key`, `name`: the name of the system in JSON, and in reports.
    - `figures`: hit rates (hr@k), and the share of the new songs that are in at least one ranking
      (coverage@k), by metric.
    """

    key: str
    name: str
    figures: dict[str, Figure]


@dataclass(frozen=True)
class NewSongs:
    """The figures of a release and of baselines on cases whose label is a new song.

    - `share`: share of the songs in training playlists that were made new songs.
    - `songs`, `catalog`: number of these songs, and of all songs in the catalog.
    - `queries`, `available`: number of cases, and number of cases before sampling.
    - `playlists`: number of held-out playlists with a case.
    - `systems`: the temporary release in each mode, the expected figures of random rankings, the
      baseline `ArtistSongs`, and the evaluated release in the first mode, which was trained with
      the plays of the songs.
    """

    share: float
    songs: int
    catalog: int
    queries: int
    available: int
    playlists: int
    systems: list[NewSongScores]


@dataclass(frozen=True)
class NewSongsPlan:
    """The options of the measurement, as in `evaluation.judge.harness.Plan`."""

    split: Split
    modes: Sequence[str] = ("auto",)
    sample: int | None = None
    seed: int = 0
    processes: int | None = None


def measure_new_songs(
    release: OpenRelease, dataset: Dataset, plan: NewSongsPlan, reporter: Reporter
) -> NewSongs:
    """Measure how often a release recommends new songs, with a temporary release.

    `dataset` is the dataset of `release`. Raises `MismatchError` if no playlist of the split
    contains a sampled song, and the errors of publishing.
    """
    manifest = release.manifest
    taken = _draw_songs(dataset, plan.seed)
    all_cases = _list_cases(dataset, taken, plan, ordered=is_ordered(manifest.origin.parameters))
    cases = all_cases.sample(min(MAX_CASES, plan.sample or MAX_CASES), plan.seed)
    reduced = _take_out(dataset, taken)

    def score(system: System) -> NewSongScores:
        return _score(system, cases, taken, reporter)

    with tempfile.TemporaryDirectory(prefix=".new-songs.", dir=dataset.work) as path:
        location = StoreLocation(Path(path))
        _publish(manifest, reduced, location, reporter)
        opened = location.open_release()
        try:
            open_release = partial(location.open_release, opened.manifest.release)
            scores = [
                score(Release(opened, reduced, mode, open_release, plan.processes))
                for mode in plan.modes
            ]
        finally:
            opened.close()
    catalog = len(reduced.songs.by_popularity)
    with_plays = score(Release(release, dataset, plan.modes[0]))
    name = f"{with_plays.name}, if the songs have their plays"
    scores += [
        _expect_chance(catalog, len(cases)),
        score(_build_artist_songs(reduced, plan.seed)),
        replace(with_plays, key="with-plays", name=name),
    ]
    return NewSongs(
        share=SHARE,
        songs=len(taken),
        catalog=catalog,
        queries=len(cases),
        available=len(all_cases),
        playlists=len({*cases.playlist_ids}),
        systems=scores,
    )


def _draw_songs(dataset: Dataset, seed: int) -> SongNumbers:
    """Draw the share `SHARE` of the catalog songs that are in training playlists.

    Returns song numbers in ascending order.
    """
    songs = dataset.songs
    played = np.flatnonzero(songs.in_catalog & (songs.playlists > 0)).astype(np.int32)
    count = max(1, round(SHARE * len(played)))
    return np.sort(np.random.default_rng(seed).choice(played, min(count, len(played)), False))


def _list_cases(
    dataset: Dataset, taken: SongNumbers, plan: NewSongsPlan, *, ordered: bool
) -> HeldOutCases:
    """Return one case for each play of a sampled song (`taken`) in a held-out playlist.

    The seeds are the songs before the play or, if playlists are not in play order, all other songs.
    """
    playlists = read_playlists(dataset.work, plan.split)
    ids, names, seeds, labels = [], [], [], []
    for row, playlist_id in enumerate(playlists.ids):
        songs = playlists.songs[row]
        for position in np.flatnonzero(np.isin(songs, taken)).tolist():
            others = songs[:position] if ordered else np.delete(songs, position)
            if len(others):
                ids.append(playlist_id)
                names.append(playlists.names[row])
                seeds.append(others)
                labels.append(songs[position : position + 1])
    if not ids:
        raise MismatchError(
            f"no {plan.split} playlist contains one of the {len(taken):,} songs whose plays were "
            f"removed from training: ingest more playlists, or use another --seed"
        )
    return HeldOutCases(ids, names, SongLists.from_lists(seeds), SongLists.from_lists(labels))


def _take_out(dataset: Dataset, taken: SongNumbers) -> Dataset:
    """Return the dataset with the songs `taken` in the catalog but in no training playlist."""
    is_kept = ~np.isin(dataset.train.songs, taken)
    lengths = np.bincount(dataset.train.rows[is_kept], minlength=len(dataset.train))
    train = SongLists(
        np.concatenate([[0], np.cumsum(lengths[lengths > 0])]), dataset.train.songs[is_kept]
    )
    songs = replace(
        dataset.songs,
        playlists=np.bincount(train.songs, minlength=len(dataset.songs)),
        listed=np.union1d(dataset.songs.by_popularity, dataset.songs.listed),
    )
    return replace(dataset, songs=songs, train=train)


def _publish(
    manifest: Manifest,
    dataset: Dataset,
    location: StoreLocation,
    reporter: Reporter,
) -> None:
    """Publish a release of the dataset with the parameters of `manifest`."""
    folder, origin = location.folder, manifest.origin
    names = {parameter.name for parameter in fields(Parameters)}
    parameters = Parameters(
        **{name: value for name, value in origin.parameters.items() if name in names}
    )
    files = _write_files(dataset, folder, manifest)
    counted = count_cooccurrence(files.train, folder, parameters, reporter)
    train_word2vec(files.train, folder, parameters, reporter)
    options = PointOptions(
        catalog_min=dataset.songs.min_playlists,
        payload=manifest.payload,
        song_exponent=parameters.song_exponent,
        scale=counted.scale,
        with_new_songs=True,
    )
    scale = {"cooccurrence_scale": counted.scale}
    with assemble_points(files, folder, options) as points:
        draft = Draft(
            points.path,
            manifest.dimensions,
            points.counts,
            replace(origin, parameters=origin.parameters | scale),
            manifest.payload,
            ranker=manifest.ranker,
        )
        store = location.open_store()
        try:
            store.publish(draft, reporter)
        finally:
            store.close()


def _write_files(dataset: Dataset, folder: Path, manifest: Manifest) -> StageFiles:
    """Write the songs and the training playlists to `folder`, in the format of ingest stages."""
    songs = pq.read_table(find_songs(dataset.work))
    listed = np.zeros(len(songs), bool)
    listed[dataset.songs.listed] = True
    if "listed" in songs.column_names:
        songs = songs.drop_columns(["listed"])
    pq.write_table(songs.append_column("listed", pa.array(listed)), folder / "songs.parquet")
    lists = pa.ListArray.from_arrays(dataset.train.offsets.astype(np.int32), dataset.train.songs)
    train = pa.table({"playlist_id": pa.array(range(len(lists))), "songs": lists})
    pq.write_table(train, folder / "train.parquet")
    return StageFiles(
        songs=folder / "songs.parquet",
        train=folder / "train.parquet",
        validation=folder / "none.parquet",
        cooccurrence=folder / "cooccurrence.parquet",
        vectors=folder / "vectors.parquet",
        fields=sorted(name for name, kind in manifest.payload.items() if kind == "keyword"),
    )


def _build_artist_songs(dataset: Dataset, seed: int) -> ArtistSongs:
    keys = pq.read_table(find_songs(dataset.work), columns=["artist_keys"])["artist_keys"]
    songs = dataset.songs
    return ArtistSongs(encode_keys(keys.combine_chunks()), songs.playlists, songs.in_catalog, seed)


def _score(
    system: System, cases: HeldOutCases, taken: SongNumbers, reporter: Reporter
) -> NewSongScores:
    with reporter.task("score") as task:
        rankings = np.concatenate(list(system.recommend(cases, KS[-1])))
        task.result(f"{system.name}: {len(cases):,} plays of new songs")
    matches = match_labels(rankings, cases.labels)
    figures = estimate({f"hr@{k}": hits(matches, k) for k in KS})
    for k in KS:
        recommended = np.isin(taken, rankings[:, :k])
        figures[f"coverage@{k}"] = Figure(float(recommended.mean()))
    return NewSongScores(system.key, system.name, figures)


def _expect_chance(catalog: int, queries: int) -> NewSongScores:
    """Return the expected figures of random rankings of the catalog."""
    figures = {f"hr@{k}": Figure(min(1.0, k / catalog)) for k in KS}
    figures |= {f"coverage@{k}": Figure(1 - (1 - min(1.0, k / catalog)) ** queries) for k in KS}
    return NewSongScores("chance", "chance", figures)
