"""Refused requests as errors of the command line: they name the option instead of the field."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")

_OPTIONS = {
    "filter.include_artists": "--include-artist",
    "filter.exclude_artists": "--exclude-artist",
    "filter": "--filter",
    "seeds": "SONG",
    "song": "SONG",
    "query": "WORD",
    "limit": "--limit",
    "mode": "--mode",
    "max_per_artist": "--max-per-artist",
    "diversity": "--diversity",
}
"""Where the fields that begin so come from."""


def request_errors_as_usage(command: Command) -> Command:
    """Turn `RequestError` into a usage error: what was asked was written on the command line."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from catalog.errors import RequestError

        try:
            return command(*args, **kwargs)
        except RequestError as error:
            hint = next((_OPTIONS[name] for name in _OPTIONS if error.field.startswith(name)), None)
            text = error.problem if hint else str(error)
            raise click.BadParameter(text, param_hint=hint) from error

    return wrapped  # type: ignore[return-value]
