"""Comparison of text with snapshots in `tests/golden`, and the shape of JSON documents as text.

If the environment variable `NEXTSONG_REWRITE_GOLDEN` is 1, tests write their snapshots instead of
comparing with them, and are skipped. Most snapshots belong to `test_golden`. To write all
snapshots:

    NEXTSONG_REWRITE_GOLDEN=1 python -m pytest $(grep -rl "snapshots import" tests)
"""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GOLDEN = Path(__file__).parents[1] / "golden"
REWRITE = "NEXTSONG_REWRITE_GOLDEN"

DATA_KEY = re.compile(r"[/ ]|\.csv$|^[0-9a-f]{8}-|^\d{8}T")
"""A JSON key that is data, and not part of the format: a path, a message, or the id of a song or
release."""

KINDS = ("type", "event", "kind")
"""JSON keys whose value is the kind of the object that contains them."""

TYPES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}


def check(topic: str, lines: Iterable[str]) -> None:
    """Fail with a diff unless `lines` are equal to the snapshot `topic`."""
    path = GOLDEN / f"{topic}.txt"
    found = [*lines]
    if os.environ.get(REWRITE) == "1":
        path.write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
        pytest.skip(f"{path.name} was written again: read `git diff tests/{GOLDEN.name}`")
    expected = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if found != expected:
        test = os.environ["PYTEST_CURRENT_TEST"].split(" ")[0]
        how = f"If that is intended, run `{REWRITE}=1 python -m pytest {test}` and commit."
        intended = f"{topic} differs from its snapshot. {how}"
        pytest.fail("\n".join([intended, *_diff(expected, found)]), pytrace=False)


def _diff(expected: list[str], found: list[str]) -> Iterator[str]:
    """Yield the lines of a diff. Each `@@` line ends with the heading of the changed section."""
    for line in difflib.unified_diff(expected, found, "snapshot", "now", lineterm="", n=1):
        place = re.match(r"@@ -(\d+)", line)
        above = expected[: int(place[1]) + 1] if place else []
        heading = [part for part in above if not part.startswith((" ", "."))][-1:]
        yield " ".join([line, *heading])


def json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def document(text: str) -> Any:
    """Return the JSON document in `text`, or a list if `text` consists of JSON lines."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json_lines(text)


def shape(values: Iterable[Any], path: str = "") -> Iterator[str]:
    """Yield each key path in JSON values of the same type, with the types of the values.

    `?` marks a key that only some objects have, and `*` stands for keys that are data, such as ids.
    A small object without nested objects is written on one line. If the objects in an array have a
    key that names their kind (see `KINDS`), each kind is described separately.
    """
    values = [*values]
    objects = [value for value in values if isinstance(value, dict)]
    members: dict[str, list[Any]] = {}
    for name, member in (pair for one in objects for pair in one.items()):
        members.setdefault("*" if DATA_KEY.search(name) else name, []).append(member)
    lines: list[str] = []
    for name in sorted(members):
        mark = "?" if name != "*" and len(members[name]) < len(objects) else ""
        lines += shape(members[name], f".{name}{mark}")
    types = " | ".join(sorted({TYPES[type(value)] for value in values}))
    if types == "object" and len(lines) == len(members) <= 4 and "object" not in "".join(lines):
        yield f"{path or '.'}: object {{{', '.join(line[1:] for line in lines)}}}"
        return
    yield f"{path or '.'}: {types}"
    yield from (f"{path}{line}" for line in lines)
    items: dict[str, list[Any]] = {}
    for item in (item for value in values if isinstance(value, list) for item in value):
        items.setdefault(_kind(item), []).append(item)
    for kind in sorted(items):
        yield from shape(items[kind], f"{path}[{kind}]")


def _kind(item: Any) -> str:
    named = [(name, item.get(name)) for name in KINDS] if isinstance(item, dict) else []
    kinds = [f"{name}={kind}" for name, kind in named if str(kind).isidentifier() and kind]
    return kinds[0] if kinds else ""
