"""The benchmark `nextsong bench spelling`: how often and how fast misspelt songs are found.

Names are drawn from the songs of a release, and letters are inserted, deleted, replaced or swapped
with the next letter, at random positions. The search for each misspelt name is the one of the gRPC
method `SearchSongs` with the option `fuzzy`, but it runs in this process.
"""

from __future__ import annotations

import asyncio
import random
import string
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.console.tables import Console, Table
from catalog.draft import Draft
from catalog.manifest import Counts, Origin
from catalog.model import Filter
from catalog.schema import parse_song
from catalog.song import full_name, normalise, search_text, song_id
from evaluation.judge.intervals import Figure, estimate
from evaluation.synthetic.playlists import Shape, generate
from service.recommend.spelling import find_certain, search_by_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.manifest import Manifest
    from catalog.model import Song
    from catalog.store import OpenRelease, ReleaseStore
    from service.recommend.spelling import SimilarSong

Kind = Literal["name", "artist", "title"]
KINDS: tuple[Kind, ...] = ("name", "artist", "title")
"""Texts that are misspelt: "Artist - Title", the artist alone, and the title alone."""

EDITS = (1, 2)  # numbers of edits per text

LIMIT = 10  # maximum number of songs that a search returns


@dataclass(frozen=True)
class Result:
    """The figures of one kind of text with one number of edits.

    - `texts`: number of misspelt texts.
    - `first`: share of the texts for which the first song is right: the song itself, any song of
      the artist, or any song with the title.
    - `chosen`, `wrong`: shares of the texts for which the first song is similar enough to be used
      without asking the user, and for which such a song is wrong. Only for names.
    - `wrong_if_unknown`: the same as `wrong`, but for searches that leave out the song itself.
    - `ms_p50`, `ms_p99`: CPU time of a search in this process, in milliseconds.
    """

    kind: Kind
    edits: int
    texts: int
    first: Figure
    chosen: float | None
    wrong: float | None
    wrong_if_unknown: float | None
    ms_p50: float
    ms_p99: float


def measure(store: ReleaseStore, sample: int, seed: int) -> tuple[Manifest, list[Result]]:
    """Measure on `sample` random songs of the current release, or on all songs if there are fewer.

    Returns the manifest of the release, and a result for each kind of text and number of edits.
    """
    release = store.open()
    try:
        songs = [parse_song(row) for batch in store.batches(release) for row in batch]
        songs = sorted((song for song in songs if song.title), key=lambda song: song.ordinal)
        drawn = random.Random(seed).sample(songs, min(sample, len(songs)))
        results = [
            asyncio.run(_measure(release, drawn, kind, edits, seed))
            for kind in KINDS
            for edits in EDITS
        ]
        return release.manifest, results
    finally:
        release.close()


def misspell(text: str, edits: int, rng: random.Random) -> str:
    """Return `text` with `edits` random edits, and different from `text` after normalisation."""
    while True:
        changed = text
        for _ in range(edits):
            changed = _edit(changed, rng)
        if normalise(changed) not in {"", normalise(text)}:
            return changed


def _edit(text: str, rng: random.Random) -> str:
    kind = rng.choice(["insert", "delete", "replace", "swap"])
    at = rng.randrange(len(text) + (kind == "insert"))
    letter = rng.choice(string.ascii_lowercase)
    match kind:
        case "insert":
            return text[:at] + letter + text[at:]
        case "delete":
            return text[:at] + text[at + 1 :] if len(text) > 1 else letter
        case "replace":
            return text[:at] + letter + text[at + 1 :]
        case _:
            return text[:at] + text[at : at + 2][::-1] + text[at + 2 :]


async def _measure(
    release: OpenRelease, songs: Sequence[Song], kind: Kind, edits: int, seed: int
) -> Result:
    rng = random.Random(f"{seed} {kind} {edits}")
    hits, chosen, wrong, wrong_if_unknown, times = [], 0, 0, 0, []
    for song in songs:
        name = full_name(song.artist, song.title) if kind == "name" else getattr(song, kind)
        if not normalise(name):
            continue
        text = misspell(name, edits, rng)
        begin = time.process_time()
        similar = await search_by_name(release, text, LIMIT)
        times.append((time.process_time() - begin) * 1e3)
        hits.append(bool(similar) and _is_right(similar[0].song, song, kind))
        if kind == "name":
            choice = _choose(text, similar)
            chosen += choice is not None
            wrong += choice is not None and not _is_right(choice, song, kind)
            where = Filter(exclude_songs=frozenset([song.song_id]))
            others = await search_by_name(release, text, LIMIT, where)
            wrong_if_unknown += _choose(text, others) is not None
    shares = [count / len(hits) for count in (chosen, wrong, wrong_if_unknown)]
    return Result(
        kind,
        edits,
        len(hits),
        estimate({"first": np.array(hits, dtype=np.float64)})["first"],
        *(shares if kind == "name" else (None, None, None)),
        *(float(value) for value in np.percentile(times, [50, 99])),
    )


