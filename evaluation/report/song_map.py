"""The songs on a plane: near each other where their vectors are, coloured by what is known of them.

van der Maaten and Hinton, "Visualizing data using t-SNE", 2008.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ingest.stages import finished_stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluation.protocol.dataset import Data, Numbers

SONGS = 1_200

COLOURS = 8

SIZE = 1_000
"""Width and height of the drawing, in its own units."""

FEWEST_WORDS = 0.15
"""Songs are coloured by words of playlist names where so many songs have one, or else by artist."""

BY_WORD = "the word that stands out most in the names of its playlists, beside those of all"

_WORD = re.compile(r"[^\W\d_]{3,}")
_EMPTY_WORDS = frozenset(
    [
        "the",
        "and",
        "for",
        "you",
        "with",
        "from",
        "that",
        "this",
        "your",
        "all",
        "music",
        "songs",
        "song",
        "playlist",
        "list",
        "mix",
        "new",
        "best",
        "top",
        "liked",
        "radio",
        "session",
        "sessions",
        "favourites",
        "favorites",
        "favorite",
        "starred",
        "vol",
        "volume",
        "hits",
    ]
)


@dataclass(frozen=True, slots=True)
class Dot:
    """A song on the map; `colour` is -1 where it belongs to none of the names of the legend."""

    x: float
    y: float
    size: float
    colour: int
    name: str


@dataclass(frozen=True, slots=True)
class Map:
    """Dots, the names of their colours, and what the names are."""

    dots: list[Dot]
    legend: list[str]
    coloured_by: str


def drawn(data: Data, seed: int = 0) -> Map | None:
    """The most popular songs with a vector; None where fewer than 20 have one."""
    if data.vectors is None:
        return None
    known = np.asarray(data.vectors.any(axis=1))
    songs = data.songs.by_popularity
    songs = songs[known[songs]][:SONGS]
    if len(songs) < 20:
        return None
    places = _placed(data.vectors[songs], seed)
    colours, legend, by = _coloured(data, songs)
    size = np.sqrt(data.songs.playlists[songs] / data.songs.playlists[songs].max())
    dots = [
        Dot(float(x), float(y), 3 + 9 * float(one), int(colour), data.songs.name(int(song)))
        for (x, y), one, colour, song in zip(places, size, colours, songs, strict=True)
    ]
    dots.sort(key=lambda dot: (dot.colour >= 0, -dot.size))
    return Map(dots, legend, by)


def _placed(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    model = TSNE(init="pca", perplexity=perplexity, metric="cosine", random_state=seed, n_jobs=1)
    # Its threads wait for each other in a loop: where cores are busy they make it slower by far.
    with threadpool_limits(1):
        places: NDArray[np.float64] = np.asarray(model.fit_transform(vectors), dtype=np.float64)
    low, high = np.quantile(places, [0.002, 0.998], axis=0)
    margin = 0.03 * SIZE
    scaled = (places - low) / np.maximum(high - low, 1e-9)
    shown: NDArray[np.float64] = margin + np.clip(scaled, 0, 1) * (SIZE - 2 * margin)
    return shown


def _coloured(data: Data, songs: Numbers) -> tuple[NDArray[np.int64], list[str], str]:
    words = _words(data)
    if words is not None:
        best, names = words
        colours = best[songs]
        if (colours >= 0).mean() >= FEWEST_WORDS:
            return colours, names, BY_WORD
    artists = Counter(data.songs.artist[songs].tolist()).most_common(COLOURS)
    colours = np.full(len(songs), -1, dtype=np.int64)
    names = []
    for colour, (artist, _) in enumerate(artists):
        mine = data.songs.artist[songs] == artist
        colours[mine] = colour
        names.append(data.songs.seed(int(songs[int(np.flatnonzero(mine)[0])])).artist)
    return colours, names, "the artists with the most songs here"


def _words(data: Data) -> tuple[NDArray[np.int64], list[str]] | None:
    """For each song the word that stands out most in its playlists' names, of the commonest."""
    path = finished_stage(data.work, "split").folder / "train.parquet"
    names = pq.read_table(path, columns=["name"])["name"].to_pylist()
    found = [set(_WORD.findall(name.casefold())) - _EMPTY_WORDS for name in names]
    counts = Counter(word for words in found for word in words)
    common = [word for word, count in counts.most_common(COLOURS) if count >= 5]
    if len(common) < 3:
        return None
    table = np.zeros((len(common), len(data.songs)))
    for at, word in enumerate(common):
        has = np.array([word in words for words in found])
        table[at] = np.bincount(data.train.songs[has[data.train.rows]], minlength=len(data.songs))
    expected = np.array([counts[word] for word in common])[:, None] / len(names)
    lift = table / np.maximum(data.songs.playlists, 1) / expected
    best = np.where((table >= 2) & (lift > 1.5), lift, 0)
    return np.where(best.max(axis=0) > 0, best.argmax(axis=0), -1), common
