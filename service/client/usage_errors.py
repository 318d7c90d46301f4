"""Report malformed requests as usage errors that name an option instead of a field."""

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
    "min_artist_gap": "--min-artist-gap",
}
"""The option or argument that sets a field of a request, by the beginning of the field's path."""


def request_errors_as_usage(command: Command) -> Command:
    """Convert a `RequestError` of a command to a usage error that names the option."""

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
