"""The environment of an evaluation: the versions of the libraries, and the machine."""

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


def find_library_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries, by name."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def describe_machine() -> dict[str, Any]:
    """Return the hardware and the operating system of this machine.

    The keys are the operating system, the processor architecture, the processor model, the number
    of cores, and the memory in GB.
    """
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "model": _find_processor_model(),
        "cores": os.cpu_count(),
        "memory_gb": _measure_memory(),
    }


def _find_processor_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not on Linux
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _measure_memory() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):  # not available on this system
        return None
    return round(size / 1e9, 1)
