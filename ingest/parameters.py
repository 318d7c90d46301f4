"""The parameters of an ingest run: what the release's manifest records, and what redoes a stage."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from catalog.errors import InputError

TRAINED_PLAYS = 6_000_000
FEWEST_EPOCHS, MOST_EPOCHS = 5, 60


def _parameter(stage: str, default: Any, low: float, high: float, text: str) -> Any:
    return field(default=default, metadata={"stage": stage, "range": (low, high), "help": text})


@dataclass(frozen=True)
class Parameters:
    """All that shapes a release, beside the input files. Raises `InputError` when out of range."""

    seed: int = _parameter("split", 0, 0, 2**31 - 1, "Seed of the split and of the training.")
    min_songs: int = _parameter("prepare", 3, 2, 1_000, "Drop playlists of fewer songs.")
    dimensions: int = _parameter("train", 64, 2, 2_048, "Numbers in a song vector.")
    window: int = _parameter("train", 60, 1, 10_000, "Songs to either side that count as context.")
    epochs: int | None = _parameter(
        "train",
        None,
        1,
        1_000,
        "Passes over the training playlists.  [default: 60 to 5, fewer for more data]",
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
    dense_weight: float = _parameter(
        "query", 0.1, 0.001, 1.0, "Weight of Word2Vec beside co-occurrence in hybrid answers."
    )
    query_decay: float = _parameter(
        "query", 0.9, 0.0, 1.0, "What a song of a query counts, relative to the one after it."
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
            low, high = parameter.metadata["range"]
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}, and must be from {low} to {high}")

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

    def training_threads(self) -> int:
        """How many threads to train with."""
        return self.workers or os.cpu_count() or 1