def _is_right(song: Song, wanted: Song, kind: Kind) -> bool:
    if kind == "name":
        return song.song_id == wanted.song_id
    return normalise(getattr(song, kind)) == normalise(getattr(wanted, kind))


def _choose(text: str, similar: Sequence[SimilarSong]) -> Song | None:
    names = [(found.song.artist, found.song.title, found.similarity) for found in similar]
    certain = find_certain(text, names)
    return None if certain is None else similar[certain].song


def publish_names(store: ReleaseStore, songs: int, folder: Path, reporter: Reporter) -> Manifest:
    """Publish a release of `songs` songs with synthetic names and random vectors.

    If the current release is identical, it is not published again.
    """
    content = f"{songs:08x}{b'spelling'.hex()}"
    current = store.current()
    if current and (manifest := store.manifest(current)).origin.content_fingerprint == content:
        return manifest
    path = folder / "songs.parquet"
    with reporter.task("generate") as task:
        artists = _write_names(songs, path)
        task.result(f"{songs:,} names of songs of {artists:,} artists")
    counts = Counts(songs, songs, 0, artists, songs, songs)
    origin = Origin("0" * 64, "0" * 64, content, "bench", {}, ["invented"], False)
    return store.publish(Draft(path, 2, counts, origin), reporter)


def _write_names(songs: int, path: Path) -> int:
    """Write a file of songs (see `catalog.draft.Draft`), and return the number of artists."""
    world = generate(Shape(playlists=1, songs=songs), seed=songs)
    artists = world.artist_name.take(pa.array(world.artist)).to_pylist()
    titles = world.title.to_pylist()
    keys = [
        (normalise(artist), normalise(title)) for artist, title in zip(artists, titles, strict=True)
    ]
    angles = np.random.default_rng(songs).uniform(0, 2 * np.pi, songs)
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    columns: dict[str, Any] = {
        "song_id": [str(song_id(*key)) for key in keys],
        "artist": artists,
        "title": titles,
        "artist_key": [[artist] for artist, _ in keys],
        "ordinal": pa.array(range(songs), pa.uint32()),
        "playlists": pa.array(range(songs, 0, -1), pa.int32()),
        "search_text": [search_text([artist], title) for artist, title in keys],
        "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 2),
        "seeds": pa.nulls(songs, pa.list_(pa.uint32())),
        "strengths": pa.nulls(songs, pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), path)
    return len(set(artists))


def to_json(manifest: Manifest, results: Sequence[Result]) -> dict[str, Any]:
    """Return the results, with the id and the size of the release, as a JSON object."""
    return {
        "release": manifest.release,
        "songs": manifest.counts.songs,
        "results": [asdict(result) for result in results],
    }


def print_results(manifest: Manifest, results: Sequence[Result]) -> None:
    """Print a table of the results."""
    table = Table(f"{manifest.counts.songs:,} songs, release {manifest.release}")
    table.add_column("misspelt")
    for name in ("edits", "texts", "found first", "95% interval", "chosen", "wrong"):
        table.add_column(name, justify="right")
    for name in ("wrong if unknown", "p50 ms", "p99"):
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(*_format(result))
    Console().print(table)


def _format(result: Result) -> Iterator[str]:
    first = result.first
    yield from (result.kind, str(result.edits), f"{result.texts:,}", f"{first.mean:.1%}")
    yield f"{first.low:.1%} to {first.high:.1%}" if first.low is not None else ""
    for share in (result.chosen, result.wrong, result.wrong_if_unknown):
        yield "" if share is None else f"{share:.1%}"
    yield from (f"{result.ms_p50:.1f}", f"{result.ms_p99:.1f}")
