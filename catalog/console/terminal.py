"""Print text and JSON without control characters.

All commands print with this module or `catalog.console.tables`, so that control characters in names
and paths never reach a terminal.
"""

from __future__ import annotations

import json
import re
import sys
from typing import IO, Any

import click

# Control characters (C0 except tab and line feed, DEL, C1), line and paragraph separators,
# characters that change the direction of text, and unpaired surrogates, which no encoding can
# represent.
_CONTROL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def sanitise(text: str) -> str:
    r"""Escape the control characters of a text, except line feeds and tabs.

    An escape character, for example, becomes `\x1b`.
    """
    return _CONTROL.sub(_escape, text)


def one_line(text: str) -> str:
    r"""Escape all control characters of a text, including line feeds and tabs."""
    return sanitise(text).replace("\n", r"\n").replace("\t", r"\t")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escape_controls(text: str) -> str:
    r"""Escape the control characters of JSON or TOML text. ESC, for example, becomes `\u001b`."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def json_text(value: Any, *, indent: int | None = None, **options: Any) -> str:
    """Return the value as JSON in ASCII, without control characters.

    All commands use this function to print JSON.
    """
    return escape_controls(json.dumps(value, indent=indent, **options | {"ensure_ascii": True}))


def print_json(value: Any) -> None:
    """Print the value as one JSON document."""
    echo(json_text(value, indent=2))


def echo(text: str = "", *, nl: bool = True, err: bool = False, **style: Any) -> None:
    """Print text to standard output or standard error; `style` is passed to `click.style`."""
    file: IO[str] | None = sys.stderr if err else sys.stdout
    safe = escape_unencodable(sanitise(text), file)
    click.echo(click.style(safe, **style) if style else safe, file, nl=nl)


def escape_unencodable(text: str, file: IO[str] | None) -> str:
    """Escape the characters of `text` that the encoding of `file` cannot represent."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
