"""Payload columns: additional columns of files, stored with each song in Qdrant.

The value of a song is the most common value in its rows. Values that are not of the column's kind,
are too long or contain NUL are counted and ignored, but their rows are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import InputError
from catalog.schema import PAYLOAD_INDEXES, RESERVED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from catalog.schema import Kind

PayloadKind = Literal["keyword", "integer", "float", "boolean", "text"]
KINDS: tuple[PayloadKind, ...] = get_args(PayloadKind)
RESERVED = RESERVED_FIELDS | set(PAYLOAD_INDEXES) | {"song", "title_key", "vector", "seeds"}
RESERVED |= {"strengths", "listed"}
PREFIX = "payload:"
"""Prefix of the names of payload fields, in roles and in the columns of rows."""

LONGEST_VALUE = 10_000
"""Maximum length of a name or a value, in bytes."""

_FIELD = re.compile(r"[^\W\d]\w*", re.ASCII)
_TRUTH = {"true": "true", "yes": "true", "t": "true", "y": "true", "1": "true"}
_TRUTH |= {"false": "false", "no": "false", "f": "false", "n": "false", "0": "false"}
_TYPES: Mapping[PayloadKind, pa.DataType] = {"integer": pa.int64(), "float": pa.float64()}
_BLANK = " \t\n\v\f\r\u00a0"
_MAX_EXAMPLES = 5


@dataclass(frozen=True)
class PayloadColumn:
    """A payload field: name, source column, and kind (None if the user did not give a kind)."""

    field: str
    column: str
    kind: PayloadKind | None = None

    @property
    def role(self) -> str:
        """The role of the column: `PREFIX` and the field name."""
        return PREFIX + self.field


def parse_payload_column(text: str) -> PayloadColumn:
    """Parse `[FIELD=]COLUMN[:KIND]`. Raises `InputError` if the text or the field is invalid."""
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
    # DuckDB, which processes the rows, ignores the case of column names.
    reserved = next(
        (field for field in sorted(RESERVED) if field.casefold() == name.casefold()), None
    )
    if reserved:
        raise InputError(
            f"--payload {text}: every song has a field '{reserved}' already; "
            f"give another name: --payload NAME={column}"
        )
    return PayloadColumn(name, column, kind or None)  # type: ignore[arg-type]


def parse_payload_columns(texts: Iterable[str]) -> tuple[PayloadColumn, ...]:
    """Parse several columns.

    Raises `InputError` if a text is invalid, or if two fields have the same name, ignoring case.
    """
    columns = tuple(parse_payload_column(text) for text in texts)
    names: dict[str, str] = {}
    for column in columns:
        other = names.setdefault(column.field.casefold(), column.field)
        if other is not column.field:
            both = f"'{other}'" if other == column.field else f"'{other}' and '{column.field}'"
            raise InputError(
                f"--payload: two fields are called {both}: give one another name, NAME=COLUMN"
            )
    return columns


def choose_kinds(
    columns: Sequence[PayloadColumn], natural: Sequence[Mapping[str, PayloadKind]]
) -> dict[str, PayloadKind]:
    """Return the kind of each field.

    A kind that the user gave takes precedence. Otherwise, the kind in the files is used if it is
    the same in all files, else keyword.

    `natural` contains, for each file, the kinds of the typed columns by role.
    """
    kinds: dict[str, PayloadKind] = {}
    for column in columns:
        in_files = {by_role.get(column.role, "keyword") for by_role in natural}
        kinds[column.field] = column.kind or (in_files.pop() if len(in_files) == 1 else "keyword")
    return kinds


def natural_kind(kind: pa.DataType) -> PayloadKind | None:
    """Return the payload kind of an Arrow type, or None if the type is text."""
    if pa.types.is_dictionary(kind):
        return natural_kind(kind.value_type)
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    return "float" if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else None


def row_type(kind: PayloadKind) -> pa.DataType:
    """Return the Arrow type that values of this kind have in the table of rows."""
    return _TYPES.get(kind, pa.string())


def index_kind(kind: PayloadKind) -> Kind:
    """Return the kind of Qdrant payload index for values of this kind."""
    return "keyword" if kind == "boolean" else kind


def find_unusable(values: pa.Array) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Yield masks of the strings that cannot be used as names or values, each with the reason."""
    lengths = pc.binary_length(values)
    if (pc.max(lengths).as_py() or 0) > LONGEST_VALUE:
        long = pc.fill_null(pc.greater(lengths, LONGEST_VALUE), False)
        yield np.asarray(long), f"is longer than {LONGEST_VALUE:,} bytes"
    data = values.buffers()[2]
    if data is not None and (np.frombuffer(data, np.uint8) == 0).any():
        with_nul = pc.fill_null(pc.match_substring(values, pattern="\0"), False)
        yield np.asarray(with_nul), "holds a NUL character"


