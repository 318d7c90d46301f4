"""The work folder: keeps the result of each stage, so that a run repeats only changed stages.

    WORK/<stage>/stage.json    fingerprint, inputs and summary of the stage; names and sizes of the
                               other files
    WORK/<stage>/*.parquet     the result of the stage

A stage is written to a temporary folder, which is renamed when the stage is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, overload

from pydantic import TypeAdapter, ValidationError

from catalog.errors import FileError, MismatchError
from catalog.files import make_folder, storage_errors
from ingest.source_code import SourceCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

    from catalog.console.progress import Reporter

RECORD = "stage.json"
_CHUNK = 4 << 20  # bytes


class Summary(Protocol):
    """The summary of a stage: a dataclass of JSON values, which includes a text for display."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def text(self) -> str:
        """One-line summary for display."""


S = TypeVar("S", bound=Summary)
T = TypeVar("T")


@dataclass(frozen=True)
class StageDefinition(Generic[S]):
    """A stage: its name, the type of its summary, and the modules whose code makes the result."""

    name: str
    summary: type[S]
    modules: tuple[ModuleType, ...]


@dataclass(frozen=True)
class Stage(Generic[T]):
    """A finished stage: folder, fingerprint, summary and inputs.

    `inputs` contains the JSON values that determined the result: parameters, and the fingerprints
    of earlier stages.
    """

    folder: Path
    fingerprint: str
    summary: T
    inputs: dict[str, Any] = field(default_factory=dict)


class WorkFolder:
    """The stages in the folder `path`, which is created if needed. `force` repeats every stage."""

    def __init__(
        self,
        path: Path,
        reporter: Reporter,
        *,
        force: bool = False,
        code: SourceCode | None = None,
    ) -> None:
        self.path = make_folder(path)
        self._reporter = reporter
        self._force = force
        self._code = code or SourceCode()

    def run_stage(
        self,
        definition: StageDefinition[S],
        inputs: Mapping[str, Any],
        build: Callable[[Path], S],
    ) -> Stage[S]:
        """Return the finished stage if its inputs and code are unchanged, else run it.

        `build(folder)` writes the result to `folder` and returns the summary. A stage is also run
        again if the stored summary does not have the type `definition.summary`, because another
        version of nextsong made it.
        Raises `StorageError`, and any error that `build` raises.
        """
        name = definition.name
        code = self._code.fingerprint(definition.modules)
        fingerprint = fingerprint_of({"stage": name, "code": code, **inputs})
        if not self._force:
            finished = self._find(definition)
            if finished and finished.fingerprint == fingerprint:
                self._reporter.say(f"  {name:<10} {finished.summary.text}  (unchanged)")
                return finished
        partial = self.path / f".{name}.partial"
        with storage_errors(partial):
            shutil.rmtree(partial, ignore_errors=True)
            try:
                partial.mkdir()
                summary = build(partial)
                files = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
                record = {
                    "fingerprint": fingerprint,
                    "inputs": inputs,
                    "summary": asdict(summary),
                    "files": files,
                }
                (partial / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
                shutil.rmtree(self.path / name, ignore_errors=True)
                partial.rename(self.path / name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return Stage(self.path / name, fingerprint, summary, dict(inputs))

    def remove_stage(self, definition: StageDefinition[Any]) -> None:
        """Remove the result of a stage that the current run does not have."""
        shutil.rmtree(self.path / definition.name, ignore_errors=True)

    def _find(self, definition: StageDefinition[S]) -> Stage[S] | None:
        """Return the finished stage, or None if it does not exist or another version made it."""
        try:
            return find_stage(self.path, definition.name, definition.summary)
        except MismatchError:
            return None


@overload
def finished_stage(work: Path, name: str) -> Stage[dict[str, Any]]: ...
@overload
def finished_stage(work: Path, name: str, summary: type[S]) -> Stage[S]: ...
def finished_stage(work: Path, name: str, summary: type[S] | None = None) -> Stage[Any]:
    """Return a stage that an earlier run finished in the work folder.

    The summary has the type `summary`, or is a dictionary if no type is given. Raises
    `MismatchError` if there is no such stage, or if the summary does not have this type.
    """
    stage = find_stage(work, name, summary) if summary else _load(work / name)
    if stage is None:
        raise MismatchError(
            f"{work} holds no finished '{name}': run `nextsong ingest run FILE` first, "
            f"or name the folder that it used with --work"
        )
    return stage


def find_stage(work: Path, name: str, summary: type[S]) -> Stage[S] | None:
    """Return a stage that an earlier run finished in the work folder, or None.

    Raises `MismatchError` if the summary of the stage does not have the type `summary`.
    """
    stage = _load(work / name)
    if stage is None:
        return None
    try:
        # In strict mode, pydantic accepts a list for a tuple only when it validates JSON.
        value = TypeAdapter(summary).validate_json(json.dumps(stage.summary), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise MismatchError(
            f"{work} was made by another version of nextsong ({name}, {where}: {first['msg']}): "
            f"run `nextsong ingest run` again"
        ) from error
    return Stage(stage.folder, stage.fingerprint, value, stage.inputs)


def _load(folder: Path) -> Stage[dict[str, Any]] | None:
    """Return the stage in a folder, or None if the stage is missing or damaged."""
    try:
        record = _RECORD.validate_json((folder / RECORD).read_bytes())
        sizes = {name: (folder / name).stat().st_size for name in record.files}
    except (OSError, ValidationError):
        return None
    if sizes != record.files:
        return None
    return Stage(folder, record.fingerprint, record.summary, record.inputs)


@dataclass(frozen=True)
class _Record:
    """The content of `stage.json`."""

    fingerprint: str
    inputs: dict[str, Any]
    summary: dict[str, Any]
    files: dict[str, int]


_RECORD = TypeAdapter(_Record)


def fingerprint_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal. The order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fingerprint_of_files(
    files: Sequence[Path], on_bytes: Callable[[float], None] | None = None
) -> str:
    """Return the SHA-256 of the contents of the files, in order. Raises `FileError`.

    `on_bytes(done)`, if given, is called after each chunk with the number of bytes read so far.
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
