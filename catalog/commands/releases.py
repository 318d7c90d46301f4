"""`nextsong releases`: what a home keeps, and moving between releases and between homes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from catalog.commands.options import (
    complete_release,
    home_option,
    json_only_option,
    json_option,
    one_line_errors,
    print_result,
    publishing,
    qdrant_server,
    quiet_option,
    release_argument,
    reporter_for,
)
from catalog.console.terminal import print_json

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.server.options import CollectionLayout, QdrantOptions


@click.group()
def releases() -> None:
    """List, check, copy, remove and go back to releases."""


@releases.command("list", short_help="List the releases of a home.")
@home_option
@qdrant_server
@json_option
@one_line_errors
def list_releases(home: Path, qdrant: QdrantOptions | None, as_json: bool) -> None:
    """List the releases of a home, the newest first; * marks the current one."""
    from catalog.commands import release_table
    from catalog.open_store import open_store

    entries = release_table.entries(open_store(home, qdrant))
    if as_json:
        print_json([entry.to_json() for entry in entries])
    else:
        release_table.table(entries)


@releases.command(short_help="Print the manifest of a release.")
@release_argument
@home_option
@qdrant_server
@json_only_option
@one_line_errors
def show(release: str | None, home: Path, qdrant: QdrantOptions | None) -> None:
    """Print the manifest of RELEASE, or of the current one, as JSON."""
    from dataclasses import asdict

    from catalog.commands.release_table import chosen
    from catalog.open_store import open_store

    opened = open_store(home, qdrant)
    print_json(asdict(opened.manifest(chosen(opened, release))))


@releases.command(short_help="Make an older release current.")
@release_argument
@home_option
@qdrant_server
@json_option
@one_line_errors
def rollback(release: str | None, home: Path, qdrant: QdrantOptions | None, as_json: bool) -> None:
    """Make RELEASE current, or the one before the current. Running services move over to it.

    Without a current release, the newest becomes current.
    """
    from catalog.open_store import open_store

    current = open_store(home, qdrant).rollback(release)
    print_result({"release": current}, f"release {current} is the current one", as_json=as_json)


@releases.command(short_help="Remove a release.")
@click.argument("release", shell_complete=complete_release)
@home_option
@qdrant_server
@json_option
@one_line_errors
def remove(release: str, home: Path, qdrant: QdrantOptions | None, as_json: bool) -> None:
    """Remove RELEASE, such as a damaged one. The current one stays."""
    from catalog.open_store import open_store

    open_store(home, qdrant).remove(release)
    print_result({"removed": [release]}, f"removed {release}", as_json=as_json)


@releases.command(short_help="Remove old releases.")
@click.option(
    "--keep",
    default=2,
    show_default=True,
    type=click.IntRange(0),
    help="How many old releases stay beside the current one.",
)
@home_option
@qdrant_server
@json_option
@one_line_errors
def prune(keep: int, home: Path, qdrant: QdrantOptions | None, as_json: bool) -> None:
    """Remove all releases but the current one and the newest others."""
    from catalog.open_store import open_store

    removed = open_store(home, qdrant).prune(keep)
    text = "\n".join(f"removed {release}" for release in removed) or "nothing to remove"
    print_result({"removed": removed}, text, as_json=as_json)


@releases.command(short_help="Read all of a release and compare it with its manifest.")
@release_argument
@home_option
@qdrant_server
@json_option
@quiet_option
@one_line_errors
def verify(
    release: str | None, home: Path, qdrant: QdrantOptions | None, as_json: bool, quiet: bool
) -> None:
    """Read all of RELEASE, or of the current one, and say what is not as it was published."""
    from catalog.commands.release_table import chosen
    from catalog.open_store import open_store

    opened = open_store(home, qdrant)
    manifest = opened.verify(chosen(opened, release), reporter_for(quiet=quiet))
    songs = manifest.counts.songs
    text = f"release {manifest.release} is whole: {songs:,} songs"
    print_result({"release": manifest.release, "songs": songs}, text, as_json=as_json)


@releases.command(short_help="Carry a release between HOME and a Qdrant server.")
@release_argument
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["server", "home"]),
    help="Where to: from HOME to the Qdrant server, or from there to HOME.",
)
@home_option
@qdrant_server
@publishing
@json_option
@quiet_option
@one_line_errors
def copy(
    release: str | None,
    target: str,
    home: Path,
    qdrant: QdrantOptions | None,
    layout: CollectionLayout,
    keep: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Carry RELEASE, or the current one, to the other home, where it becomes current.

    Payloads and vectors are compared afterwards, to the bit.
    """
    from catalog.commands.copy import copy as carry
    from catalog.open_store import open_store

    if qdrant is None:
        raise click.UsageError("name the Qdrant server with --qdrant-url")
    folder = open_store(home, keep=keep)
    server = open_store(home, qdrant, layout=layout, keep=keep)
    here, there = (folder, server) if target == "server" else (server, folder)
    manifest = carry(here, there, release, home, reporter_for(quiet=quiet))
    text = f"release {manifest.release} is the current one of {there.location}"
    print_result({"release": manifest.release, "place": there.location}, text, as_json=as_json)
