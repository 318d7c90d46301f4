"""A map of the songs: a t-SNE projection of their vectors, coloured by word or by artist.

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

    from evaluation.protocol.dataset import Dataset, SongNumbers

MIN_SONGS, MAX_SONGS = 20, 1_200  # number of songs on a map

COLOURS = 8  # maximum number of colours

SIZE = 1_000  # width and height of the map, in the unit of the coordinates of dots

MIN_COLOURED_BY_WORD = 0.15
"""Minimum share of the songs that have a word as colour; below, songs are coloured by artist."""

MIN_LIFT = 1.5
"""Minimum lift of a word for a song.

The lift is the share of the song's playlists with the word in their name, divided by the share of
all playlists with the word in their name."""

MIN_NAMES_OF_WORD, MIN_NAMES_OF_SONG = 5, 2  # playlist names with a word: in total, per song

MIN_WORDS = 3  # minimum number of frequent words; with fewer, songs are coloured by artist

BY_WORD = "the word that stands out most in the names of its playlists, compared with all names"
BY_ARTIST = "the artists with the most songs here"

_WORD = re.compile(r"[^\W\d_]{3,}")
_STOP_WORDS = frozenset(
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
    """A song on the map. `colour` is an index into `SongMap.legend`, or -1 for no colour."""

    x: float
    y: float
    size: float
    colour: int
    name: str


@dataclass(frozen=True, slots=True)
class SongMap:
    """The dots of a map, the meaning of each colour, and an explanation of all colours.

    The explanation is empty if no dot has a colour.
    """

    dots: list[Dot]
    legend: list[str]
    coloured_by: str


@dataclass(frozen=True)
class _Colouring:
    """The colours of the songs.

    `colours`, shape (songs,), contains an index into `legend` for each song, or -1 for no colour.
    `legend` contains the label of each colour.
    """

    colours: NDArray[np.int64]
    legend: list[str]
    explanation: str


def draw_map(dataset: Dataset, seed: int = 0) -> SongMap | None:
    """Return a map of the most popular songs.

    Returns None if fewer than `MIN_SONGS` songs have a vector.
    """
    if dataset.vectors is None:
        return None
    songs = dataset.songs.by_popularity
    songs = songs[dataset.has_vector[songs]][:MAX_SONGS]
    if len(songs) < MIN_SONGS:
        return None
    positions = _project(dataset.vectors[songs], seed)
    colouring = _colour_by_word(dataset, songs) or _colour_by_artist(dataset, songs)
    playlists = dataset.songs.playlists[songs]
    sizes = 3 + 9 * np.sqrt(playlists / playlists.max())
    dots = [
        Dot(float(x), float(y), float(size), int(colour), dataset.songs.name(int(song)))
        for (x, y), size, colour, song in zip(
            positions, sizes, colouring.colours, songs, strict=True
        )
    ]
    dots.sort(key=lambda dot: (dot.colour >= 0, -dot.size))
    return SongMap(dots, colouring.legend, colouring.explanation)


def _project(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Return a position on the map for each vector, shape (n, 2)."""
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    model = TSNE(init="pca", perplexity=perplexity, metric="cosine", random_state=seed, n_jobs=1)
    # The threads of t-SNE wait for each other in a loop, which is slow if other work uses the
    # cores.
    with threadpool_limits(1):
        positions = np.asarray(model.fit_transform(vectors), dtype=np.float64)
    low, high = np.quantile(positions, [0.002, 0.998], axis=0)
    margin = 0.03 * SIZE
    scaled = (positions - low) / np.maximum(high - low, 1e-9)
    on_map: NDArray[np.float64] = margin + np.clip(scaled, 0, 1) * (SIZE - 2 * margin)
    return on_map


def _colour_by_artist(dataset: Dataset, songs: SongNumbers) -> _Colouring:
    artist = dataset.songs.artist[songs]
    colours = np.full(len(songs), -1, dtype=np.int64)
    legend = []
    counts = Counter(artist[artist >= 0].tolist())
    for colour, (number, _) in enumerate(counts.most_common(COLOURS)):
        members = np.flatnonzero(artist == number)
        colours[members] = colour
        legend.append(dataset.songs.seed(int(songs[members[0]])).artist)
    return _Colouring(colours, legend, BY_ARTIST if legend else "")


def _colour_by_word(dataset: Dataset, songs: SongNumbers) -> _Colouring | None:
    """Colour each song by the frequent word of playlist names with the highest lift for the song.

    Returns None if there are too few frequent words, or if too few songs would have a colour.
    """
    path = finished_stage(dataset.work, "split").folder / "train.parquet"
    names = pq.read_table(path, columns=["name"])["name"].to_pylist()
    words_of_names = [set(_WORD.findall(name.casefold())) - _STOP_WORDS for name in names]
    counts = Counter(word for words in words_of_names for word in words)
    frequent = [word for word, count in counts.most_common(COLOURS) if count >= MIN_NAMES_OF_WORD]
    if len(frequent) < MIN_WORDS:
        return None
    train = dataset.train
    names_of_song = np.zeros((len(frequent), len(dataset.songs)))
    for number, word in enumerate(frequent):
        has_word = np.array([word in words for words in words_of_names])
        plays = train.songs[has_word[train.rows]]
        names_of_song[number] = np.bincount(plays, minlength=len(dataset.songs))
    expected = np.array([counts[word] for word in frequent])[:, None] / len(names)
    lift = names_of_song / np.maximum(dataset.songs.playlists, 1) / expected
    lift[(names_of_song < MIN_NAMES_OF_SONG) | (lift <= MIN_LIFT)] = 0
    colours = np.where(lift.max(axis=0) > 0, lift.argmax(axis=0), -1)[songs]
    if (colours >= 0).mean() < MIN_COLOURED_BY_WORD:
        return None
    return _Colouring(colours, frequent, BY_WORD)
