"""The command `nextsong`: the top floor gathers every room's commands, loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import click

COMMANDS = {
    "bench": "evaluation.bench_cli:bench",
    "demo": "evaluation.cli:demo",
    "doctor": "catalog.releases_cli:doctor",
    "evaluate": "evaluation.cli:evaluate",
    "ingest": "ingest.cli:ingest",
    "recommend": "service.cli:recommend",
    "releases": "catalog.releases_cli:releases",
    "runs": "evaluation.runs_cli:runs",
    "search": "service.cli:search",
    "serve": "service.serve_cli:serve",
    "tune": "evaluation.tune_cli:tune",
    "similar": "service.cli:similar",
}


LENT = {
    "gate": "evaluation.gate:before_publishing",
    "record": "evaluation.runs:note",
    "settings": "service.examination:examine_settings",
}
"""What commands use of the rooms above theirs (see `catalog.cli.from_above`)."""


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


@click.command(cls=Rooms, context_settings={"help_option_names": ["-h", "--help"], "obj": LENT})
@click.version_option(version("nextsong"), prog_name="nextsong")
def main() -> None:
    """Given a playlist, say which song should come next."""


if __name__ == "__main__":
    main()
