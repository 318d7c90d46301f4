"""The rooms: imports run downwards only, and the front page knows every command."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from cli.main import COMMANDS, main
from tests.support.road import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FLOORS = {"nextsong": 0, "catalog": 1, "ingest": 2, "service": 2, "evaluation": 3}
SOURCES = [path for room in list(FLOORS)[1:] for path in sorted((ROOT / room).rglob("*.py"))]


def imported_rooms(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return {name.split(".")[0] for name in names} & FLOORS.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    upwards = {other for other in imported_rooms(path) - {room} if FLOORS[other] >= FLOORS[room]}
    assert not upwards


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def all_commands(
    command: click.Command, name: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return [(name, command)]
    context = click.Context(command)
    found = []
    for child in command.list_commands(context):
        subcommand = command.get_command(context, child)
        assert subcommand is not None
        found += all_commands(subcommand, (*name, child))
    return found


@pytest.mark.parametrize(("name", "command"), all_commands(main), ids=str)
def test_every_command_is_explained_and_on_the_front_page(
    name: tuple[str, ...], command: click.Command
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"nextsong {' '.join(name)}" in readme
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"


def test_help_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from cli.main import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'duckdb', 'gensim', 'grpc', 'pyarrow', 'qdrant_edge'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_commands_are_where_the_table_says() -> None:
    context = click.Context(main)
    for name in COMMANDS:
        assert main.get_command(context, name) is not None  # type: ignore[attr-defined]
