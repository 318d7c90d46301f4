"""Findings of `nextsong doctor` about settings, folders, releases and the listening history."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from qdrant_client import models

from catalog.commands import doctor
from catalog.console.progress import SilentReporter
from catalog.errors import InputError
from catalog.server.health import check_collections
from cli.main import main
from service.history import History, now_ms
from service.settings import Settings
from tests.support.qdrant_servers import AsyncMemoryNodes, memory_store
from tests.support.road import copy_store, linked
from tests.support.rpc_servers import damage

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.embedded.store import EmbeddedStore
    from tests.support.store_content import Content


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NEXTSONG_{name.upper()}", raising=False)


def run_doctor(home: Path, *options: object, exit_code: int) -> list[dict[str, Any]]:
    arguments = ["doctor", "--json", "--home", home, *options]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    found: list[dict[str, Any]] = json.loads(result.output)
    return found


def failures(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in findings if each["level"] == "failure"]


@pytest.fixture
def home(published: EmbeddedStore, tmp_path: Path) -> EmbeddedStore:
    return copy_store(published, tmp_path / "home")


def test_a_healthy_store_has_only_good_findings(home: EmbeddedStore) -> None:
    findings = run_doctor(home.path, exit_code=0)
    assert "settings in the environment can be used (127.0.0.1:50051, 1 process)" in str(findings)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "abc", "port: Input should be a valid integer"),
        ("TLS_CERT", "gone.pem", "tls_cert and tls_key"),
        ("KEYS_FILE", "gone.keys", "cannot be read"),
        ("CONFIG", "gone.toml", "cannot be read"),
    ],
)
def test_settings_that_prevent_the_start_of_the_service(
    home: EmbeddedStore, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"NEXTSONG_{name}", value)
    (failure,) = failures(run_doctor(home.path, exit_code=1))
    assert message in failure["what"]
    assert failure["what"].startswith("the service cannot start: ")


def test_a_settings_file_is_checked(home: EmbeddedStore, tmp_path: Path) -> None:
    config = tmp_path / "service.toml"
    config.write_text("workers = 0\n")
    (failure,) = failures(run_doctor(home.path, "--config", config, exit_code=1))
    assert "workers" in failure["what"]
    assert str(config) in failure["advice"]


def test_a_file_in_place_of_the_folder_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "afile"
    file.write_text("x")
    for given in (file, file / "below"):
        (failure,) = failures(run_doctor(given, exit_code=1))
        assert failure["what"] == f"{file} is a file"


def test_no_rollback_is_advised_if_no_older_release_is_intact(
    three: tuple[EmbeddedStore, list[str]],
) -> None:
    home, releases = three
    for release in releases:
        damage(home, release)
    failure, *_ = failures(run_doctor(home.path, exit_code=1))
    assert "releases rollback" not in failure["advice"]
    assert "no older one is intact" in failure["advice"]


def test_the_history_is_checked(content: Content) -> None:
    home = memory_store()
    home.publish(content.draft, SilentReporter())
    nodes: Any = home.nodes
    assert "history" not in str(list(check_collections(home)))
    history = History(home.options, 10, 10, nodes=AsyncMemoryNodes(nodes))
    asyncio.run(history.record("ann", [(UUID(int=1), now_ms())]))
    states = {what: level for level, what, _ in check_collections(home)}
    assert states["nextsong-history: green, 1 plays"] == "ok"
    del nodes.client._indexes["nextsong-history"]["at_ms"]
    assert "no index of at_ms" in str(list(check_collections(home)))


def commands(finding: dict[str, Any]) -> list[list[str]]:
    """Return the commands in the advice of a finding, each split into words."""
    written = re.findall("`nextsong ([^`]*)`", finding["advice"])
    return [shlex.split(command) for command in written]


def repair(finding: dict[str, Any]) -> None:
    """Run the only command in the advice of a finding."""
    (command,) = commands(finding)
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output


@pytest.fixture
def three(home: EmbeddedStore) -> tuple[EmbeddedStore, list[str]]:
    """A store with three copies of one release, and the ids of the copies, oldest first."""
    first = home.current() or ""
    ids = [first]
    for number in (1, 2):
        copy = f"2099010{number}T000000000-{first[-8:]}"
        there = home.path / "releases" / copy
        shutil.copytree(home.path / "releases" / first, there, copy_function=linked)
        manifest = home.path / "releases" / copy / "manifest.json"
        manifest.write_text(manifest.read_text().replace(first, copy))
        ids.append(copy)
    (home.path / "current").write_text(f"{ids[-1]}\n")
    return home, ids


def test_a_pointer_to_a_missing_release(three: tuple[EmbeddedStore, list[str]]) -> None:
    home, (_, second, third) = three
    shutil.rmtree(home.path / "releases" / third)
    (failure,) = failures(run_doctor(home.path, exit_code=1))
    assert f"names {third} as the current release, which is not there" in failure["what"]
    repair(failure)
    assert home.current() == second
    run_doctor(home.path, exit_code=0)


@pytest.mark.parametrize("written", [None, "", "\0\0\0", "../../etc"])
def test_a_pointer_that_names_no_release(
    three: tuple[EmbeddedStore, list[str]], written: str | None
) -> None:
    home, (_, _, third) = three
    pointer = home.path / "current"
    pointer.unlink()
    if written is not None:
        pointer.write_text(written)
    (failure,) = failures(run_doctor(home.path, exit_code=1))
    assert "no release in" not in failure["what"]
    repair(failure)
    assert home.current() == third
    run_doctor(home.path, exit_code=0)


def test_the_advised_rollback_skips_damaged_releases(
    three: tuple[EmbeddedStore, list[str]],
) -> None:
    home, (first, second, third) = three
    damage(home, second)
    damage(home, third)
    findings = run_doctor(home.path, exit_code=1)
    (failure,) = failures(findings)
    assert third in failure["what"]
    assert f"go back to {first}" in failure["advice"]
    repair(failure)
    assert home.current() == first
    damaged = [each for each in run_doctor(home.path, exit_code=0) if each["level"] == "warning"]
    assert len(damaged) == 2
    for warning in damaged:
        repair(warning)
    assert home.releases() == [first]
    assert {each["level"] for each in run_doctor(home.path, exit_code=0)} == {"ok"}


def test_a_newer_release_is_advised_if_no_older_one_is_intact(
    three: tuple[EmbeddedStore, list[str]],
) -> None:
    home, (first, second, third) = three
    home.rollback(first)
    damage(home, first)
    damage(home, third)
    (failure,) = failures(run_doctor(home.path, exit_code=1))
    repair(failure)
    assert home.current() == second


def test_findings_and_advice_do_not_contradict_each_other(
    three: tuple[EmbeddedStore, list[str]],
) -> None:
    home, (*_, third) = three
    damage(home, third)
    (failure,) = failures(run_doctor(home.path, exit_code=1))
    assert "`" not in failure["what"]
    assert len(commands(failure)) == 1


def test_rollback_without_a_current_release_takes_the_newest(
    three: tuple[EmbeddedStore, list[str]],
) -> None:
    home, (*_, third) = three
    (home.path / "current").unlink()
    result = CliRunner().invoke(main, ["search", "x", "--home", str(home.path)])
    assert result.exit_code == 1
    assert f"`nextsong releases rollback {third}`" in result.output
    result = CliRunner().invoke(main, ["releases", "rollback", "--home", str(home.path)])
    assert result.exit_code == 0, result.output
    assert home.current() == third


def test_the_current_release_is_not_removed(three: tuple[EmbeddedStore, list[str]]) -> None:
    home, ids = three
    for release, message in ((ids[-1], "is the current one"), ("x", "no release x")):
        arguments = ["releases", "remove", release, "--home", str(home.path)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1
        assert message in result.output
    assert home.releases() == ids


def test_a_server_without_an_alias(content: Content) -> None:
    home = memory_store()
    first = home.publish(content.draft, SilentReporter()).release
    nodes: Any = home.nodes
    nodes.client.update_collection_aliases(
        [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="nextsong"))]
    )
    failure, *others = doctor._check_releases(home, " --qdrant-url x")
    assert failure.level == "failure"
    assert failure.advice.endswith(f"`nextsong releases rollback {first} --qdrant-url x`")
    assert {finding.level for finding in others} == {"ok"}
    assert home.rollback() == first
    with pytest.raises(InputError):
        home.remove(first)
