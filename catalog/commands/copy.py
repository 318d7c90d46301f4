"""Copying of a release from one store to another, bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import BusyError, GateError, NoReleaseError
from catalog.files import make_folder, storage_errors
from catalog.server.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from catalog.console.progress import Reporter, Task
    from catalog.manifest import Manifest
    from catalog.store import OpenRelease, ReleaseStore


def copy_release(
    source: ReleaseStore,
    target: ReleaseStore,
    release: str | None,
    scratch: Path,
    reporter: Reporter,
) -> Manifest:
    """Copy a release from `source` to `target` under the same id, and return its manifest.

    If `release` is None, the current release is copied. Before the copy becomes current, it is read
    back; it is removed if a payload or a vector differs from the original in any bit. `scratch` is
    a folder for a temporary Parquet file of all songs. Raises `GateError` if the copy differs,
    `BusyError` if the release is already current in the target, and the errors of reading and
    publishing a release.
    """
    release = release or source.current()
    if release is None:
        raise NoReleaseError(f"no release in {source.location} yet: there is nothing to copy")
    if release == target.current():
        raise BusyError(f"release {release} is already the current one of {target.location}")
    with storage_errors(scratch), tempfile.TemporaryDirectory(dir=make_folder(scratch)) as folder:
        draft = source.export(release, Path(folder) / "songs.parquet", reporter)

        def compare(copy: OpenRelease) -> None:
            with reporter.task("compare") as task:
                original_digest = _compute_digest(_read_batches(draft.songs_path), task)
                if _compute_digest(target.batches(copy), task) != original_digest:
                    raise GateError(
                        f"the copy of release {release} in {target.location} is not "
                        f"identical to the original in {source.location}: the target is unchanged"
                    )
                task.result(f"{draft.counts.songs:,} songs, identical to the original")

        return target.publish(draft, reporter, compare)


def _read_batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(1_000):
        yield batch.to_pylist()


def _compute_digest(batches: Iterable[list[dict[str, Any]]], task: Task) -> str:
    digest = Digest()
    for rows in batches:
        digest.add(rows)
        task.advance(digest.songs)
    return digest.hex()
