"""The whole ingest: files -> rows -> playlists -> splits -> vectors -> a published release."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from catalog.embedded import Draft, EmbeddedHome
from catalog.errors import CorruptReleaseError
from catalog.manifest import Manifest, Origin
from catalog.storage import locked
from ingest.assembly import assembled
from ingest.cooccurrence import count
from ingest.prepare import prepare
from ingest.reading import read_files
from ingest.split import split
from ingest.word2vec import train
from ingest.work import Stage, WorkFolder, fingerprint_of, fingerprint_of_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from catalog.reporting import Reporter
    from ingest.parameters import Parameters


@dataclass(frozen=True)
class Outcome:
    """What a run came to: the current release, and whether this run published it."""

    manifest: Manifest
    published: bool
    stages: dict[str, Stage]


def run(
    files: Sequence[Path],
    columns: Mapping[str, str],
    home: EmbeddedHome,
    work: Path,
    parameters: Parameters,
    reporter: Reporter,
    *,
    force: bool = False,
) -> Outcome:
    """Make a release of playlist files and publish it in `home`.

    `columns` says which column plays which role, where the aliases do not find it. Stages that an
    earlier run finished in `work` with the same input, parameters and code are reused, and a
    release that would equal the current one is not published again, unless `force`. Whatever goes
    wrong, the current release stays as it was. Raises any `NextsongError` but those of requests.
    """
    with locked(work, "an ingest run"):
        folder = WorkFolder(work, force=force)
        data = fingerprint_of_files(files)
        read = folder.stage(
            "read",
            {"data": data, "files": [str(file) for file in files], "columns": dict(columns)},
            lambda out: _read(files, columns, out, reporter),
            reporter,
        )
        prepared = folder.stage(
            "prepare",
            {"read": read.fingerprint, **parameters.of_stage("prepare")},
            lambda out: prepare(
                read.folder / "rows.parquet",
                read.folder / "unreadable.parquet",
                out,
                parameters.min_songs,
                reporter,
            ),
            reporter,
        )
        splits = folder.stage(
            "split",
            {"prepare": prepared.fingerprint, **parameters.of_stage("split")},
            lambda out: split(
                prepared.folder / "playlists.parquet", out, parameters.seed, reporter
            ),
            reporter,
        )
        counted = folder.stage(
            "count",
            {"split": splits.fingerprint, **parameters.of_stage("count")},
            lambda out: count(splits.folder / "train.parquet", out, parameters, reporter),
            reporter,
        )
        trained = folder.stage(
            "train",
            {"split": splits.fingerprint, **parameters.of_stage("train")},
            lambda out: train(splits.folder / "train.parquet", out, parameters, reporter),
            reporter,
        )
        content = fingerprint_of(
            [counted.fingerprint, trained.fingerprint, parameters.of_stage("query")]
        )
        stages = {
            "read": read,
            "prepare": prepared,
            "split": splits,
            "count": counted,
            "train": trained,
        }
        current = _same_as_current(home, content)
        if current is not None and not force:
            reporter.say(f"  publish    release {current.release} holds just this  (unchanged)")
            return Outcome(current, published=False, stages=stages)
        origin = Origin(
            data_fingerprint=data,
            split_fingerprint=splits.fingerprint,
            content_fingerprint=content,
            code_version=version("nextsong"),
            parameters=asdict(parameters) | {"epochs": trained.summary["epochs"]},
            sources=[file.name for file in files],
            track_ids=prepared.summary["track_ids"],
        )
        with assembled(stages, work) as (songs_path, counts):
            draft = Draft(songs_path, parameters.dimensions, counts, origin)
            manifest = home.publish(draft, reporter)
        return Outcome(manifest, published=True, stages=stages)


def _read(
    files: Sequence[Path], columns: Mapping[str, str], folder: Path, reporter: Reporter
) -> dict[str, object]:
    account = read_files(
        files, columns, folder / "rows.parquet", folder / "unreadable.parquet", reporter
    )
    return {"text": f"{account.rows:,} rows, {account.unreadable:,} unreadable"} | asdict(account)


def _same_as_current(home: EmbeddedHome, content: str) -> Manifest | None:
    try:
        release = home.current()
        if release is None:
            return None
        manifest = home.manifest(release)
    except CorruptReleaseError:  # all the more reason to publish
        return None
    return manifest if manifest.origin.content_fingerprint == content else None
