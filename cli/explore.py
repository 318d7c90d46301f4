"""The command `nextsong explore`, which serves web pages on a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from catalog.commands.options import (
    complete_release,
    home_option,
    one_line_errors,
    qdrant_server,
)
from catalog.console.terminal import echo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from catalog.server.options import QdrantOptions
    from service.explore.explorer import LoggedRun


@click.command(short_help="Explore a release in the browser.")
@home_option
@qdrant_server
@click.option(
    "--release",
    metavar="ID",
    shell_complete=complete_release,
    help="Release to explore.  [default: the current one]",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. If it is not a loopback address, callers need a token.",
)
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 for any free port.",
)
@click.option(
    "--token",
    envvar="NEXTSONG_EXPLORE_TOKEN",
    show_envvar=True,
    help="Token that callers need. A command line is visible to other users of the machine; the "
    "environment variable is not.  [default: none on a loopback address, else a random one]",
)
@click.option("--open/--no-open", "opens", default=True, help="Open the page in a browser.")
@one_line_errors
def explore(
    home: Path,
    qdrant: QdrantOptions | None,
    release: str | None,
    host: str,
    port: int,
    token: str | None,
    opens: bool,
) -> None:
    """Explore a release in the browser: find songs, build a playlist, see what comes next.

    The page recommends with the same code as the service, and needs no running service. Press
    Ctrl-C to stop.
    """
    from catalog.errors import MissingExtraError
    from catalog.open_store import open_store
    from catalog.store import require_current

    try:
        from service.explore.explorer import Explorer
        from service.explore.overview import OverviewTask, StoreLocation
        from service.explore.server import Address, run
        from service.operate.watcher import open_with_reranker
    except ModuleNotFoundError as error:
        raise MissingExtraError("the pages", "explore") from error

    store = open_store(home, qdrant)
    release = release or require_current(store)
    opened = open_with_reranker(store, release)
    overview = OverviewTask(StoreLocation(home, qdrant, release), home)
    explorer = Explorer(store, opened, home, _make_run_loader(home), overview)

    def show(address: str) -> None:
        echo(f"exploring release {release} ({opened.manifest.counts.songs:,} songs) on {address}")
        if opens:
            click.launch(address)

    run(explorer, Address(host, port, token or None), show)


def _make_run_loader(home: Path) -> Callable[[], list[LoggedRun]]:
    """Return a function that reads the log of runs: the ingests and evaluations in `home`."""

    def load_runs() -> list[LoggedRun]:
        from evaluation.runs import log
        from evaluation.runs.terminal import get_figures, make_label
        from service.explore.explorer import LoggedRun

        return [
            LoggedRun(
                run.id,
                run.time.isoformat(),
                run.kind,
                run.release or "",
                make_label(run),
                get_figures(run),
            )
            for run in log.load(home)
        ]

    return load_runs
