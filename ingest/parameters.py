"""The parameters of an ingest run. A changed parameter repeats only the stages that use it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from catalog.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

TRAINED_PLAYS = 1_500_000
"""Target for the number of plays times the number of epochs in Word2Vec training."""

FULL_WINDOW_PLAYS = 3_000_000
"""Number of training plays above which the default window of Word2Vec is narrower."""

NARROWEST_WINDOW, WIDEST_WINDOW = 10, 60
"""Bounds of the default window of Word2Vec, in songs."""

FEWEST_EPOCHS, MOST_EPOCHS = 1, 15
"""Bounds of the default number of Word2Vec epochs."""

LONE_PAIRS = 20_000_000
"""Target for the number of weights of songs that share only one playlist, summed over all seeds."""

FEWEST_LONE, MOST_LONE = 5, 200
"""Bounds of the default value of `lone_neighbours`."""

LARGE_CATALOG = 1_000_000
"""Number of songs above which, by default, songs in only one training playlist are left out."""

ORDERS = ("auto", "played", "none")
_WITHOUT_ORDER: Mapping[str, float] = {
    "distance_power": 0.0,
    "backward": 1.0,
    "recency": 0.0,
    "dense_recency": 0.0,
}
MODES = ("auto", "dense", "cooccurrence", "hybrid", "ranked")

SELECTED = ("recency", "dense_recency", "song_exponent", "content_shares", "dense_weight")
"""Parameters that are selected on validation playlists unless they are given."""

REPLACED: Mapping[str, str] = {"cooccurrence_decay": "recency", "query_decay": "dense_recency"}
"""Parameters of earlier versions, and the parameters that replace them."""

EQUAL_AGE = 10
"""Age at which a decay and the recency converted from it give a seed the same weight.

