"""Time and peak memory of each stage of an ingest, beside the tutorials' way, in one run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import FileError, NextsongError
from catalog.files import storage_errors, write_atomically
from catalog.terminal import echo, json_text
from evaluation.synthetic.raw_form import HEADER
from ingest.stats.charts import extra_needed

if TYPE_CHECKING:
    from catalog.progress import Reporter
    from ingest.parameters import Parameters

INTERVAL_S = 0.1
_ROUTES = {
    "file to playlists": (("read", "prepare", "split"), ("clean", "SQL")),
    "training": (("train",), ("train",)),
}


@dataclass(frozen=True)
class Step:
    """A finished step: its seconds, and the most memory (bytes) that all its processes held."""

    name: str
    seconds: float
    peak: int


@dataclass
class Way:
    """All steps of one way, and what came of it: rows used, playlists, songs.

    `total` are the seconds of the whole, from the start of its process to its end.
    """

    name: str
    steps: list[Step] = field(default_factory=list)
    outcome: dict[str, int] = field(default_factory=dict)
    total: float = 0.0

    def seconds(self, names: tuple[str, ...]) -> float:
        """How long these steps took, together."""
        return sum(step.seconds for step in self.steps if step.name in names)

    def peak(self, names: tuple[str, ...] = ()) -> int:
        """The most memory that any of these steps took; without names, that any step did."""
        return max((step.peak for step in self.steps if not names or step.name in names), default=0)


@dataclass(frozen=True)
class Ratio:
    """The tutorials' way over ours: above 1, ours is faster, or needs less memory."""

    route: str
    time: float
    memory: float


@dataclass(frozen=True)
class Comparison:
    """Both ways over the same file on the same machine, and their ratios."""

    file: str
    bytes: int
    ways: list[Way]
    ratios: list[Ratio]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def run(file: Path, parameters: Parameters, reporter: Reporter, *, tutorial: bool) -> Comparison:
    """Take `file` to a release, and, with `tutorial`, the tutorials' way to a model.

    Everything is made in a temporary folder and removed. Raises `NextsongError`.
    """
    _require_raw_form(file)
    if tutorial:
        with extra_needed("bench"):
            import pandas  # noqa: F401 -- for the second way, before the first takes hours
    ways = []
    for name in ("nextsong", "tutorial") if tutorial else ("nextsong",):
        with reporter.task(name) as task, tempfile.TemporaryDirectory(prefix="nextsong-") as folder:
            way = _taken(name, file.resolve(), Path(folder), parameters)
            task.result(", ".join(f"{step.name} {step.seconds:.1f} s" for step in way.steps))
        ways.append(way)
    return Comparison(str(file), file.stat().st_size, ways, _ratios(ways))


def _require_raw_form(file: Path) -> None:
    """Raise FileError for a file that the tutorials' way cannot take, before hours are spent."""
    if not file.is_file():
        raise FileError(f"{file}: no such file")
    with storage_errors(file), file.open("rb") as content:
        header = content.readline(1 << 16)
    if header.rstrip(b"\r\n") != HEADER.rstrip(b"\n"):
        raise FileError(
            f"{file} is not in the raw form of the #nowplaying file, whose header is "
            f"{HEADER.decode().rstrip()}: `nextsong demo --write-raw FILE` writes one"
        )


def _ratios(ways: list[Way]) -> list[Ratio]:
    if len(ways) < 2:
        return []
    ours, theirs = ways
    parts = [
        Ratio(
            route,
            theirs.seconds(their_steps) / max(ours.seconds(our_steps), 1e-9),
            theirs.peak(their_steps) / max(ours.peak(our_steps), 1),
        )
        for route, (our_steps, their_steps) in _ROUTES.items()
    ]
    memory = theirs.peak() / max(ours.peak(), 1)
    return [*parts, Ratio("the whole way", theirs.total / max(ours.total, 1e-9), memory)]


def _taken(name: str, file: Path, folder: Path, parameters: Parameters) -> Way:
    way, start = Way(name), time.perf_counter()
    arguments = [name, str(file), str(folder), json.dumps(asdict(parameters))]
    command = [sys.executable, "-P", "-m", "evaluation.bench.steps", *arguments]
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(  # noqa: S603 -- our own module, no shell
            command, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as child,
    ):
        memory = _Memory(child.pid)
        try:
            assert child.stdout is not None
            for line in child.stdout:
                message: dict[str, Any] = json.loads(line)
                if "error" in message:
                    raise NextsongError(message["error"])
                if "step" in message:
                    step, seconds = message.pop("step"), message.pop("seconds")
                    way.steps.append(Step(step, seconds, memory.peak_and_reset()))
                way.outcome |= message
        except BaseException:
            child.kill()
            raise
        finally:
            memory.stop()
        if child.wait() != 0:
            complaints.seek(0)
            last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
            raise NextsongError(
                f"the {name} way ended early: {last[0] if last else child.returncode}"
            )
    way.total = round(time.perf_counter() - start, 3)
    return way


class _Memory:
    """Watches how much memory a process and its children hold; pages they share count once."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._peak = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            held = sum(_held(process) for process in _family(self._process))
            with self._lock:
                self._peak = max(self._peak, held)

    def peak_and_reset(self) -> int:
        """The most bytes since the last call; 0 where the system does not tell."""
        held = sum(_held(process) for process in _family(self._process))
        with self._lock:
            peak, self._peak = max(self._peak, held), 0
        return peak

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()
        self._watcher.join()


def _family(process: int) -> list[int]:
    """The process and all below it (Linux; elsewhere none)."""
    family = [process]
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                family += _family(int(child))
    except OSError:
        pass
    return family


def _held(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return 1024 * int(line.split()[1])


def show(comparison: Comparison) -> None:
    """Print both ways, step by step, and their ratios."""
    echo(f"{comparison.file}: {comparison.bytes / 1e6:,.0f} MB")
    for way in comparison.ways:
        echo()
        echo(way.name, bold=True)
        for step in way.steps:
            echo(f"  {step.name:<12}{step.seconds:>10.1f} s{_gigabytes(step.peak):>12}")
        echo(f"  {'in all':<12}{way.total:>10.1f} s{_gigabytes(way.peak()):>12}")
        echo("  " + ", ".join(f"{count:,} {name}" for name, count in way.outcome.items()))
    if comparison.ratios:
        echo("\nThe tutorials' way, which ends with a model, takes, compared with nextsong:")
    for ratio in comparison.ratios:
        echo(
            f"  {ratio.route:<20}{ratio.time:>6.2f} times the time{ratio.memory:>8.2f} times the "
            f"memory"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size else "-"


def write_json(comparison: Comparison, path: Path) -> None:
    """Write the comparison as JSON. Raises `StorageError`."""
    write_atomically(path, json_text(comparison.to_json(), indent=2) + "\n")
