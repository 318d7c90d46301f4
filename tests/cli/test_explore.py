"""Errors of the command `nextsong explore` if it cannot start."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from click.testing import CliRunner

from cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support.road import Road


def explore(home: Path, *arguments: str) -> str:
    """Run `nextsong explore`, which must fail, and return its output."""
    result = CliRunner().invoke(main, ["explore", "--no-open", f"--home={home}", *arguments])
    assert result.exit_code == 1
    return result.output


def test_a_release_that_the_store_lacks_is_named(road: Road) -> None:
    release = "20000101T000000000-00000000"
    assert release in explore(road.home.path, f"--release={release}")


def test_an_empty_store_is_reported_and_stays_empty(tmp_path: Path) -> None:
    assert "publish one with `nextsong ingest run FILE`" in explore(tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_port_in_use_is_reported(road: Road) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        output = explore(road.home.path, f"--port={port}")
    assert f"port {port} of 127.0.0.1 cannot be used" in output
    assert "choose another with --port" in output


def test_without_the_libraries_the_message_names_the_extra(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nicegui", None)
    monkeypatch.delitem(sys.modules, "service.explore.server", raising=False)
    for name in [name for name in sys.modules if name.startswith("service.explore.pages")]:
        monkeypatch.delitem(sys.modules, name)
    assert "pip install -e '.[explore]'" in explore(road.home.path)
