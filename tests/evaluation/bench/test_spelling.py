"""`nextsong bench spelling`: generated spelling mistakes, and figures of a small release."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from rapidfuzz.distance import OSA

from catalog.embedded.store import EmbeddedStore
from catalog.song import normalise
from cli.main import main
from evaluation.bench.spelling import KINDS, misspell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("edits", [1, 2])
def test_a_misspelt_text_differs_by_at_most_the_number_of_edits(edits: int) -> None:
    rng = random.Random(0)
    text = "abba - sos"
    changed = {misspell(text, edits, rng) for _ in range(300)}
    assert normalise(text) not in changed
    assert {OSA.distance(text, other) for other in changed} <= set(range(1, 2 * edits + 1))
    assert any(other[0] != "a" for other in changed)  # the first letter can change
    assert misspell("x", 2, rng) not in {"", "x"}


def test_misspelt_names_of_a_synthetic_release_are_measured(tmp_path: Path) -> None:
    arguments = ["bench", "spelling", "--songs=1000", "--sample=40", f"--home={tmp_path}"]
    printed = CliRunner().invoke(main, [*arguments, "--json", "--quiet"])
    assert printed.exit_code == 0, printed.output
    document = json.loads(printed.stdout)
    assert document["songs"] == 1_000
    assert [(result["kind"], result["edits"]) for result in document["results"]] == [
        (kind, edits) for kind in KINDS for edits in (1, 2)
    ]
    for result in document["results"]:
        first = result["first"]
        assert first["low"] <= first["mean"] <= first["high"]
        assert result["texts"] == 40
        assert (result["chosen"] is None) == (result["kind"] != "name")
    assert document["results"][0]["first"]["mean"] > 0.9
    assert document["results"][0]["wrong"] < 0.1
    store = EmbeddedStore(tmp_path / "bench-spelling-1000")
    releases = store.releases()
    table = CliRunner().invoke(main, arguments)  # the second run reuses the published release
    assert "wrong if unknown" in table.stdout
    assert store.releases() == releases
