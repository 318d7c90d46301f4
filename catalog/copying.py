"""Carries a release from one home to the other, bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.digest import Digest
from catalog.errors import BusyError, EngineError, NoReleaseError
from catalog.storage import make_folder, storage_errors

if TYPE_CHECKING:
    from catalog.manifest import Manifest
    from catalog.release import Home
    from catalog.reporting import Reporter


def copy(
    source: Home, target: Home, release: str | None, scratch: Path, reporter: Reporter
) -> Manifest:
    """Publish a release of `source`, the current one if none is named, in `target` under its name.

    What was written is read back and compared: payloads and vectors must be the same to the bit.
    `scratch` is a folder with room for all songs in Parquet. Raises `BusyError` if the target has
    the release already, and whatever reading and publishing raise.
    """
    chosen = release or source.current()
    if chosen is None:
        raise NoReleaseError(f"no release in {source.place} yet: there is nothing to copy")
    if chosen == target.current():
        raise BusyError(f"release {chosen} is the current one of {target.place} already")
    with storage_errors(scratch), tempfile.TemporaryDirectory(dir=make_folder(scratch)) as folder:
        draft = source.export(chosen, Path(folder) / "songs.parquet", reporter)
        manifest = target.publish(draft, reporter)
        written = target.export(chosen, Path(folder) / "written.parquet", reporter)
        if _sum(draft.songs_path) != _sum(written.songs_path):
            raise EngineError(
                f"release {chosen} in {target.place} is not the same to the bit as in "
                f"{source.place}: roll it back with `nextsong releases rollback`"
            )
    return manifest


def _sum(path: Path) -> str:
    import pyarrow.parquet as pq

    digest = Digest()
    for batch in pq.ParquetFile(path).iter_batches(1_000):
        digest.add(batch.to_pylist())
    return digest.hex()
