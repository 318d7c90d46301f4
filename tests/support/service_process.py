"""`nextsong serve` in a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.support.road import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTING_S = 60.0


class Service:
    """`nextsong serve` in a separate process.

    The log is written to a file. A pipe that nobody reads would block the service after 64 kB.
    """

    def __init__(self, log: IO[str], home: Path, *options: str, path: Path | None = None) -> None:
        self._log = log
        command = [sys.executable, "-m", "cli.main", "serve", "--home", str(home)]
        paths = [str(path) if path else "", os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--drain", "0", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self.printed: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line.rstrip())
            if line.startswith("serving"):
                return

    @property
    def address(self) -> str:
        return self.printed[-1].split()[-1]

    def metrics(self) -> str:
        port = self.printed[0].split()[-1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def children(self) -> list[int]:
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    def stop(self) -> tuple[int, str]:
        """Stop the service. Return the exit code and the log."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Wait until the service has ended. Return the exit code and the log."""
        self.process.communicate(timeout=STARTING_S)
        self._log.seek(0)
        return self.process.returncode, self._log.read()


@contextmanager
def run_service(home: Path, *options: str, path: Path | None = None) -> Iterator[Service]:
    """Run the service. Modules in the folder `path` take precedence over installed modules."""
    with tempfile.TemporaryFile("w+") as log:
        service = Service(log, home, *options, path=path)
        try:
            yield service
        finally:
            if service.process.poll() is None:
                service.process.kill()
                service.process.communicate()
