"""Parse typed conditions such as `year>=1990` or `genre=rock|pop` into messages of the API."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import RequestError
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FORM = re.compile(r"\s*([^<>=!~]+?)\s*(>=|<=|!=|=|~)\s*(.*?)\s*", re.DOTALL)
_BOUNDS = {">=", "<="}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of payload field: its name, and the operators that it supports."""

    name: str
    operators: tuple[str, ...]


_KINDS = {
    pb.FIELD_KIND_KEYWORD: _Kind("keyword", ("=", "!=")),
    pb.FIELD_KIND_INTEGER: _Kind("integer", ("=", "!=", ">=", "<=")),
    pb.FIELD_KIND_FLOAT: _Kind("float", (">=", "<=")),
    pb.FIELD_KIND_TEXT: _Kind("text", ("~",)),
}
_UNKNOWN_KIND = _Kind("unknown", ("=", "!=", ">=", "<=", "~"))
"""A kind of field that only a newer service knows; that service checks the operator."""


@dataclass(frozen=True, slots=True)
class WrittenCondition:
    """A condition as the user typed it, and the field, operator and value in its text."""

    text: str
    field: str
    operator: str
    value: str


def parse_condition(text: str) -> WrittenCondition:
    """Split a condition into its parts. Raises `RequestError` if the text is malformed."""
    match = _FORM.fullmatch(text)
    if match is None or not match[3]:
        raise RequestError(
            "filter",
            f"'{text}' is not of the form FIELD>=N, FIELD<=N, FIELD=A|B, FIELD!=A|B or FIELD~WORDS",
        )
    condition = WrittenCondition(text, *match.groups())
    if condition.operator in _BOUNDS:
        _parse_number(condition)
    return condition


def build_conditions(
    conditions: Iterable[WrittenCondition], fields: Sequence[pb.PayloadField]
) -> list[pb.Condition]:
    """Return the messages for conditions on `fields`, the extra fields of the release.

    `>=` and `<=` take a number, `=` and `!=` take one or several values separated by `|`, and `~`
    takes words. Raises `RequestError` if a field is unknown or does not support the operator.
    """
    kinds = {field.name: field.kind for field in fields}
    return [_build_condition(condition, kinds) for condition in conditions]


def _build_condition(condition: WrittenCondition, kinds: dict[str, pb.FieldKind]) -> pb.Condition:
    _require_supported(condition, kinds)
    field, operator = condition.field, condition.operator
    if operator == "~":
        return pb.Condition(field=field, text=condition.value)
    if operator == ">=":
        return pb.Condition(field=field, minimum=_parse_number(condition))
    if operator == "<=":
        return pb.Condition(field=field, maximum=_parse_number(condition))
    values = [
        _build_value(part.strip(), condition, kinds[field]) for part in condition.value.split("|")
    ]
    if operator == "=":
        return pb.Condition(field=field, any_of=values)
    return pb.Condition(field=field, none_of=values)


def _require_supported(condition: WrittenCondition, kinds: dict[str, pb.FieldKind]) -> None:
    text, field = condition.text, condition.field
    if field not in kinds:
        known = ", ".join(
            f"{name} ({_KINDS.get(kind, _UNKNOWN_KIND).name})"
            for name, kind in sorted(kinds.items())
        )
        raise RequestError(
            "filter",
            f"'{text}': '{field}' is not an extra field of this release, which has: "
            f"{known or 'none'}",
        )
    kind = _KINDS.get(kinds[field], _UNKNOWN_KIND)
    if condition.operator not in kind.operators:
        forms = ", ".join(f"{field}{operator}..." for operator in kind.operators)
        raise RequestError(
            "filter",
            f"'{text}': {condition.operator} cannot be used with '{field}', a field of the kind "
            f"{kind.name}; write {forms}",
        )


def _parse_number(condition: WrittenCondition) -> float:
    try:
        number = float(condition.value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError("filter", f"'{condition.text}': {condition.value} is not a number")
    return number


def _build_value(text: str, condition: WrittenCondition, kind: pb.FieldKind) -> pb.Value:
    if kind != pb.FIELD_KIND_INTEGER:
        return pb.Value(text=text)
    try:
        return pb.Value(integer=int(text))
    except ValueError:  # the text is not a number, or the number exceeds 64 bits
        raise RequestError("filter", f"'{condition.text}': {text} is not a whole number") from None
