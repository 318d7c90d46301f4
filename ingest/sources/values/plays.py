"""Find plays in a history that do not count: short plays, skipped plays, and podcasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.sources.columns.known_names import fold
from ingest.sources.values.payload import convert_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

NO_SONG = "not songs, such as podcasts"
SKIPPED = "skipped"

_NAMES = ("artist", "title", "track_id")


def find_uncounted(
    fields: Mapping[str, pa.Array], columns: Mapping[str, str], min_play: float
) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Yield masks of the plays that do not count, each with the reason.

    `fields` maps roles to arrays of n values, and `columns` maps roles to column names. Plays do
    not count if they were skipped or were shorter than `min_play` seconds. If the file has the
    lengths of plays, plays without artist, title and track id do not count either. A play
    counts if its length is missing.
    """
    if "played" in fields:
        named = [_is_filled(fields[role]) for role in _NAMES if role in fields]
        yield ~np.logical_or.reduce(named), NO_SONG
    if "skipped" in fields:
        _, skipped = convert_values(fields["skipped"], "boolean")
        yield np.asarray(pc.fill_null(pc.equal(skipped, "true"), False)), SKIPPED
    if "played" in fields and min_play > 0:
        _, played = convert_values(fields["played"], "float")
        unit = 1e-3 if _is_in_milliseconds(columns["played"]) else 1.0
        is_short = pc.less(pc.multiply(played, unit), min_play)
        yield np.asarray(pc.fill_null(is_short, False)), f"played for less than {min_play:g} s"


def _is_filled(values: pa.Array) -> NDArray[np.bool_]:
    text, _ = convert_values(values, "text")
    return np.asarray(pc.is_valid(text))


def _is_in_milliseconds(name: str) -> bool:
    folded = fold(name.rpartition(".")[2])
    return folded.startswith("ms") or folded.endswith("ms") or "milli" in folded
