"""The command `nextsong doctor`, which checks an installation."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from catalog.commands.options import (
    QDRANT_PARAMETERS,
    config_option,
    home_option,
    json_option,
    one_line_errors,
    qdrant_server,
)
from catalog.console.terminal import echo, one_line, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.commands.doctor import Finding
    from catalog.server.options import QdrantOptions


@click.command(short_help="Check configuration, server, rights and releases; advise repairs.")
@config_option
@home_option
@qdrant_server
@json_option
@click.pass_context
@one_line_errors
def doctor(
    context: click.Context,
    config: Path | None,
    home: Path,
    qdrant: QdrantOptions | None,
    as_json: bool,
) -> None:
    """Check the service's settings, versions, connectivity, rights, releases and indexes.

    Findings that need action include advice. The exit code is 1 if anything does not work.
    """
    from dataclasses import asdict

    from catalog.commands.doctor import examine
    from service.operate.settings_check import examine_settings

    findings = [*examine_settings(config), *examine(home, qdrant, _store_options(context))]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    if any(finding.level == "failure" for finding in findings):
        raise click.exceptions.Exit(1)


def _print(finding: Finding) -> None:
    colours = {"ok": "green", "warning": "yellow", "failure": "red"}
    echo(f"{finding.level:<8}", fg=colours[finding.level], nl=False)
    echo(f" {one_line(finding.what)}")
    if finding.advice:
        echo(f"{'':9}-> {one_line(finding.advice)}")


def _store_options(context: click.Context) -> str:
    """Return the command-line options that select the store, to repeat in suggested commands."""
    options = (
        f" --{name.replace('_', '-')} {shlex.quote(str(context.params[name]))}"
        for name in ("home", *QDRANT_PARAMETERS)
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    )
    return "".join(options)
