"""The command group `nextsong releases`, which manages the releases of a store."""

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
    publishing_options,
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
    """List, check, copy and remove releases, and choose the current one."""


@releases.command("list", short_help="List the releases.")
@home_option
@qdrant_server
@json_option
@one_line_errors
def list_releases(home: Path, qdrant: QdrantOptions | None, as_json: bool) -> None:
    """List the releases, newest first. A star marks the current one."""
    from catalog.commands.release_table import list_entries, print_table
    from catalog.open_store import open_store

    entries = list_entries(open_store(home, qdrant))
    if as_json:
        print_json([entry.to_json() for entry in entries])
    else:
        print_table(entries)


@releases.command(short_help="Print the manifest of a release.")
@release_argument
@home_option
@qdrant_server
@json_only_option
@one_line_errors
def show(release: str | None, home: Path, qdrant: QdrantOptions | None) -> None:
    """Print the manifest of RELEASE, or of the current release, as JSON."""
    from dataclasses import asdict

    from catalog.open_store import open_store
    from catalog.store import require_current

    store = open_store(home, qdrant)
    print_json(asdict(store.manifest(release or require_current(store))))


@releases.command(short_help="Make an older release the current one.")
@release_argument
@home_option
@qdrant_server
@json_option
@one_line_errors
def rollback(release: str | None, home: Path, qdrant: QdrantOptions | None, as_json: bool) -> None:
    """Make RELEASE the current release. Running services switch to it.

    By default, RELEASE is the newest release that is older than the current release, or the newest
    release if none is current.
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
    """Remove RELEASE, for example because it is damaged. The current release cannot be removed."""
    from catalog.open_store import open_store

    open_store(home, qdrant).remove(release)
    print_result({"removed": [release]}, f"removed {release}", as_json=as_json)


@releases.command(short_help="Remove old releases.")
@click.option(
    "--keep",
    default=2,
    show_default=True,
    type=click.IntRange(0),
    help="Number of old releases to keep in addition to the current one.",
)
@home_option
@qdrant_server
@json_option
@one_line_errors
def prune(keep: int, home: Path, qdrant: QdrantOptions | None, as_json: bool) -> None:
    """Remove old releases. The current release and the newest others are kept."""
    from catalog.open_store import open_store

    removed = open_store(home, qdrant).prune(keep)
    text = "\n".join(f"removed {release}" for release in removed) or "nothing to remove"
    print_result({"removed": removed}, text, as_json=as_json)


@releases.command(short_help="Check that a release is as it was published.")
@release_argument
@home_option
@qdrant_server
@json_option
@quiet_option
@one_line_errors
def verify(
    release: str | None, home: Path, qdrant: QdrantOptions | None, as_json: bool, quiet: bool
) -> None:
    """Read all data of RELEASE, or of the current release, and compare it with the manifest.

    The first difference is reported as an error.
    """
    from catalog.open_store import open_store
    from catalog.store import require_current

    store = open_store(home, qdrant)
    manifest = store.verify(release or require_current(store), reporter_for(quiet=quiet))
    songs = manifest.counts.songs
    text = f"release {manifest.release} is intact: {songs:,} songs"
    print_result({"release": manifest.release, "songs": songs}, text, as_json=as_json)


@releases.command(short_help="Copy a release between HOME and a Qdrant server.")
@release_argument
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["server", "home"]),
    help="Target of the copy: the Qdrant server, or HOME. The other store is the source.",
)
@home_option
@qdrant_server
@publishing_options
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
    """Copy RELEASE to the store given by --to, and make it the current release there.

    Without RELEASE, the current release of the source is copied. Before the copy becomes current,
    all its payloads and vectors are compared with the original, bit by bit.
    """
    from catalog.commands.copy import copy_release
    from catalog.open_store import open_store

    if qdrant is None:
        raise click.UsageError("name the Qdrant server with --qdrant-url")
    folder = open_store(home, keep=keep)
    server = open_store(home, qdrant, layout=layout, keep=keep)
    pair = (folder, server) if target == "server" else (server, folder)
    manifest = copy_release(*pair, release, home, reporter_for(quiet=quiet))
    location = pair[1].location
    text = f"release {manifest.release} is the current one of {location}"
    print_result({"release": manifest.release, "place": location}, text, as_json=as_json)
