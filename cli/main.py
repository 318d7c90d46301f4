"""The root command `nextsong`, which imports a subcommand only when it is used."""

from __future__ import annotations

import io
import os
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click

from catalog.console.terminal import echo
from catalog.files import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "bench": "evaluation.bench.cli:bench",
    "demo": "cli.demo:demo",
    "doctor": "cli.doctor:doctor",
    "evaluate": "evaluation.cli:evaluate",
    "explore": "cli.explore:explore",
    "ingest": "cli.ingest:ingest",
    "recommend": "service.cli:recommend",
    "releases": "catalog.commands.releases:releases",
    "runs": "evaluation.runs.cli:runs",
    "search": "service.cli:search",
    "serve": "service.serve:serve",
    "similar": "service.cli:similar",
    "tune": "evaluation.tune.cli:tune",
}
"""Import path of each subcommand, as `module:attribute`."""


class LazyGroup(click.Group):
    """A click group that imports a subcommand only when it is used.

    An error is printed as one line on standard error. If the reader of standard output, such as
    `head`, has closed the pipe, the command ends without a message.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all subcommands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the subcommand `cmd_name`, or None if there is none with this name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name, the subcommand and the other arguments, for the command line `args`.

        Raises `click.NoSuchCommand`, which suggests names similar to a mistyped name. The error of
        `click.Group` would suggest only subcommands that have been imported.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run a command, then end the process with exit code 0, 1 (failed) or 2 (wrong usage)."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            code = super().main(args, standalone_mode=False, **extra)
            if sys.stdout:
                sys.stdout.flush()
        except click.ClickException as error:
            code = _fail(error)
        except click.Abort:
            echo("Aborted!", err=True)
            code = 1
        except BrokenPipeError:
            code = 1
        except OSError as error:
            code = _fail(click.ClickException(_describe(error)))
        if code:
            _drop_unwritten()
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Print the traceback of an error if `--debug` was given."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, OSError) as error:
            expected = isinstance(error, click.exceptions.Exit) and error.__cause__ is None
            if ctx.params["debug"] and not expected:
                echo("".join(traceback.format_exception(error)), err=True)
            raise


def _fail(error: click.ClickException) -> int:
    """Print the error if standard error can be written to, and return the exit code."""
    shown = io.StringIO()
    error.show(shown)
    with suppress(OSError):
        echo(shown.getvalue(), err=True, nl=False)
    return error.exit_code


def _describe(error: OSError) -> str:
    reason = reason_of(error)
    return f"{error.filename}: {reason}" if error.filename else f"cannot write the output: {reason}"


def _drop_unwritten() -> None:
    """Discard buffered output, so that Python does not try again to write it at exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(version("nextsong"), prog_name="nextsong")
def main(debug: bool) -> None:
    """Given a playlist, recommend the songs that should come next."""


if __name__ == "__main__":
    main()
