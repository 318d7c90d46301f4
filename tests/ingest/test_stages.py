"""The work folder: unchanged stages are reused, and the folder of a stage is never incomplete."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.console.progress import SilentReporter
from catalog.errors import FileError, MismatchError, StorageError
from ingest.source_code import SourceCode
from ingest.stages import (
    RECORD,
    Stage,
    StageDefinition,
    WorkFolder,
    fingerprint_of,
    fingerprint_of_files,
    finished_stage,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Built:
    """The summary of the stage in these tests."""

    text: str
    count: int = 0


COUNT = StageDefinition("count", Built, ())


class Bench:
    """Builds the stage "count" and counts how often it is built."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.builds = 0
        self.lines: list[str] = []
        self.code: SourceCode | None = None

    def folder(self, *, force: bool = False) -> WorkFolder:
        return WorkFolder(self.path, self, force=force, code=self.code)

    def run(self, *, force: bool = False, **inputs: Any) -> Stage[Built]:
        return self.folder(force=force).run_stage(COUNT, inputs, self._build)

    def _build(self, out: Path) -> Built:
        self.builds += 1
        (out / "numbers.parquet").write_text("1 2 3")
        (out / "rest.parquet").write_text("")
        return Built(f"build {self.builds}", 3)

    def say(self, text: str) -> None:
        self.lines.append(text)

    task = SilentReporter().task


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "work")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_stage_is_built(bench: Bench) -> None:
    stage = bench.run(seed=1)
    assert stage.folder == bench.path / "count"
    assert names(bench.path) == ["count"]
    assert names(stage.folder) == ["numbers.parquet", "rest.parquet", RECORD]
    assert stage.summary == Built("build 1", 3)
    assert len(stage.fingerprint) == 64


def test_a_stage_is_reused(bench: Bench) -> None:
    first = bench.run(seed=1, columns={"a": "b"}, files=["x", "y"])
    again = bench.run(files=["x", "y"], columns={"a": "b"}, seed=1)
    assert again == first
    assert bench.builds == 1
    assert bench.lines == ["  count      build 1  (unchanged)"]


@pytest.mark.parametrize(
    "inputs", [{"seed": 2}, {}, {"seed": "1"}, {"seed": 1, "other": None}, {"seed": [1]}]
)
def test_other_inputs_rebuild_a_stage(bench: Bench, inputs: dict[str, Any]) -> None:
    first = bench.run(seed=1)
    second = bench.run(**inputs)
    assert bench.builds == 2
    assert second.fingerprint != first.fingerprint
    assert bench.run(seed=1).fingerprint == first.fingerprint
    assert bench.builds == 3


def test_other_code_rebuilds_a_stage(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code.py"
    monkeypatch.setattr(f"{__name__}.COUNT", replace(COUNT, modules=(ModuleType("code"),)))
    for text in ("a = 1", "a = 2", "a = 2"):
        code.write_text(text)
        bench.code = SourceCode(tmp_path)
        bench.run(seed=1)
    assert bench.builds == 2


def test_a_summary_that_does_not_fit_rebuilds_a_stage(bench: Bench) -> None:
    record = bench.run(seed=1).folder / RECORD
    content = json.loads(record.read_text())
    del content["summary"]["text"]
    record.write_text(json.dumps(content))
    with pytest.raises(MismatchError, match=r"another version of nextsong \(count, text: .*run"):
        finished_stage(bench.path, "count", Built)
    bench.run(seed=1)
    assert bench.builds == 2
    assert finished_stage(bench.path, "count", Built).summary == Built("build 2", 3)


def test_stages_have_different_fingerprints(bench: Bench) -> None:
    item, two = (
        bench.folder().run_stage(StageDefinition(name, Built, ()), {}, lambda _: Built(""))
        for name in ("one", "two")
    )
    assert item.fingerprint != two.fingerprint
    assert names(bench.path) == ["one", "two"]


def test_force_rebuilds_a_stage(bench: Bench) -> None:
    first = bench.run(seed=1)
    assert bench.run(seed=1, force=True).fingerprint == first.fingerprint
    assert bench.builds == 2


def append(path: Path) -> None:
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "numbers.parquet").unlink(),
        lambda folder: (folder / "rest.parquet").unlink(),
        lambda folder: (folder / "numbers.parquet").write_text("1 2"),
        lambda folder: (folder / "numbers.parquet").write_text(""),
        lambda folder: append(folder / "numbers.parquet"),
        lambda folder: (folder / RECORD).unlink(),
        lambda folder: (folder / RECORD).write_text(""),
        lambda folder: (folder / RECORD).write_text("{}"),
        lambda folder: (folder / RECORD).write_text("[]"),
        lambda folder: (folder / RECORD).write_text("null"),
        lambda folder: (folder / RECORD).write_bytes(b"\xff\xfe\0"),
        lambda folder: (folder / RECORD).write_text((folder / RECORD).read_text()[:-20]),
        lambda folder: (folder / RECORD).write_text('{"files": 3, "fingerprint": 1, "summary": 2}'),
    ],
)
def test_a_damaged_stage_is_rebuilt(bench: Bench, damage: Callable[[Path], object]) -> None:
    first = bench.run(seed=1)
    damage(first.folder)
    with pytest.raises(MismatchError):
        finished_stage(bench.path, "count")
    second = bench.run(seed=1)
    assert bench.builds == 2
    assert second.fingerprint == first.fingerprint
    assert (second.folder / "numbers.parquet").read_text() == "1 2 3"
    assert finished_stage(bench.path, "count", Built) == second


