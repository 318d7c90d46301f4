"""Copy a release from one store to another, bit for bit."""

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


def copy(
    source: ReleaseStore,
    target: ReleaseStore,
    release: str | None,
    scratch: Path,
    reporter: Reporter,
) -> Manifest:
    """Publish a release of `source`, by default the current one, in `target` with the same id.

    The copy is read back before it becomes current. `GateError` is raised, and the copy removed,
    unless payloads and vectors are the same to the bit. `scratch` is a folder for a Parquet file of
    all songs. Raises `BusyError` if the release is current in the target already, and the errors of
    reading and publishing.
    """
    chosen = release or source.current()
    if chosen is None:
        raise NoReleaseError(f"no release in {source.location} yet: there is nothing to copy")
    if chosen == target.current():
        raise BusyError(f"release {chosen} is the current one of {target.location} already")
    with storage_errors(scratch), tempfile.TemporaryDirectory(dir=make_folder(scratch)) as folder:
        draft = source.export(chosen, Path(folder) / "songs.parquet", reporter)

        def compare(written: OpenRelease) -> None:
            with reporter.task("compare") as task:
                if _sum(target.batches(written), task) != _sum(_rows(draft.songs_path), task):
                    raise GateError(
                        f"the copy of release {chosen} in {target.location} is not the same to the "
                        f"bit as the original in {source.location}: nothing was changed there"
                    )
                task.result(f"{draft.counts.songs:,} songs, the same to the bit")

        return target.publish(draft, reporter, compare)


def _rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(1_000):
        yield batch.to_pylist()


def _sum(batches: Iterable[list[dict[str, Any]]], task: Task) -> str:
    digest = Digest()
    for rows in batches:
        digest.add(rows)
        task.advance(digest.songs)
    return digest.hex()
