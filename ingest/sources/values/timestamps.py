"""Conversion of positions and times to numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MICRO = 1e6
# The time formats of Last.fm's web pages, of e-mail and of the Twitter API. All of them name the
# month. Dates that consist only of digits, such as 04/05/2010, are ambiguous unless in ISO 8601.
_NAMED_MONTHS = (
    "%d %b %Y, %H:%M",
    "%d %b %Y, %H:%M:%S",
    "%d %b %Y %H:%M",
    "%d %b %Y %H:%M:%S",
    "%d %b %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a %b %d %H:%M:%S %z %Y",
    "%b %d, %Y, %I:%M %p",
    "%b %d, %Y %I:%M %p",
)


def to_positions(values: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Convert `values` (n strings or doubles) to numbers.

    A date and time becomes seconds since 1970. It may be in ISO 8601 format or contain the English
    name of the month, and is in UTC if it has no time zone. Blank text and NaN become null. Returns
    n doubles, and a mask of the values that cannot be converted, which are null.
    """
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        return _drop_infinite(values, np.zeros(len(values), bool))
    text = pc.utf8_trim_whitespace(values)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    for kind in (pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return _drop_infinite(to_seconds(text.cast(kind)), np.zeros(len(text), bool))
        except pa.ArrowInvalid:
            continue
    coded = text.dictionary_encode()
    numbers = pa.array(
        [_parse_number(value) for value in coded.dictionary.to_pylist()], pa.float64()
    )
    result = numbers.take(coded.indices)
    wrong = pc.and_(pc.is_valid(text), pc.is_null(result))
    return _drop_infinite(result, wrong.to_numpy(zero_copy_only=False))


def to_seconds(values: pa.Array) -> pa.Array:
    """Return numbers as doubles, and dates and times as seconds since 1970. Nulls stay null."""
    if pa.types.is_temporal(values.type):
        zone = values.type.tz if pa.types.is_timestamp(values.type) else None
        micros = values.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
        return pc.divide(micros.cast(pa.float64(), safe=False), _MICRO)
    return values.cast(pa.float64(), safe=False)


def _drop_infinite(
    numbers: pa.Array, wrong: NDArray[np.bool_]
) -> tuple[pa.Array, NDArray[np.bool_]]:
    finite = pc.fill_null(pc.is_finite(numbers), True)
    if pc.all(finite).as_py() is False:
        wrong |= ~finite.to_numpy(zero_copy_only=False)
        numbers = pc.if_else(finite, numbers, pa.scalar(None, pa.float64()))
    return numbers, wrong


def _parse_number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        moment = _parse_moment(text)
        if moment is None:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return number if math.isfinite(number) else None


def _parse_moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        pass
    for form in _NAMED_MONTHS if any(c.isalpha() for c in text) else ():
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 -- UTC unless it has a zone
        except ValueError:
            continue
    return None
