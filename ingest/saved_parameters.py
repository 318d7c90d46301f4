"""Parameters saved by an earlier command: in a parameter file, or in the work folder of a run.

A parameter file is written by `nextsong tune` or by hand. It is TOML if its name ends in `.toml`,
otherwise JSON. It contains a table `parameters`. It may also contain a table `validation` (the
metric values by which the parameters were chosen) and the fields in `STUDY`, which go into the
manifest of the release.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from catalog.errors import FileError, InputError
from ingest.learn.cooccurrence import CountSummary
from ingest.learn.selection import ChooseSummary
from ingest.learn.word2vec import TrainSummary
from ingest.parameters import REPLACED, Parameters, describe_replacement
from ingest.prepare.playlists import PrepareSummary
from ingest.prepare.split import SplitSummary
from ingest.stages import Summary, find_stage, finished_stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STUDY = ("trials", "split_fingerprint", "playlists", "validation", "test", "beyond chance")
"""Fields of a parameter file that describe the study in which the parameters were chosen."""

_SUMMARIES: dict[str, type[Summary]] = {
    "prepare": PrepareSummary,
    "split": SplitSummary,
    "count": CountSummary,
    "train": TrainSummary,
    "choose": ChooseSummary,
}
"""The stages whose inputs include parameters, except `rank`, with the types of their summaries."""

_NAMES = {parameter.name for parameter in fields(Parameters)}


@dataclass(frozen=True)
class ParameterFile:
    """The content of a parameter file.

    - `parameters`: parameter values by name.
    - `validation`: metric values of these parameters on validation cases, by name.
    - `study`: the fields in `STUDY`, or empty if the file has no field `trials`.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    study: dict[str, Any] = field(default_factory=dict)


def read_parameter_file(path: Path) -> ParameterFile:
    """Read a parameter file.

    Raises `FileError` if it cannot be read, and `InputError` if its content is invalid.
    """
    content = _parse(path)
    parameters = content.get("parameters") if isinstance(content, dict) else None
    if not isinstance(parameters, dict):
        raise InputError(f"{path} has no table 'parameters'")
    defaults = asdict(Parameters())
    for name, value in parameters.items():
        if name in REPLACED:
            raise InputError(f"{path}: {name} was replaced: {describe_replacement(name)}")
        if name not in defaults:
            raise InputError(f"{path}: there is no parameter '{name}'")
        if not _has_type_of(value, defaults[name], is_flag=name == "ranker"):
            raise InputError(f"{path}: {name} cannot be {value!r}")
    validation = content.get("validation", {})
    if not isinstance(validation, dict) or not all(
        isinstance(value, int | float) for value in validation.values()
    ):
        raise InputError(f"{path}: 'validation' must hold numbers")
    study = {name: content[name] for name in STUDY if name in content}
    return ParameterFile(
        parameters,
        {name: float(value) for name, value in validation.items()},
        study if "trials" in content else {},
    )


def _parse(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read: {error}") from error
    try:
        return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise InputError(f"{path} is not {kind}: {error}") from error


def _has_type_of(value: Any, default: Any, *, is_flag: bool) -> bool:
    if is_flag:
        return value is None or isinstance(value, bool)
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, str):
        return isinstance(value, str)
    if isinstance(default, dict):
        return isinstance(value, dict) and all(
            isinstance(share, int | float) and not isinstance(share, bool)
            for share in value.values()
        )
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, int) or (value is None and default is None)


def format_parameter_file(content: Mapping[str, Any]) -> str:
    """Return the content of a parameter file as JSON text."""
    return json.dumps(content, indent=2) + "\n"


def last_parameters(work: Path) -> Parameters:
    """Return the parameters of the run that created the splits in the work folder.

    `order` is "played" or "none", as the run determined it. Parameters of unfinished stages have
    their default values. Raises `MismatchError` if there is no split.
    """
    split = finished_stage(work, "split", SplitSummary)
    values: dict[str, Any] = {}
    for name, summary in _SUMMARIES.items():
        stage = find_stage(work, name, summary)
        # Skip stages of an earlier run, which were made from another split.
        if stage and stage.inputs.get("split", split.fingerprint) == split.fingerprint:
            values |= {key: value for key, value in stage.inputs.items() if key in _NAMES}
            if isinstance(stage.summary, ChooseSummary):
                values |= stage.summary.selected.to_parameters() | {"mode": values["mode"]}
    if values.get("mode") == "ranked":
        values["mode"] = "auto"
    return Parameters(**values)