The age of a seed is the number of later seeds.
"""

DEFAULT_SHARES: Mapping[str, float] = {"artist": 0.2}
MAX_SHARE = 100.0


def _parameter(stage: str, default: Any, low: float, high: float, text: str) -> Any:
    return field(default=default, metadata={"stage": stage, "range": (low, high), "help": text})


def _check_shares(shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if not 0 <= share <= MAX_SHARE:
            raise InputError(
                f"the content share of {name} is {share}, and must be from 0 to {MAX_SHARE:g}"
            )


def _choice(stage: str, choices: tuple[str, ...], text: str) -> Any:
    return field(default=choices[0], metadata={"stage": stage, "choices": choices, "help": text})


def convert_decay(decay: float) -> float:
    """Return the recency whose weights are similar to the weights of an exponential decay.

    `decay` must be above 0. The recency and the decay give the same weight to a seed of age
    `EQUAL_AGE`.
    """
    return -EQUAL_AGE * math.log(decay) / math.log(EQUAL_AGE + 1)


def describe_replacement(name: str) -> str:
    """Return a text that names the replacement for a parameter in `REPLACED`."""
    new = REPLACED[name]
    return (
        f"use {new} (--{new.replace('_', '-')}) instead: the weight of a seed that A seeds follow "
        f"is (A + 1) ** -{new}. A decay of 1 is a recency of 0, 0.95 about "
        f"{convert_decay(0.95):.1f}, 0.9 about {convert_decay(0.9):.1f} and 0.7 about "
        f"{convert_decay(0.7):.1f}; without a value, the best one is selected on validation "
        f"playlists"
    )


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
        "Passes of Word2Vec over the training playlists.  [default: 15 to 1, fewer for more data]",
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
    recency: float = _parameter(
        "query",
        0.5,
        0.0,
        10.0,
        "Decrease of the weight of a seed with the number of later seeds, in the co-occurrence "
        "search; 0: none. Selected on validation playlists unless it is given.",
    )
    dense_recency: float = _parameter("query", 0.5, 0.0, 10.0, "The same in the Word2Vec search.")
    song_exponent: float = _parameter(
        "query",
        0.0,
        0.0,
        1.0,
        "Correction of co-occurrence for the popularity of the predicted song; 0: none. Selected "
        "on validation playlists unless it is given.",
    )
    content_shares: Mapping[str, float] = field(
        default_factory=lambda: dict(DEFAULT_SHARES),
        metadata={
            "stage": "query",
            "shares": True,
            "help": "Weight of songs that share a value of FIELD with the seeds, relative to "
            "co-occurrence; FIELD is artist or a keyword field of --payload. Selected on "
            "validation playlists unless it is given.",
        },
    )
    dense_weight: float = _parameter(
        "query",
        0.05,
        0.001,
        10.0,
        "Weight of the cosine relative to the co-occurrence score in hybrid search. Selected on "
        "validation playlists unless it is given.",
    )
    ranker: bool | None = field(
        default=None,
        metadata={
            "stage": "rank",
            "range": (0, 1),
            "is_flag": True,
            "help": "Train a re-ranker, and keep it even if it is not better than the selected "
            "mode.  [default: train it with 500 training playlists or more, keep it if it is "
            "better]",
        },
    )
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
            if "shares" in parameter.metadata:
                _check_shares(value)
                continue
            choices = parameter.metadata.get("choices")
            if choices:
                if value not in choices:
                    raise InputError(f"{name} is {value}, and must be {' or '.join(choices)}")
                continue
            low, high = parameter.metadata["range"]
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}, and must be from {low} to {high}")
        if self.mode == "ranked" and self.ranker is False:
            raise InputError("mode 'ranked' needs a re-ranker: leave out --no-ranker")

    @property
    def needs_ranker(self) -> bool:
        """Whether a re-ranker must be trained. If training is not possible, the run fails."""
        return bool(self.ranker) or self.mode == "ranked"

    @property
    def allows_ranker(self) -> bool:
        """Whether a re-ranker is trained if there are enough playlists."""
        return self.needs_ranker or (self.ranker is None and self.mode == "auto")

    def fixed(self, given: Collection[str]) -> frozenset[str]:
        """Return the names of the parameters in `SELECTED` that were given and must not be changed.

        A value other than the default counts as given. If `content_shares` is given, only the
        shares of the fields in it are fixed. If `order` is "none", recencies are fixed.
        """
        defaults = Parameters()
        names = {name for name in SELECTED if getattr(self, name) != getattr(defaults, name)}
        if self.order == "none":
            names |= {"recency", "dense_recency"}
        return frozenset(names | ({*given} & {*SELECTED}))

    def with_order(self, measured: str, given: Collection[str] = ()) -> Parameters:
        """Return the parameters, with `order` set to the measured order if it is "auto".

        If the order is "none", the distance, direction and recency of songs have no meaning.
        Parameters that depend on the order then get neutral values, except those in `given`.
        """
        order = measured if self.order == "auto" else self.order
        changes = _WITHOUT_ORDER if order == "none" else {}
        neutral = {name: value for name, value in changes.items() if name not in given}
        return replace(self, order=order, **neutral)  # type: ignore[arg-type]

    def of_stage(self, stage: str) -> dict[str, Any]:
        """Return the parameters that influence the result of a stage, by name."""
        values = {
            name: getattr(self, name)
            for name, parameter in self.__dataclass_fields__.items()
            if parameter.metadata["stage"] == stage
        }
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
        }

    def epochs_for(self, plays: int) -> int:
        """Return the number of Word2Vec epochs for a number of training plays.

        The fewer plays there are, the more epochs are needed.
        """
        if self.epochs is not None:
            return self.epochs
        return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(TRAINED_PLAYS / max(1, plays))))

    def window_for(self, plays: int) -> int:
        """Return the window of Word2Vec for a number of training plays.

        Training time is proportional to plays times window times epochs. If there are more plays
        than `FULL_WINDOW_PLAYS`, a narrower window limits the training time.
        """
        if self.window is not None:
            return self.window
        allowed = round(WIDEST_WINDOW * FULL_WINDOW_PLAYS / max(1, plays))
        return min(WIDEST_WINDOW, max(NARROWEST_WINDOW, allowed))

    def lone_neighbours_for(self, songs: int) -> int:
        """Return the value of `lone_neighbours` for a number of songs.

        The default decreases with the number of songs, because weights of songs that share only one
        playlist take up most of the space in a large release.
        """
        if self.lone_neighbours is not None:
            return self.lone_neighbours
        return min(MOST_LONE, max(FEWEST_LONE, LONE_PAIRS // max(1, songs)))

    def catalog_min_for(self, songs: int) -> int:
        """Return the value of `catalog_min` for a number of songs in training playlists."""
        if self.catalog_min is not None:
            return self.catalog_min
        return 1 if songs <= LARGE_CATALOG else 2

    def training_threads(self) -> int:
        """Return the number of threads for training Word2Vec."""
        return self.workers or os.cpu_count() or 1
