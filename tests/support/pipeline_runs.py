"""Repeated ingest runs on a copy of the fixture `road`, and a reporter that records stages."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from ingest import pipeline
from ingest.sources.options import DEFAULT_OPTIONS, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.draft import Draft
    from catalog.manifest import Manifest
    from tests.support.road import Road

STAGES = ["read", "prepare", "split", "count", "train", "choose"]


class Listener(SilentReporter):
    """A reporter that records the names of executed stages and of unchanged stages."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.unchanged: list[str] = []

    def say(self, text: str) -> None:
        assert text.endswith("(unchanged)")
        self.unchanged.append(text.split(maxsplit=1)[0])

    @contextmanager
    def task(self, title: str) -> Iterator[Any]:
        self.done.append(title)
        with super().task(title) as task:
            yield task


class QuickHome(EmbeddedStore):
    """A store that does not build shards. A new release copies the current manifest."""

    def publish(self, draft: Draft, reporter: Reporter, gate: object = None) -> Manifest:
        with reporter.task("publish"):
            old = self.manifest(self.current() or "")
            release = (
                f"20991231T{int(old.release[9:18]) + 1:09}-{draft.origin.content_fingerprint[:8]}"
            )
            manifest = replace(old, release=release, counts=draft.counts, origin=draft.origin)
            folder = self.path / "releases" / release
            folder.mkdir()
            (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
            shutil.copy(draft.songs_path, folder / "songs.parquet")
            (self.path / "current").write_text(release)
        return manifest


@dataclass
class Lane:
    """A copy of the work folder and store of the fixture `road`, which is a finished ingest.

    A test can run the ingest again in the copy.
    """

    road: Road
    work: Path
    home: EmbeddedStore
    file: Path
    listener: Listener = field(default_factory=Listener)
    how: ReadOptions = DEFAULT_OPTIONS
    catalog: list[Path] = field(default_factory=list)

    def run(
        self, *, force: bool = False, max_rejects: float = 0.05, **changes: Any
    ) -> pipeline.Outcome:
        self.listener = Listener()
        return pipeline.run(
            [self.file],
            self.home,
            self.work,
            replace(self.road.parameters, **changes),
            self.listener,
            pipeline.RunOptions(
                reading=self.how, catalog=self.catalog, max_rejects=max_rejects, force=force
            ),
        )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_nothing_is_left_over(lane: Lane) -> None:
    assert [name for name in names(lane.work) if name not in STAGES] == [".lock"]
    assert [name for name in names(lane.home.path / "releases") if name.startswith(".")] == []
