"""The parameters of an ingest run: what the release's manifest records, and what redoes a stage."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from catalog.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TRAINED_PLAYS = 6_000_000
NARROWEST_WINDOW, WIDEST_WINDOW = 10, 60
FEWEST_EPOCHS, MOST_EPOCHS = 1, 60
LONE_PAIRS = 20_000_000
LARGE_CATALOG = 1_000_000
FEWEST_LONE, MOST_LONE = 5, 200


ORDERS = ("auto", "played", "none")
_WITHOUT_ORDER: Mapping[str, float] = {
    "distance_power": 0.0,
    "backward": 1.0,
    "query_decay": 1.0,
    "cooccurrence_decay": 1.0,
}
MODES = ("auto", "dense", "cooccurrence", "hybrid", "ranked")


def _parameter(stage: str, default: Any, low: float, high: float, text: str) -> Any:
    return field(default=default, metadata={"stage": stage, "range": (low, high), "help": text})


def _choice(stage: str, choices: tuple[str, ...], text: str) -> Any:
    return field(default=choices[0], metadata={"stage": stage, "choices": choices, "help": text})


@dataclass(frozen=True)
class Parameters:
    """All that shapes a release, beside the input files. Raises `InputError` when out of range."""

    seed: int = _parameter("split", 0, 0, 2**31 - 1, "Seed of the split and of the training.")
    min_songs: int = _parameter("prepare", 3, 2, 1_000, "Drop playlists of fewer songs.")
    merge_versions: bool = _parameter(
        "prepare", False, 0, 1, "Take remasters, radio edits and the like for one song."
    )
    session_gap: float = _parameter(
        "prepare",
        30.0,
        0.1,
        100_000.0,
        "In files of plays without playlists: minutes of silence that end a session.",
    )
    order: str = _choice(
        "split",
        ORDERS,
        "Whether songs stand in the order they were played; auto: measure it. Without an order, "
        "each playlist is shuffled, and distance and direction count for nothing.",
    )
    dimensions: int = _parameter("train", 64, 2, 2_048, "Numbers in a song vector.")
    window: int | None = _parameter(
        "train",
        None,
        1,
        10_000,
        "Songs to either side that count as context.  [default: 60, down to 10 for more data than "
        "one epoch can take in]",
    )
    epochs: int | None = _parameter(
        "train",
        None,
        1,
        1_000,
        "Passes over the training playlists.  [default: 60 to 1, fewer for more data]",
    )
    min_count: int = _parameter(
        "train", 5, 1, 1_000_000, "Songs in fewer training playlists get no vector."
    )
    negative: int = _parameter("train", 5, 1, 100, "Noise songs drawn for each true pair.")
    ns_exponent: float = _parameter(
        "train", 0.75, -2.0, 2.0, "How far noise songs follow popularity: 1 fully, 0 not at all."
    )
    sample: float = _parameter(
        "train", 0.0, 0.0, 1.0, "Thin out songs with more than this share of the plays; 0: none."
    )
    skip_gram: bool = _parameter("train", True, 0, 1, "Train skip-gram, or else CBOW.")
    cooccurrence_window: int = _parameter(
        "count", 60, 1, 10_000, "Songs of a playlist this far apart still count as co-occurring."
    )
    distance_power: float = _parameter(
        "count", 0.5, 0.0, 4.0, "How fast co-occurrence fades with distance; 0: not at all."
    )
    backward: float = _parameter(
        "count",
        0.5,
        0.0,
        1.0,
        "What a song that comes before the seed counts, beside one after it.",
    )
    seed_exponent: float = _parameter(
        "count", 0.5, 0.0, 1.0, "How far a seed's own popularity is divided out of co-occurrence."
    )
    song_exponent: float = _parameter(
        "count", 0.0, 0.0, 1.0, "How far the predicted song's popularity is divided out."
    )
    neighbours: int = _parameter(
        "count", 200, 1, 10_000, "Songs that each seed predicts, the strongest."
    )
    lone_neighbours: int | None = _parameter(
        "count",
        None,
        0,
        10_000,
        "Of those, songs that met the seed in one playlist only.  [default: 200 to 5, fewer for "
        "more songs]",
    )
    catalog_min: int | None = _parameter(
        "query",
        None,
        1,
        1_000_000,
        "Songs in fewer training playlists are left out of the catalog.  [default: 1, or 2 where "
        "that leaves more than a million songs]",
    )
    dense_weight: float = _parameter(
        "query",
        0.2,
        0.001,
        10.0,
        "Weight of the cosine beside the score of co-occurrence, from 0 to 1, in hybrid answers; "
        "mode auto tries several, where none is given.",
    )
    query_decay: float = _parameter(
        "query",
        0.9,
        0.0,
        1.0,
        "What a song of a query counts by Word2Vec, relative to the one after it.",
    )
    cooccurrence_decay: float = _parameter("query", 0.95, 0.0, 1.0, "The same by co-occurrence.")
    ranker: bool = _parameter("rank", False, 0, 1, "Train the second-stage ranker too.")
    mode: str = _choice(
        "query",
        MODES,
        "How the release answers where nothing is asked for; auto: what finds most in validation "
        "playlists of co-occurrence, hybrid search and the ranker, if there is one.",
    )
    workers: int | None = _parameter(
        "train",
        None,
        1,
        256,
        "Training threads; 1 gives the same vectors each time.  [default: all cores]",
    )

    def __post_init__(self) -> None:
        for name, parameter in self.__dataclass_fields__.items():
            value = getattr(self, name)
            choices = parameter.metadata.get("choices")
            if choices:
                if value not in choices:
                    raise InputError(f"{name} is {value}, and must be {' or '.join(choices)}")
                continue
            low, high = parameter.metadata["range"]
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}, and must be from {low} to {high}")
        if self.mode == "ranked" and not self.ranker:
            raise InputError("mode 'ranked' needs a ranker: add --ranker")

    def in_order(self, found: str, told: Collection[str] = ()) -> Parameters:
        """The same, with the order settled: as it was told, or else as it was `found`.

        Without an order, distance, direction and recency mean nothing: the parameters that weigh
        them are set to count nothing, but those that the user has `told`, by name.
        """
        settled = found if self.order == "auto" else self.order
        changes = _WITHOUT_ORDER if settled == "none" else {}
        kept = {name: value for name, value in changes.items() if name not in told}
        return replace(self, order=settled, **kept)  # type: ignore[arg-type]

    def of_stage(self, stage: str) -> dict[str, Any]:
        """The parameters, by name, that shape what this stage makes of its input."""
        return {
            name: getattr(self, name)
            for name, parameter in self.__dataclass_fields__.items()
            if parameter.metadata["stage"] == stage
        }

    def epochs_for(self, plays: int) -> int:
        """How many epochs to train on this many training plays.

        Small data needs many passes before rare songs settle; large data brings its own repetition.
        """
        if self.epochs is not None:
            return self.epochs
        return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(TRAINED_PLAYS / max(1, plays))))

    def window_for(self, plays: int) -> int:
        """How many songs to either side are context, with this many training plays.

        Time grows with plays and window; where one epoch is more than enough, the window narrows.
        """
        if self.window is not None:
            return self.window
        allowed = round(WIDEST_WINDOW * TRAINED_PLAYS / max(1, plays))
        return min(WIDEST_WINDOW, max(NARROWEST_WINDOW, allowed))

    def lone_neighbours_for(self, songs: int) -> int:
        """How many neighbours that it met only once a seed keeps, with this many songs in all.

        They help rare songs most, and are what makes a large release large.
        """
        if self.lone_neighbours is not None:
            return self.lone_neighbours
        return min(MOST_LONE, max(FEWEST_LONE, LONE_PAIRS // max(1, songs)))

    def catalog_min_for(self, songs: int) -> int:
        """In how many training playlists a song must be, where `songs` are in one or more."""
        if self.catalog_min is not None:
            return self.catalog_min
        return 1 if songs <= LARGE_CATALOG else 2

    def training_threads(self) -> int:
        """How many threads to train with."""
        return self.workers or os.cpu_count() or 1
