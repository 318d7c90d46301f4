"""Text and JSON that the commands print, which no name in the data can disturb.

Every command writes through this module or `catalog.tables`, so that control characters of names
and paths never reach a terminal.
"""

from __future__ import annotations

import json
import re
import sys
from typing import IO, Any

import click

# C0 but for tab and line feed, DEL, C1, line and paragraph separators, the controls that turn the
# direction of text, and halves of surrogate pairs, which no encoding can write.
_CONTROL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def sanitise(text: str) -> str:
    r"""Return the text with control characters written out, as `\x1b`; lines and tabs stay."""
    return _CONTROL.sub(_written_out, text)


def one_line(text: str) -> str:
    r"""Return the text with all control characters written out, line feeds and tabs too."""
    return sanitise(text).replace("\n", r"\n").replace("\t", r"\t")


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escape_controls(text: str) -> str:
    r"""Return text of JSON or TOML with control characters in its strings as `\u001b`."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def json_text(value: Any, *, indent: int | None = None, **options: Any) -> str:
    """Return the value as JSON in ASCII without control characters: the one form of all output."""
    return escape_controls(json.dumps(value, indent=indent, **options | {"ensure_ascii": True}))


def print_json(value: Any) -> None:
    """Print the value as one JSON document."""
    echo(json_text(value, indent=2))


def echo(text: str = "", *, nl: bool = True, err: bool = False, **style: Any) -> None:
    """Print text, with click's styles, to standard output or to standard error."""
    file: IO[str] | None = sys.stderr if err else sys.stdout
    safe = writable(sanitise(text), file)
    click.echo(click.style(safe, **style) if style else safe, file, nl=nl)


def writable(text: str, file: IO[str] | None) -> str:
    """Return the text with the characters written out that the encoding of the file lacks."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