class BrokenError(Exception):
    """An error that a build raises."""


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt, SystemExit])
def test_a_failed_build_keeps_the_previous_stage(bench: Bench, error: type[BaseException]) -> None:
    first = bench.run(seed=1)

    def build(out: Path) -> Built:
        (out / "numbers.parquet").write_text("half")
        raise error

    with pytest.raises(error):
        bench.folder().run_stage(COUNT, {"seed": 2}, build)
    assert names(bench.path) == ["count"]
    assert finished_stage(bench.path, "count", Built) == first
    assert bench.run(seed=1) == first
    assert bench.builds == 1


def test_a_failed_first_build_leaves_nothing(bench: Bench) -> None:
    def build(out: Path) -> Built:
        raise BrokenError

    with pytest.raises(BrokenError):
        bench.folder().run_stage(COUNT, {}, build)
    assert names(bench.path) == []


def test_a_summary_that_is_not_json_keeps_the_previous_stage(bench: Bench) -> None:
    first = bench.run(seed=1)
    with pytest.raises(TypeError):
        bench.folder().run_stage(COUNT, {}, lambda _: Built(object()))  # type: ignore[arg-type]
    assert names(bench.path) == ["count"]
    assert bench.run(seed=1) == first


def test_a_full_disk_is_a_storage_error(bench: Bench) -> None:
    first = bench.run(seed=1)

    def build(out: Path) -> Built:
        with Path("/dev/full").open("w") as file:
            file.write("x")
        return Built("")

    with pytest.raises(StorageError, match="the disk is full"):
        bench.folder().run_stage(COUNT, {}, build)
    assert finished_stage(bench.path, "count", Built) == first


def test_files_of_a_killed_run_are_removed(bench: Bench) -> None:
    left = bench.path / ".count.partial"
    left.mkdir(parents=True)
    (left / "stray.parquet").write_text("half")
    stage = bench.run(seed=1)
    assert names(bench.path) == ["count"]
    assert names(stage.folder) == ["numbers.parquet", "rest.parquet", RECORD]


def test_a_rebuilt_stage_has_no_files_of_the_previous_one(bench: Bench) -> None:
    bench.run(seed=1)
    stage = bench.folder().run_stage(COUNT, {}, lambda _: Built(""))
    assert names(stage.folder) == [RECORD]


def test_a_file_in_place_of_the_work_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("x")
    with pytest.raises(StorageError, match="a file exists where a folder is needed"):
        WorkFolder(tmp_path / "work", SilentReporter())


def test_a_missing_stage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"holds no finished 'train': .*ingest run.*--work"):
        finished_stage(tmp_path / "none", "train")


def test_the_record_is_readable_by_people(bench: Bench) -> None:
    record = json.loads((bench.run(seed=1).folder / RECORD).read_text())
    assert record["files"] == {"numbers.parquet": 5, "rest.parquet": 0}
    assert record["summary"] == {"text": "build 1", "count": 3}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(), json_values), json_values)
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], other: Any) -> None:
    turned = dict(reversed(value.items()))
    assert fingerprint_of(turned) == fingerprint_of(value)
    assert (fingerprint_of(other) == fingerprint_of(value)) == (
        json.dumps(other, sort_keys=True) == json.dumps(value, sort_keys=True)
    )


def test_a_fingerprint_is_pinned() -> None:
    # Fingerprints must stay the same in all versions, because they link releases to work folders
    # that may be years old.
    expected = "d8497d9d82770a70729261095aa98f7ef5154d7af499f8037b6ca250296785a6"
    assert fingerprint_of({"b": 2, "a": 1}) == expected
    assert hashlib.sha256(b'{"a": 1, "b": 2}').hexdigest() == expected


def test_the_fingerprint_of_files_depends_on_content_and_order(tmp_path: Path) -> None:
    item, two, copy = tmp_path / "one", tmp_path / "two", tmp_path / "copy"
    item.write_text("1")
    two.write_text("2")
    copy.write_text("1")
    assert fingerprint_of_files([item, two]) == fingerprint_of_files([copy, two])
    result = [[item, two], [two, item], [item], [item, item], [two], []]
    assert len({fingerprint_of_files(files) for files in result}) == len(result)


def test_the_number_of_bytes_read_is_reported(tmp_path: Path) -> None:
    files = [tmp_path / "large", tmp_path / "small"]
    files[0].write_bytes(bytes(10_000_000))
    files[1].write_bytes(bytes(10))
    sizes: list[float] = []
    assert fingerprint_of_files(files, sizes.append) == fingerprint_of_files(files)
    assert sizes == sorted(sizes)
    assert len(sizes) > len(files)
    assert sizes[-1] == 10_000_010


def test_the_end_of_each_file_matters(tmp_path: Path) -> None:
    (tmp_path / "ab").write_text("ab")
    (tmp_path / "c").write_text("c")
    (tmp_path / "a").write_text("a")
    (tmp_path / "bc").write_text("bc")
    first = fingerprint_of_files([tmp_path / "ab", tmp_path / "c"])
    assert fingerprint_of_files([tmp_path / "a", tmp_path / "bc"]) != first


def test_unreadable_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="none: no such file"):
        fingerprint_of_files([tmp_path / "none"])
    with pytest.raises(FileError, match="is a folder: name the files in it"):
        fingerprint_of_files([tmp_path])
    with pytest.raises(FileError, match="cannot be read"):
        fingerprint_of_files([Path("/proc/self/mem")])
