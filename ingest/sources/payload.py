"""Further columns that travel with each song: what they are called, their kinds and their values.

A song's value is the one that most of its rows have. A value that is not of its column's kind, too
long, or with a NUL in it is left out, counted, and shown; its row stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import InputError
from catalog.schema import PAYLOAD_INDEXES, RESERVED_FIELDS
from ingest.sources.usable import unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from catalog.schema import Kind

Given = Literal["keyword", "integer", "float", "boolean", "text"]
KINDS: tuple[Given, ...] = get_args(Given)
RESERVED = RESERVED_FIELDS | set(PAYLOAD_INDEXES) | {"song", "title_key", "vector", "seeds"}
RESERVED |= {"strengths"}
PREFIX = "payload:"
"""Stands before the field's name where rows and roles are named."""

_FIELD = re.compile(r"[^\W\d]\w*", re.ASCII)
_TRUTH = {"true": "true", "yes": "true", "t": "true", "y": "true", "1": "true"}
_TRUTH |= {"false": "false", "no": "false", "f": "false", "n": "false", "0": "false"}
_TYPES: Mapping[Given, pa.DataType] = {"integer": pa.int64(), "float": pa.float64()}
_BLANK = " \t\n\v\f\r\u00a0"
_EXAMPLES = 5


@dataclass(frozen=True)
class Extra:
    """A payload field: its name, the column it comes from, and its kind if the user gave one."""

    field: str
    column: str
    kind: Given | None = None

    @property
    def role(self) -> str:
        """The name under which its values are read."""
        return PREFIX + self.field


def parse(text: str) -> Extra:
    """`[FIELD=]COLUMN[:KIND]` -> an `Extra`. Raises `InputError`."""
    rest, colon, kind = text.rpartition(":")
    if not colon or kind not in KINDS:
        if colon and re.fullmatch(r"[a-z]+", kind):
            raise InputError(f"--payload {text}: the kinds are {', '.join(KINDS)}")
        rest, kind = text, ""
    name, equals, column = rest.partition("=")
    column = column if equals else name
    if not equals:
        name = re.sub(r"\W+", "_", name.strip(), flags=re.ASCII).strip("_")
    if not _FIELD.fullmatch(name) or not column:
        raise InputError(
            f"--payload {text}: write FIELD=COLUMN:KIND, with a FIELD of letters, digits and _"
        )
    # DuckDB, which carries the values, takes names that differ in case alone for the same.
    taken = next((one for one in sorted(RESERVED) if one.casefold() == name.casefold()), None)
    if taken:
        raise InputError(
            f"--payload {text}: every song has a field '{taken}' already; "
            f"give another name: --payload NAME={column}"
        )
    return Extra(name, column, kind or None)  # type: ignore[arg-type]


def parse_all(texts: Iterable[str]) -> tuple[Extra, ...]:
    """Several of them, no two of one name, whatever its case. Raises `InputError`."""
    extras = tuple(parse(text) for text in texts)
    names: dict[str, str] = {}
    for extra in extras:
        other = names.setdefault(extra.field.casefold(), extra.field)
        if other is not extra.field:
            both = f"'{other}'" if other == extra.field else f"'{other}' and '{extra.field}'"
            raise InputError(
                f"--payload: two fields are called {both}: give one another name, NAME=COLUMN"
            )
    return extras


def settled(extras: Sequence[Extra], natural: Sequence[Mapping[str, Given]]) -> dict[str, Given]:
    """The kind of each field: as given, or as all files hold it, or else a keyword.

    `natural` holds, for each file, the kinds of its typed columns by role.
    """
    kinds: dict[str, Given] = {}
    for extra in extras:
        found = {kinds_of.get(extra.role, "keyword") for kinds_of in natural}
        kinds[extra.field] = extra.kind or (found.pop() if len(found) == 1 else "keyword")
    return kinds


def natural_kind(kind: pa.DataType) -> Given | None:
    """The kind that an Arrow type is, or None when it is text."""
    if pa.types.is_dictionary(kind):
        return natural_kind(kind.value_type)
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    return "float" if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else None


def row_type(kind: Given) -> pa.DataType:
    """The Arrow type of its values in the rows."""
    return _TYPES.get(kind, pa.string())


def index_kind(kind: Given) -> Kind:
    """How the engine indexes it."""
    return "keyword" if kind == "boolean" else kind


@dataclass
class Tally:
    """How many rows had a value for a field, none, or one of the wrong kind, with examples."""

    kind: Given
    filled: int = 0
    empty: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    def convert(self, values: pa.Array, file: str, line: NDArray[np.int64]) -> pa.Array:
        """The values in the type of their kind, null where there is none; counts them.

        They stand on these lines of the file, which the examples name.
        """
        text, result = _converted(values, self.kind)
        given = np.asarray(pc.is_valid(text))
        kept = np.asarray(pc.is_valid(result))
        self.filled += int(kept.sum())
        self.empty += int((~given).sum())
        wrong = np.flatnonzero(given & ~kept)
        self.wrong += len(wrong)
        for i in wrong[: _EXAMPLES - len(self.examples)].tolist():
            self.examples.append(f"{str(text[i])[:40]!r} ({file}, line {line[i]})")
        return result

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dict(vars(self))


def _converted(values: pa.Array, kind: Given) -> tuple[pa.Array, pa.Array]:
    """What stands there (null where nothing does), and the same in the type of `kind`."""
    if kind in {"integer", "float"} and pa.types.is_integer(values.type):
        numbers = _in_range(values) if kind == "integer" else values
        return values, numbers.cast(row_type(kind), safe=False)
    text = as_text(values)
    text = pc.utf8_trim(text, characters=_BLANK)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    if kind in {"keyword", "text"}:
        usable = text
        for flags, _ in unusable(text):
            usable = pc.if_else(pa.array(flags), pa.scalar(None, pa.string()), usable)
        return text, usable
    try:
        if kind == "integer":
            return text, text.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    coded = text.dictionary_encode()
    parse_one = {"integer": _integer, "float": _float, "boolean": _boolean}[kind]
    parsed = [None if one is None else parse_one(one) for one in coded.dictionary.to_pylist()]
    return text, pa.array(parsed, row_type(kind)).take(coded.indices)


def _in_range(values: pa.Array) -> pa.Array:
    """Integers with those beyond int64 left out, which would wrap around to negative ones."""
    if not pa.types.is_uint64(values.type):
        return values
    beyond = pc.greater(values, pa.scalar(2**63 - 1, pa.uint64()))
    return pc.if_else(beyond, pa.scalar(None, pa.uint64()), values)


def as_text(values: pa.Array) -> pa.Array:
    """Values of any plain type as text; whole floats, such as 3.0, as "3"; NaN as null."""
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
        integers = pc.if_else(whole, values, 0.0).cast(pa.int64()).cast(pa.string())
        return pc.if_else(whole, integers, values.cast(pa.string()))
    return values.cast(pa.string())


def _integer(text: str) -> int | None:
    if re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        return int(text) if len(text) < 20 and -(2**63) <= int(text) < 2**63 else None
    number = _float(text)
    if number is None or number != int(number) or abs(number) >= 2.0**53:
        return None
    return int(number)


def _float(text: str) -> float | None:
    try:
        number = float(text) if "_" not in text else np.nan
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _boolean(text: str) -> str | None:
    return _TRUTH.get(text.lower())
