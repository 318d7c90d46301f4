"""Conditions as people write them, `year>=1990` or `genre=rock|pop`, as messages of the API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from catalog.errors import RequestError
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WRITTEN = re.compile(r"\s*([^<>=!~]+?)\s*(>=|<=|!=|=|~)\s*(.*?)\s*", re.DOTALL)


def conditions_of(written: Iterable[str], fields: Sequence[pb.PayloadField]) -> list[pb.Condition]:
    """The conditions; `fields` are those of the release that is asked.

    `>=` and `<=` bound a number, `=` and `!=` take one or several values with `|` between, `~`
    words of a text. Raises `RequestError`.
    """
    kinds = {field.name: field.kind for field in fields}
    return [_condition(text, kinds) for text in written]


def _condition(text: str, kinds: dict[str, pb.FieldKind]) -> pb.Condition:
    match = _WRITTEN.fullmatch(text)
    if match is None or not match[3]:
        raise RequestError(
            "filter", f"'{text}' is none of FIELD>=N, FIELD<=N, FIELD=A|B, FIELD!=A|B, FIELD~WORDS"
        )
    field, operator, value = match.groups()
    if operator == "~":
        return pb.Condition(field=field, text=value)
    if operator in {">=", "<="}:
        try:
            bound = float(value)
        except ValueError:
            raise RequestError("filter", f"'{text}': {value} is not a number") from None
        if operator == ">=":
            return pb.Condition(field=field, minimum=bound)
        return pb.Condition(field=field, maximum=bound)
    values = [_value(part.strip(), text, kinds.get(field)) for part in value.split("|")]
    if operator == "=":
        return pb.Condition(field=field, any_of=values)
    return pb.Condition(field=field, none_of=values)


def _value(part: str, text: str, kind: pb.FieldKind | None) -> pb.Value:
    if kind != pb.FIELD_KIND_INTEGER:
        return pb.Value(text=part)
    try:
        return pb.Value(integer=int(part))
    except ValueError:  # not a number, or one beyond 64 bits
        raise RequestError("filter", f"'{text}': {part} is not a whole number") from None
