"""What the commands of every room share: options, and errors turned into one line."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.reporting import Reporter

Command = TypeVar("Command", bound="Callable[..., Any]")


class Text(click.ParamType[str]):
    """Text that can be sent: an argument whose bytes were not text is a usage error."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or fail."""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{value.encode(errors='replace').decode()!r} is not UTF-8", param, ctx)
        return value


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path),
    envvar="NEXTSONG_HOME",
    default=Path(".nextsong"),
    show_default=True,
    show_envvar=True,
    help="Folder that keeps the releases.",
)
work_option = click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder for the results of each stage.  [default: HOME/work]",
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Report no progress.")


def reporter_for(*, quiet: bool) -> Reporter:
    """The reporter that the user asked for."""
    from catalog import reporting

    return reporting.Silent() if quiet else reporting.Talking()


def one_line_errors(command: Command) -> Command:
    """Turn what nextsong raises on purpose into one line on standard error and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from catalog.errors import NextsongError

        try:
            return command(*args, **kwargs)
        except NextsongError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except BrokenPipeError:
            # The reader of our output left, as `head` does. Nothing more can be said to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise click.exceptions.Exit(1) from None

    return wrapped  # type: ignore[return-value]
