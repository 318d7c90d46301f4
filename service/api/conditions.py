"""Conditions as people write them, `year>=1990` or `genre=rock|pop`, as messages of the API."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from catalog.errors import RequestError
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WRITTEN = re.compile(r"\s*([^<>=!~]+?)\s*(>=|<=|!=|=|~)\s*(.*?)\s*", re.DOTALL)
_KINDS: dict[pb.FieldKind, tuple[str, tuple[str, ...]]] = {
    pb.FIELD_KIND_KEYWORD: ("keyword", ("=", "!=")),
    pb.FIELD_KIND_INTEGER: ("integer", ("=", "!=", ">=", "<=")),
    pb.FIELD_KIND_FLOAT: ("float", (">=", "<=")),
    pb.FIELD_KIND_TEXT: ("text", ("~",)),
}
"""The name of each kind of field, and the operators that suit it."""

_UNKNOWN = ("unknown", ("=", "!=", ">=", "<=", "~"))  # of a newer service


def conditions_of(written: Iterable[str], fields: Sequence[pb.PayloadField]) -> list[pb.Condition]:
    """Return the conditions; `fields` are those of the release that is asked.

    `>=` and `<=` bound a number, `=` and `!=` take one or several values with `|` between, `~`
    words of a text. Raises `RequestError`, whose message speaks of conditions as they are written.
    """
    kinds = {field.name: field.kind for field in fields}
    return [_condition(text, kinds) for text in written]


def require_condition(text: str) -> None:
    """Raise `RequestError` unless the text is written like a condition."""
    _parts(text)


def _parts(text: str) -> tuple[str, str, str]:
    match = _WRITTEN.fullmatch(text)
    if match is None or not match[3]:
        raise RequestError(
            "filter", f"'{text}' is none of FIELD>=N, FIELD<=N, FIELD=A|B, FIELD!=A|B, FIELD~WORDS"
        )
    field, operator, value = match.groups()
    if operator in {">=", "<="}:
        _number(value, text)
    return field, operator, value


def _condition(text: str, kinds: dict[str, pb.FieldKind]) -> pb.Condition:
    field, operator, value = _parts(text)
    _require_suits(text, field, operator, kinds)
    if operator == "~":
        return pb.Condition(field=field, text=value)
    if operator == ">=":
        return pb.Condition(field=field, minimum=_number(value, text))
    if operator == "<=":
        return pb.Condition(field=field, maximum=_number(value, text))
    values = [_value(part.strip(), text, kinds[field]) for part in value.split("|")]
    if operator == "=":
        return pb.Condition(field=field, any_of=values)
    return pb.Condition(field=field, none_of=values)


def _require_suits(text: str, field: str, operator: str, kinds: dict[str, pb.FieldKind]) -> None:
    if field not in kinds:
        known = ", ".join(
            f"{name} ({_KINDS.get(kind, _UNKNOWN)[0]})" for name, kind in sorted(kinds.items())
        )
        raise RequestError(
            "filter",
            f"'{text}': '{field}' is no extra field of this release; there are: {known or 'none'}",
        )
    kind, operators = _KINDS.get(kinds[field], _UNKNOWN)
    if operator not in operators:
        forms = ", ".join(f"{field}{suits}..." for suits in operators)
        raise RequestError(
            "filter",
            f"'{text}': {operator} does not suit '{field}', a field of the kind {kind}; "
            f"write {forms}",
        )


def _number(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError("filter", f"'{text}': {value} is not a number")
    return number


def _value(part: str, text: str, kind: pb.FieldKind) -> pb.Value:
    if kind != pb.FIELD_KIND_INTEGER:
        return pb.Value(text=part)
    try:
        return pb.Value(integer=int(part))
    except ValueError:  # not a number, or one beyond 64 bits
        raise RequestError("filter", f"'{text}': {part} is not a whole number") from None
