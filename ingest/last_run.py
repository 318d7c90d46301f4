"""The parameters of the last ingest run, as its work folder remembers them."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from catalog.errors import MismatchError
from ingest.parameters import Parameters
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from pathlib import Path

STAGES = ("prepare", "split", "count", "train", "choose")
"""What the inputs of these stages say, the later ones first in doubt, are all the parameters but
those of the ranker."""


def last_parameters(work: Path) -> Parameters:
    """The parameters of the run that made the splits in `work`, with the order that it settled on.

    What a stage would say that did not come to its end, has its default. Raises `MismatchError`
    where there is no split.
    """
    known = {one.name for one in fields(Parameters)}
    found: dict[str, Any] = {}
    split = finished_stage(work, "split")
    for name in STAGES:
        try:
            stage = finished_stage(work, name)
        except MismatchError:
            continue
        if stage.inputs.get("split", split.fingerprint) != split.fingerprint:
            continue  # of an earlier run, which this one did not get to replace
        found |= {key: value for key, value in stage.inputs.items() if key in known}
        if name == "choose":
            found["dense_weight"] = stage.summary["dense_weight"]
    if found.get("mode") == "ranked":
        found["mode"] = "auto"
    return Parameters(**found)
