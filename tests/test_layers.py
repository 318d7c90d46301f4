"""Rules for all code: layers, import cycles, module names in strings, and help texts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import click
import pytest

from cli.main import COMMANDS, main
from tests.support.road import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYERS = {"nextsong": 0, "catalog": 1, "ingest": 2, "service": 2, "evaluation": 3, "cli": 4}
"""Packages with their level. A package imports only itself and packages of lower levels."""

LOCATOR = re.compile(rf"({'|'.join(LAYERS)})(\.[a-z_0-9]+)+(:\w+)?")
"""A string that may name a module or an attribute of a module."""


def parse_sources() -> dict[str, ast.Module]:
    """Return the syntax trees of all modules, by dotted name. `__init__` is omitted from names."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for package in LAYERS
        for path in sorted((ROOT / package).rglob("*.py"))
    }


SOURCES = parse_sources()


def imports_of(module: str) -> set[str]:
    """Return the names that a module imports, including in functions and for type checking only."""
    names: set[str] = set()
    for node in ast.walk(SOURCES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module is not None
            paths = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {path if path in SOURCES else node.module for path in paths}
    return names - {module}


def test_imports_run_downwards() -> None:
    upwards = [
        f"{module} imports {name}"
        for module in SOURCES
        for name in imports_of(module)
        if (package := module.split(".")[0]) != (other := name.split(".")[0])
        and LAYERS.get(other, -1) >= LAYERS[package]
    ]
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: imports_of(module) & SOURCES.keys() for module in SOURCES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]), pytrace=False)


def locators_of(module: str) -> Iterator[str]:
    """Yield the strings that name project modules, except strings that follow "-m"."""
    tree = SOURCES[module]
    children = {
        after
        for node in ast.walk(tree)
        if isinstance(node, ast.List | ast.Tuple)
        for before, after in zip(node.elts, node.elts[1:], strict=False)
        if isinstance(before, ast.Constant) and before.value == "-m"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in children:
            named = LOCATOR.fullmatch(node.value)
            if named and node.value.split(":")[0] in SOURCES:
                yield node.value


def test_modules_are_located_by_strings_only_in_the_table_of_commands() -> None:
    located = {
        module: locators
        for module in SOURCES
        if module != "cli.main" and (locators := [*locators_of(module)])
    }
    assert located == {}


def find_commands(
    command: click.Command, name: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], click.Command]]:
    """Return all commands below `command`, each with the words that select it."""
    if not isinstance(command, click.Group):
        return [(name, command)]
    context = click.Context(command)
    commands = []
    for child in command.list_commands(context):
        subcommand = command.get_command(context, child)
        assert subcommand is not None
        if not subcommand.hidden:
            commands += find_commands(subcommand, (*name, child))
    return commands


def test_every_command_is_explained_and_on_the_front_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = []
    for name, command in find_commands(main):
        words = f"nextsong {' '.join(name)}"
        options = [param for param in command.params if isinstance(param, click.Option)]
        missing += [f"{words} {option.opts[0]}: help" for option in options if not option.help]
        missing += [f"{words}: help"] if not command.help else []
        missing += [f"{words}: README"] if words not in readme else []
    assert missing == []


def test_the_table_of_commands_locates_each_command() -> None:
    context = click.Context(main)
    for name in COMMANDS:
        assert isinstance(main.get_command(context, name), click.Command)  # type: ignore[attr-defined]


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
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
