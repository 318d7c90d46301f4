"""What `nextsong doctor` says of settings, folders, releases and the listening history."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from home_content import Content, content

from catalog import server_health
from catalog.embedded import EmbeddedHome
from catalog.reporting import Silent
from evaluation.main import main
from qdrant_fixtures import AsyncMemoryNodes, memory_home
from server_fixtures import damage
from service.history import History, now_ms
from service.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["content"]  # fixtures


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NEXTSONG_{name.upper()}", raising=False)


def told(home: Path, *options: object, exit_code: int) -> list[dict[str, Any]]:
    arguments = ["doctor", "--json", "--home", home, *options]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    found: list[dict[str, Any]] = json.loads(result.output)
    return found


def failures(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in findings if each["level"] == "failure"]


@pytest.fixture
def home(content: Content, tmp_path: Path) -> EmbeddedHome:
    home = EmbeddedHome(tmp_path / "home")
    home.publish(content.draft, Silent())
    return home


def test_all_is_well(home: EmbeddedHome) -> None:
    findings = told(home.path, exit_code=0)
    assert "settings in the environment can be used (127.0.0.1:50051, 1 processes)" in str(findings)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "abc", "port: Input should be a valid integer"),
        ("TLS_CERT", "gone.pem", "tls_cert and tls_key"),
        ("KEYS_FILE", "gone.keys", "cannot be read"),
        ("CONFIG", "gone.toml", "cannot be read"),
    ],
)
def test_settings_that_the_service_cannot_start_with(
    home: EmbeddedHome, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"NEXTSONG_{name}", value)
    (failure,) = failures(told(home.path, exit_code=1))
    assert said in failure["what"]
    assert failure["what"].startswith("the service cannot start: ")


def test_a_file_of_settings_is_looked_at(home: EmbeddedHome, tmp_path: Path) -> None:
    config = tmp_path / "service.toml"
    config.write_text("workers = 0\n")
    (failure,) = failures(told(home.path, "--config", config, exit_code=1))
    assert "workers" in failure["what"]
    assert str(config) in failure["advice"]


def test_a_file_is_no_home(tmp_path: Path) -> None:
    file = tmp_path / "afile"
    file.write_text("x")
    for given in (file, file / "below"):
        (failure,) = failures(told(given, exit_code=1))
        assert failure["what"] == f"{file} is a file"


def test_going_back_is_only_advised_where_there_is_something_older(
    home: EmbeddedHome, content: Content
) -> None:
    first = home.current() or ""
    damage(home, first)
    (failure,) = failures(told(home.path, exit_code=1))
    assert "rollback" not in failure["advice"]
    assert "no older one is kept" in failure["advice"]
    second = home.publish(content.draft, Silent()).release
    assert not failures(told(home.path, exit_code=0))
    damage(home, second)
    (failure,) = failures(told(home.path, exit_code=1))
    assert f"go back to {first}" in failure["advice"]


def test_the_history_is_looked_at(content: Content) -> None:
    home = memory_home()
    home.publish(content.draft, Silent())
    nodes: Any = home.nodes
    assert "history" not in str(list(server_health.health(home)))
    history = History(home.options, 10, 10, nodes=AsyncMemoryNodes(nodes))
    asyncio.run(history.record("ann", [(UUID(int=1), now_ms())]))
    states = {what: level for level, what, _ in server_health.health(home)}
    assert states["nextsong-history: green, 1 plays"] == "ok"
    del nodes.client._indexes["nextsong-history"]["at_ms"]
    assert "no index of at_ms" in str(list(server_health.health(home)))
