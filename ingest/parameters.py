"""The parameters of an ingest run: what the release's manifest records, and what redoes a stage."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from catalog.errors import InputError

TRAINED_PLAYS = 6_000_000
FEWEST_EPOCHS, MOST_EPOCHS = 5, 60


def _parameter(default: Any, low: float, high: float, text: str) -> Any:
    return field(default=default, metadata={"range": (low, high), "help": text})


@dataclass(frozen=True)
class Parameters:
    """All that shapes a release, beside the input files. Raises `InputError` when out of range."""

    seed: int = _parameter(0, 0, 2**31 - 1, "Seed of the split and of the training.")
    min_songs: int = _parameter(3, 2, 1_000, "Drop playlists of fewer songs.")
    dimensions: int = _parameter(64, 2, 2_048, "Numbers in a song vector.")
    window: int = _parameter(60, 1, 10_000, "Songs to either side that count as context.")
    epochs: int | None = _parameter(
        None,
        1,
        1_000,
        "Passes over the training playlists.  [default: 60 to 5, fewer for more data]",
    )
    min_count: int = _parameter(5, 1, 1_000_000, "Songs in fewer training playlists get no vector.")
    negative: int = _parameter(5, 1, 100, "Noise songs drawn for each true pair.")
    ns_exponent: float = _parameter(
        0.75, -2.0, 2.0, "How far noise songs follow popularity: 1 fully, 0 not at all."
    )
    sample: float = _parameter(
        0.0, 0.0, 1.0, "Thin out songs with more than this share of the plays; 0: none."
    )
    skip_gram: bool = _parameter(True, 0, 1, "Train skip-gram, or else CBOW.")
    query_decay: float = _parameter(
        0.9, 0.0, 1.0, "What a song of a query counts, relative to the one after it."
    )
    workers: int | None = _parameter(
        None, 1, 256, "Training threads; 1 gives the same vectors each time.  [default: all cores]"
    )

    def __post_init__(self) -> None:
        for name, parameter in self.__dataclass_fields__.items():
            low, high = parameter.metadata["range"]
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}, and must be from {low} to {high}")

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
