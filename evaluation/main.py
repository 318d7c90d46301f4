"""The command `nextsong`: the top floor gathers every room's commands, loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import click

COMMANDS = {
    "demo": "evaluation.cli:demo",
    "evaluate": "evaluation.cli:evaluate",
    "ingest": "ingest.cli:ingest",
    "recommend": "service.cli:recommend",
    "search": "service.cli:search",
    "serve": "service.cli:serve",
    "similar": "service.cli:similar",
}


class Rooms(click.Group):
    """A group whose commands are imported by the name that the user typed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.command(cls=Rooms, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("nextsong"), prog_name="nextsong")
def main() -> None:
    """Given a playlist, say which song should come next."""


if __name__ == "__main__":
    main()
