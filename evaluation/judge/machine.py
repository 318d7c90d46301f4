"""What an evaluation was made with: the versions of the libraries, and the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = (
    "nextsong",
    "duckdb",
    "gensim",
    "grpcio",
    "implicit",
    "lightgbm",
    "numpy",
    "optuna",
    "pyarrow",
    "qdrant-client",
    "qdrant-edge-py",
    "scipy",
)


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that are installed, by name."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """System, processor, its model where it is known, cores, and memory in GB."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "model": _model(),
        "cores": os.cpu_count(),
        "memory_gb": _memory(),
    }


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _memory() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):  # a system that does not tell
        return None
    return round(size / 1e9, 1)
