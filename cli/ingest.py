"""The command group `nextsong ingest`.

The package `ingest` must not import `evaluation`, so the functions that `ingest run` needs from
`evaluation` are passed to it here: the check before publication, and the log of runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ingest.cli import RunHooks, report, run, stats

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.store import ReleaseStore
    from ingest.cli import Gate


def _make_gate(store: ReleaseStore, reporter: Reporter) -> Gate:
    from evaluation.judge.gate import make_publication_gate

    return make_publication_gate(store, reporter)


def _record(home: Path, run: Mapping[str, Any], reporter: Reporter) -> None:
    from evaluation.runs import log

    log.note(home, "ingest", run, reporter)


@click.group(context_settings={"obj": RunHooks(_make_gate, _record)})
def ingest() -> None:
    """Build releases from playlist files."""


for command in (run, stats, report):
    ingest.add_command(command)