@dataclass
class PayloadTally:
    """Counts of rows by payload value: usable (`filled`), missing (`empty`) or unusable (`wrong`).

    `examples` contains the first few unusable values, each with file and line.
    """

    kind: PayloadKind
    filled: int = 0
    empty: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    def convert(self, values: pa.Array, file: str, line: NDArray[np.int64]) -> pa.Array:
        """Convert values to the type of `self.kind`, and count them. Unusable values become null.

        `line` contains the line number of each value in `file`. The first few unusable values are
        added to `self.examples` with their file and line number.
        """
        text, result = convert_values(values, self.kind)
        filled = np.asarray(pc.is_valid(text))
        kept = np.asarray(pc.is_valid(result))
        self.filled += int(kept.sum())
        self.empty += int((~filled).sum())
        wrong = np.flatnonzero(filled & ~kept)
        self.wrong += len(wrong)
        for i in wrong[: _MAX_EXAMPLES - len(self.examples)].tolist():
            self.examples.append(f"{str(text[i])[:40]!r} ({file}, line {line[i]})")
        return result


def convert_values(values: pa.Array, kind: PayloadKind) -> tuple[pa.Array, pa.Array]:
    """Return the values, with null for blank values, and the values converted to `kind`."""
    if kind == "float" and pa.types.is_integer(values.type):
        return values, values.cast(pa.float64(), safe=False)
    if kind == "integer" and pa.types.is_signed_integer(values.type):
        return values, values.cast(pa.int64())
    text = as_text(values)
    text = pc.utf8_trim(text, characters=_BLANK)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    if kind in {"keyword", "text"}:
        usable = text
        for flags, _ in find_unusable(text):
            usable = pc.if_else(pa.array(flags), pa.scalar(None, pa.string()), usable)
        return text, usable
    try:
        if kind == "integer":
            return text, text.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    coded = text.dictionary_encode()
    parse = {"integer": _parse_integer, "float": _parse_float, "boolean": _parse_boolean}[kind]
    parsed = [None if value is None else parse(value) for value in coded.dictionary.to_pylist()]
    return text, pa.array(parsed, row_type(kind)).take(coded.indices)


def as_text(values: pa.Array) -> pa.Array:
    """Return values of any plain type as text. The float 3.0 becomes "3", and NaN becomes null."""
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
        integers = pc.if_else(whole, values, 0.0).cast(pa.int64()).cast(pa.string())
        return pc.if_else(whole, integers, values.cast(pa.string()))
    return values.cast(pa.string())


def _parse_integer(text: str) -> int | None:
    if re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        return int(text) if len(text) < 20 and -(2**63) <= int(text) < 2**63 else None
    number = _parse_float(text)
    if number is None or number != int(number) or abs(number) >= 2.0**53:
        return None
    return int(number)


def _parse_float(text: str) -> float | None:
    try:
        number = float(text) if "_" not in text else np.nan
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _parse_boolean(text: str) -> str | None:
    return _TRUTH.get(text.lower())
