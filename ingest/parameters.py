"""The parameters of an ingest run. After a change, a run repeats only the stages that use it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from catalog.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TRAINED_PLAYS = 6_000_000
"""Number of plays in all epochs of Word2Vec together, from which the number of epochs follows."""

NARROWEST_WINDOW, WIDEST_WINDOW = 10, 60
"""Bounds of the window of Word2Vec, in songs, if it is not given."""

FEWEST_EPOCHS, MOST_EPOCHS = 1, 60
"""Bounds of the number of epochs of Word2Vec if it is not given."""

LONE_PAIRS = 20_000_000
"""Default total of the co-occurrence weights of songs that share a single playlist."""

FEWEST_LONE, MOST_LONE = 5, 200
"""Bounds of `lone_neighbours` if it is not given."""

LARGE_CATALOG = 1_000_000
"""Songs from which those in a single training playlist are left out of the catalog."""

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
    """The parameters of a release. Raises `InputError` if a value is out of range."""

    seed: int = _parameter("split", 0, 0, 2**31 - 1, "Seed of the split and of training.")
    min_songs: int = _parameter("prepare", 3, 2, 1_000, "Drop playlists with fewer songs.")
    merge_versions: bool = _parameter(
        "prepare",
        False,
        0,
        1,
        "Treat remasters, radio edits and other versions of a song as one song.",
    )
    session_gap: float = _parameter(
        "prepare",
        30.0,
        0.1,
        100_000.0,
        "Minutes without a play that end a session, in files that have plays but no playlists.",
    )
    order: str = _choice(
        "split",
        ORDERS,
        "Whether the songs of a playlist are in the order in which they were played; auto: measure "
        "it. Without an order, each playlist is shuffled, and the distance and the direction from "
        "song to song are ignored.",
    )
    dimensions: int = _parameter("train", 64, 2, 2_048, "Dimensions of a song vector.")
    window: int | None = _parameter(
        "train",
        None,
        1,
        10_000,
        "Maximum distance of two songs that Word2Vec learns from.  [default: 60, down to 10 for "
        "large data]",
    )
    epochs: int | None = _parameter(
        "train",
        None,
        1,
        1_000,
        "Passes of Word2Vec over the training playlists.  [default: 60 to 1, fewer for more data]",
    )
    min_count: int = _parameter(
        "train", 5, 1, 1_000_000, "Minimum number of training playlists of a song with a vector."
    )
    negative: int = _parameter("train", 5, 1, 100, "Noise songs drawn for each pair of songs.")
    ns_exponent: float = _parameter(
        "train",
        0.75,
        -2.0,
        2.0,
        "Influence of popularity on the choice of noise songs, from 0 (none) to 1 (full).",
    )
    sample: float = _parameter(
        "train", 0.0, 0.0, 1.0, "Downsample songs with more than this share of the plays; 0: none."
    )
    skip_gram: bool = _parameter("train", True, 0, 1, "Train skip-gram instead of CBOW.")
    cooccurrence_window: int = _parameter(
        "count",
        60,
        1,
        10_000,
        "Maximum distance of two songs of a playlist that count as co-occurring.",
    )
    distance_power: float = _parameter(
        "count", 0.5, 0.0, 4.0, "Decrease of the co-occurrence weight with distance; 0: none."
    )
    backward: float = _parameter(
        "count",
        0.5,
        0.0,
        1.0,
        "Weight of a song before the seed, relative to one after it.",
    )
    seed_exponent: float = _parameter(
        "count",
        0.5,
        0.0,
        1.0,
        "Correction of co-occurrence for the popularity of the seed; 0: none.",
    )
    song_exponent: float = _parameter(
        "count",
        0.0,
        0.0,
        1.0,
        "Correction of co-occurrence for the popularity of the predicted song; 0: none.",
    )
    neighbours: int = _parameter(
        "count", 200, 1, 10_000, "Maximum number of songs that each seed predicts."
    )
    lone_neighbours: int | None = _parameter(
        "count",
        None,
        0,
        10_000,
        "Maximum number of songs that each seed predicts although they share only one playlist "
        "with it.  [default: 200 to 5, fewer for more songs]",
    )
    catalog_min: int | None = _parameter(
        "query",
        None,
        1,
        1_000_000,
        "Minimum number of training playlists of a song in the catalog.  [default: 1, or 2 if "
        "there are more than a million songs]",
    )
    dense_weight: float = _parameter(
        "query",
        0.2,
        0.001,
        10.0,
        "Weight of the cosine relative to the co-occurrence score in hybrid search; mode auto "
        "tries several unless this is given.",
    )
    query_decay: float = _parameter(
        "query",
        0.9,
        0.0,
        1.0,
        "Weight of a song of a query, relative to the next one, in the Word2Vec search.",
    )
    cooccurrence_decay: float = _parameter(
        "query", 0.95, 0.0, 1.0, "The same in the co-occurrence search."
    )
    ranker: bool = _parameter("rank", False, 0, 1, "Train a re-ranker as well.")
    mode: str = _choice(
        "query",
        MODES,
        "Default mode of the release; auto: of co-occurrence, hybrid search and the re-ranker, if "
        "there is one, the best on validation playlists.",
    )
    workers: int | None = _parameter(
        "train",
        None,
        1,
        256,
        "Training threads; 1 makes the vectors reproducible.  [default: all cores]",
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
            raise InputError("mode 'ranked' needs a re-ranker: add --ranker")

    def with_order(self, measured: str, given: Collection[str] = ()) -> Parameters:
        """Return the parameters with a definite order: the measured one if it is "auto".

        Without an order, the distance, direction and recency of songs have no meaning. Parameters
        that depend on them get values without effect, unless their names are in `given`.
        """
        order = measured if self.order == "auto" else self.order
        changes = _WITHOUT_ORDER if order == "none" else {}
        neutral = {name: value for name, value in changes.items() if name not in given}
        return replace(self, order=order, **neutral)  # type: ignore[arg-type]

    def of_stage(self, stage: str) -> dict[str, Any]:
        """Return the parameters of a stage by name: those that its result depends on."""
        return {
            name: getattr(self, name)
            for name, parameter in self.__dataclass_fields__.items()
            if parameter.metadata["stage"] == stage
        }

    def epochs_for(self, plays: int) -> int:
        """Return the number of epochs of Word2Vec for a number of training plays.

        The fewer plays there are, the more epochs are needed.
        """
        if self.epochs is not None:
            return self.epochs
        return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(TRAINED_PLAYS / max(1, plays))))

    def window_for(self, plays: int) -> int:
        """Return the window for this many training plays.

        Training time is proportional to plays times window times epochs. If there are more plays
        than `TRAINED_PLAYS`, one epoch is enough, and a narrower window limits the training time.
        """
        if self.window is not None:
            return self.window
        allowed = round(WIDEST_WINDOW * TRAINED_PLAYS / max(1, plays))
        return min(WIDEST_WINDOW, max(NARROWEST_WINDOW, allowed))

    def lone_neighbours_for(self, songs: int) -> int:
        """Return `lone_neighbours` for a number of songs.

        The more songs there are, the lower it is, because the weights of songs that share a single
        playlist take most of the space of a large release.
        """
        if self.lone_neighbours is not None:
            return self.lone_neighbours
        return min(MOST_LONE, max(FEWEST_LONE, LONE_PAIRS // max(1, songs)))

    def catalog_min_for(self, songs: int) -> int:
        """Return `catalog_min` for a number of songs in training playlists."""
        if self.catalog_min is not None:
            return self.catalog_min
        return 1 if songs <= LARGE_CATALOG else 2

    def training_threads(self) -> int:
        """Return the number of threads that train Word2Vec."""
        return self.workers or os.cpu_count() or 1
