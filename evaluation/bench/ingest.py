"""The benchmark `nextsong bench ingest`: time and peak memory of each stage of an ingest.

For comparison, the same file can also be processed as in common Word2Vec tutorials: with pandas,
SQL, and gensim on Python lists. This is called the tutorial approach.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.console.terminal import echo
from catalog.errors import FileError, NextsongError
from catalog.files import storage_errors
from evaluation.bench.processes import MemoryWatch
from evaluation.synthetic.raw_form import HEADER
from ingest.stats.charts import extra_needed

if TYPE_CHECKING:
    from catalog.console.progress import Reporter
    from ingest.parameters import Parameters

# For each ratio, the steps of nextsong and the equivalent steps of the tutorial approach.
_COMPARED_STEPS = {
    "file to playlists": (("read", "prepare", "split"), ("clean", "SQL")),
    "training": (("train",), ("train",)),
}


@dataclass(frozen=True)
class Step:
    """A finished step: its duration in seconds, and the peak memory of its processes in bytes."""

    name: str
    seconds: float
    peak: int


@dataclass
class Way:
    """The measurements of one way to turn a file of playlists into a model.

    - `name`: "nextsong", or "tutorial" for a script as in tutorials on Word2Vec.
    - `outcome`: the numbers of rows, playlists and songs.
    - `total`: the duration of the whole process in seconds.
    """

    name: str
    steps: list[Step] = field(default_factory=list)
    outcome: dict[str, int] = field(default_factory=dict)
    total: float = 0.0

    def seconds(self, names: tuple[str, ...]) -> float:
        """Return the total duration, in seconds, of the steps with these names."""
        return sum(step.seconds for step in self.steps if step.name in names)

    def peak(self, names: tuple[str, ...] = ()) -> int:
        """Return the peak memory of these steps in bytes, by default of all steps."""
        return max((step.peak for step in self.steps if not names or step.name in names), default=0)


@dataclass(frozen=True)
class Ratio:
    """Time and memory of the tutorial script (see `Way`), divided by those of nextsong.

    `route` names the steps that are compared.
    """

    route: str
    time: float
    memory: float


@dataclass(frozen=True)
class Comparison:
    """The measurements of nextsong and of the tutorial script on one file, and their ratios."""

    file: str
    bytes: int
    ways: list[Way]
    ratios: list[Ratio]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        return asdict(self)


def run(file: Path, parameters: Parameters, reporter: Reporter, *, tutorial: bool) -> Comparison:
    """Measure nextsong on `file` and, if `tutorial` is set, also the tutorial script.

    All output is written to temporary folders. Raises `NextsongError`.
    """
    _require_raw_form(file)
    if tutorial:
        with extra_needed("bench"):
            import pandas  # noqa: F401 -- fail early if pandas is missing
    ways = []
    for name in ("nextsong", "tutorial") if tutorial else ("nextsong",):
        with reporter.task(name) as task, tempfile.TemporaryDirectory(prefix="nextsong-") as folder:
            way = _measure(name, file.resolve(), Path(folder), parameters)
            task.result(", ".join(f"{step.name} {step.seconds:.1f} s" for step in way.steps))
        ways.append(way)
    return Comparison(str(file), file.stat().st_size, ways, compute_ratios(ways))


def _require_raw_form(file: Path) -> None:
    """Raise `FileError` unless `file` exists and has the header of the #nowplaying dataset."""
    if not file.is_file():
        raise FileError(f"{file}: no such file")
    with storage_errors(file), file.open("rb") as content:
        header = content.readline(1 << 16)
    if header.rstrip(b"\r\n") != HEADER.rstrip(b"\n"):
        raise FileError(
            f"{file} is not in the format of the #nowplaying dataset, whose header is "
            f"{HEADER.decode().rstrip()}: `nextsong demo --write-raw FILE` writes one"
        )


def compute_ratios(ways: list[Way]) -> list[Ratio]:
    """Return the ratios of the tutorial approach to nextsong, for groups of steps and in total.

    Returns an empty list if only nextsong was measured.
    """
    if len(ways) < 2:
        return []
    ours, theirs = ways
    parts = [
        Ratio(
            route,
            theirs.seconds(their_steps) / max(ours.seconds(our_steps), 1e-9),
            theirs.peak(their_steps) / max(ours.peak(our_steps), 1),
        )
        for route, (our_steps, their_steps) in _COMPARED_STEPS.items()
    ]
    memory = theirs.peak() / max(ours.peak(), 1)
    return [*parts, Ratio("the whole way", theirs.total / max(ours.total, 1e-9), memory)]


def _measure(name: str, file: Path, folder: Path, parameters: Parameters) -> Way:
    way, start = Way(name), time.perf_counter()
    arguments = [name, str(file), str(folder), json.dumps(asdict(parameters))]
    command = [sys.executable, "-P", "-m", "evaluation.bench.steps", *arguments]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(  # noqa: S603 -- our own module, no shell
            command, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child,
    ):
        memory = MemoryWatch(child.pid)
        try:
            assert child.stdout is not None
            for line in child.stdout:
                message: dict[str, Any] = json.loads(line)
                if "error" in message:
                    raise NextsongError(message["error"])
                if "step" in message:
                    step, seconds = message.pop("step"), message.pop("seconds")
                    way.steps.append(Step(step, seconds, memory.take_peak()))
                way.outcome |= message
        except BaseException:
            child.kill()
            raise
        finally:
            memory.stop()
        if child.wait() != 0:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise NextsongError(
                f"the process for {name} failed: {last[0] if last else child.returncode}"
            )
    way.total = round(time.perf_counter() - start, 3)
    return way


def print_comparison(comparison: Comparison) -> None:
    """Print the time and memory of each step, and the ratios of the two approaches."""
    echo(f"{comparison.file}: {comparison.bytes / 1e6:,.0f} MB")
    for way in comparison.ways:
        echo()
        echo(way.name, bold=True)
        for step in way.steps:
            echo(f"  {step.name:<12}{step.seconds:>10.1f} s{_format_gigabytes(step.peak):>12}")
        echo(f"  {'in all':<12}{way.total:>10.1f} s{_format_gigabytes(way.peak()):>12}")
        echo("  " + ", ".join(f"{count:,} {name}" for name, count in way.outcome.items()))
    if comparison.ratios:
        echo("\nCompared with nextsong, the tutorial approach, which ends with a model, takes:")
    for ratio in comparison.ratios:
        echo(
            f"  {ratio.route:<20}{ratio.time:>6.2f} times the time{ratio.memory:>8.2f} times the "
            f"memory"
        )


def _format_gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size else "-"
