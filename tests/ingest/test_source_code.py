"""Fingerprints of code: a stage is run again if and only if code that it uses has changed."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from ingest import pipeline, source_code
from ingest.source_code import SourceCode
from tests.support.road import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.stages import StageDefinition

STAGES: list[StageDefinition[Any]] = [
    pipeline.READ,
    pipeline.PREPARE,
    pipeline.SPLIT,
    pipeline.COUNT,
    pipeline.TRAIN,
    pipeline.RANK,
    pipeline.CHOOSE,
]

FILES = {
    "app/__init__.py": "",
    "app/stage.py": "from app import direct\nfrom app.deep.inner import function\n"
    "if TYPE_CHECKING:\n    from app import types\n",
    "app/direct.py": "def late():\n    import app.lazy\n",
    "app/lazy.py": "import numpy, json",
    "app/deep/__init__.py": "",
    "app/deep/inner.py": "def function(): ...",
    "app/types.py": "class OnlyForTypes: ...",
    "app/unrelated.py": "import app.stage",
}
"""The modules of a package. `app.stage` runs all of them except the last two."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def fingerprint(root: Path) -> str:
    return SourceCode(root).fingerprint([ModuleType("app.stage")])


@pytest.mark.parametrize("name", FILES)
def test_a_change_of_code_counts_if_the_stage_runs_it(root: Path, name: str) -> None:
    before = fingerprint(root)
    assert fingerprint(root) == before
    (root / name).write_text(FILES[name] + "\n# changed\n")
    is_run = name not in {"app/types.py", "app/unrelated.py"}
    assert (fingerprint(root) != before) == is_run


def test_a_new_module_counts_when_it_is_imported(root: Path) -> None:
    before = fingerprint(root)
    (root / "app" / "new.py").write_text("")
    assert fingerprint(root) == before
    (root / "app" / "lazy.py").write_text("import numpy, json, app.new")
    imported = fingerprint(root)
    (root / "app" / "new.py").write_text("a = 1")
    assert len({before, imported, fingerprint(root)}) == 3


def test_the_version_of_a_library_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SourceCode(root).collect(["app.stage"])[1] == {"numpy"}
    before = fingerprint(root)
    monkeypatch.setattr(source_code, "version", lambda _: "0.0.1")
    assert fingerprint(root) != before


def test_the_stages_cover_every_module_that_they_import() -> None:
    names = sorted({module.__name__ for stage in STAGES for module in stage.modules})
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    ours = {name for name in shown.split() if name.split(".")[0] in {"catalog", "ingest"}}
    assert ours <= set(SourceCode().collect(names)[0])


def test_the_stages_use_these_libraries() -> None:
    code = SourceCode()
    libraries = {
        stage.name: code.collect(module.__name__ for module in stage.modules)[1] for stage in STAGES
    }
    assert {"lightgbm", "numpy"} <= libraries["rank"]
    assert {"pyarrow", "scipy", "numpy"} <= libraries["choose"]
    assert "gensim" in libraries["train"]
    assert "lightgbm" not in libraries["train"] | libraries["count"] | libraries["prepare"]
    assert "scipy" in libraries["count"]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_commands_and_stores_are_not_code_of_a_stage(stage: StageDefinition[Any]) -> None:
    modules = SourceCode().collect(module.__name__ for module in stage.modules)[0]
    assert not [name for name in modules if name.startswith("catalog.commands")]
    assert {"ingest.cli", "ingest.report", "catalog.store", "catalog.console.progress"}.isdisjoint(
        modules
    )
