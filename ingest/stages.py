"""The work folder: what each stage left, so that the next run redoes only what has changed.

    WORK/<stage>/stage.json    fingerprint and summary, and the files with their sizes
    WORK/<stage>/*.parquet     what the stage made

A stage is built under another name and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import FileError, MismatchError
from catalog.files import make_folder, storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from catalog.progress import Reporter

RECORD = "stage.json"
_CHUNK = 4 << 20
_LIBRARIES = ("duckdb", "gensim", "numpy", "pyarrow", "scipy")


@dataclass(frozen=True)
class Stage:
    """A finished stage: its folder, its fingerprint, and its own summary with a line of `text`.

    `inputs` are what it was made from, as JSON values; those of other stages are fingerprints.
    """

    folder: Path
    fingerprint: str
    summary: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)


class WorkFolder:
    """The stages under `path`, created if need be. `force` redoes every stage."""

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = make_folder(path)
        self._force = force

    def stage(
        self,
        name: str,
        inputs: Mapping[str, Any],
        build: Callable[[Path], dict[str, Any]],
        reporter: Reporter,
    ) -> Stage:
        """The stage `name` for these inputs: reused if it is there, else built by `build(folder)`.

        `inputs` must be all that the result depends on, as JSON values; the code is added. `build`
        returns the summary. Raises `StorageError`, and what `build` raises.
        """
        fingerprint = fingerprint_of({"stage": name, "code": code_fingerprint(), **inputs})
        if not self._force:
            done = _load(self.path / name)
            if done is not None and done.fingerprint == fingerprint:
                reporter.say(f"  {name:<10} {done.summary['text']}  (unchanged)")
                return done
        partial = self.path / f".{name}.partial"
        with storage_errors(partial):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                summary = build(partial)
                files = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
                record = {
                    "fingerprint": fingerprint,
                    "inputs": inputs,
                    "summary": summary,
                    "files": files,
                }
                (partial / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
                shutil.rmtree(self.path / name, ignore_errors=True)
                partial.rename(self.path / name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return Stage(self.path / name, fingerprint, summary, dict(inputs))


def finished_stage(path: Path, name: str) -> Stage:
    """A stage that an earlier run left in the work folder `path`. Raises `MismatchError`."""
    stage = _load(path / name)
    if stage is None:
        raise MismatchError(
            f"{path} holds no finished '{name}': run `nextsong ingest run FILE` first, "
            f"or name the folder that it used with --work"
        )
    return stage


def _load(folder: Path) -> Stage | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in record["files"]}
        if sizes != record["files"]:
            return None
        return Stage(folder, record["fingerprint"], record["summary"], record["inputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint_of(value: Any) -> str:
    """SHA-256 of a JSON value, in hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fingerprint_of_files(
    files: Sequence[Path], on_bytes: Callable[[float], None] | None = None
) -> str:
    """SHA-256 over the contents of the files, in order. Raises `FileError`.

    `on_bytes(done)`, if given, is called now and then with the bytes that have been read.
    """
    digests = []
    done = 0
    for path in files:
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    done += len(chunk)
                    if on_bytes:
                        on_bytes(done)
        except FileNotFoundError as error:
            raise FileError(f"{path}: no such file") from error
        except IsADirectoryError as error:
            raise FileError(f"{path} is a folder: name the files in it") from error
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror}") from error
        digests.append(digest.hexdigest())
    return fingerprint_of(digests)


@cache
def code_fingerprint() -> str:
    """SHA-256 of the source of this room, of the ones below it, and of the libraries' versions."""
    here = Path(__file__).parent
    sources = sorted([*here.rglob("*.py"), *(here.parent / "catalog").rglob("*.py")])
    parts = [path.read_bytes() for path in sources]
    parts += [f"{name} {version(name)}".encode() for name in _LIBRARIES]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
