"""Parameter files: what `nextsong tune` writes and `nextsong ingest run --params` takes.

JSON or, by its ending `.toml`, TOML: a table `parameters`, and beside it what was measured when
they were chosen. The table `validation`, and of the other fields those in `STUDY`, go into the
release's manifest.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from catalog.errors import FileError, InputError
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


STUDY = ("trials", "split_fingerprint", "playlists", "validation", "test", "beyond chance")
"""What a file says of the study that chose its parameters, and a manifest keeps."""


@dataclass(frozen=True)
class Chosen:
    """The parameters that a file sets, by name, and the figures that it says they reached.

    `study` is what it says of how they were chosen: the fields in `STUDY` that it has, where it
    has `trials`.
    """

    parameters: dict[str, Any]
    validation: dict[str, float]
    study: dict[str, Any] = field(default_factory=dict)


NONE = Chosen({}, {})


def read(path: Path) -> Chosen:
    """Read a parameter file. Raises `FileError` or `InputError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read: {error}") from error
    try:
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise InputError(f"{path} is not {kind}: {error}") from error
    parameters = found.get("parameters") if isinstance(found, dict) else None
    if not isinstance(parameters, dict):
        raise InputError(f"{path} has no table 'parameters'")
    known = {one.name: one for one in fields(Parameters)}
    for name, value in parameters.items():
        if name not in known:
            raise InputError(f"{path}: there is no parameter '{name}'")
        default = known[name].default
        right = isinstance(value, bool) if isinstance(default, bool) else _fits(value, default)
        if not right:
            raise InputError(f"{path}: {name} cannot be {value!r}")
    validation = found.get("validation", {})
    if not isinstance(validation, dict) or not all(
        isinstance(value, int | float) for value in validation.values()
    ):
        raise InputError(f"{path}: 'validation' must hold numbers")
    study = {name: found[name] for name in STUDY if name in found} if "trials" in found else {}
    return Chosen(parameters, {name: float(value) for name, value in validation.items()}, study)


def _fits(value: Any, default: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(default, str):
        return isinstance(value, str)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, int) or (value is None and default is None)


def text_of(outcome: Mapping[str, Any]) -> str:
    """A parameter file as JSON."""
    return json.dumps(outcome, indent=2) + "\n"
