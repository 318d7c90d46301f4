"""CPU time and memory of other processes, as Linux reports them in /proc."""

from __future__ import annotations

import os
import threading
from pathlib import Path

INTERVAL_S = 0.1  # seconds between two measurements of memory


def read_cpu_seconds(pid: int) -> float | None:
    """Return the CPU seconds of a process and its children, or None if they are not available."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ticks = 0
        for process in [str(pid), *children]:
            fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    except OSError:
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def list_process_tree(pid: int) -> list[int]:
    """Return the ids of a process and its descendants.

    On systems other than Linux, only the id of the process itself is returned.
    """
    tree = [pid]
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                tree += list_process_tree(int(child))
    except OSError:
        pass
    return tree


class MemoryWatch:
    """Measures the memory of a process and its descendants in a background thread.

    Memory pages that several processes share are counted once.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            self._measure()

    def _measure(self) -> None:
        size = sum(_read_resident_bytes(pid) for pid in list_process_tree(self._pid))
        with self._lock:
            self._peak = max(self._peak, size)

    def take_peak(self) -> int:
        """Return the peak memory in bytes since the last call, or 0 if it is not available."""
        self._measure()
        with self._lock:
            peak, self._peak = self._peak, 0
        return peak

    def stop(self) -> None:
        """Stop the background thread."""
        self._stopped.set()
        self._thread.join()


def _read_resident_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return 1024 * int(line.split()[1])
