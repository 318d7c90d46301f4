"""Fingerprints of source code: after a change to the code of a stage, the stage runs again."""

from __future__ import annotations

import ast
import hashlib
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[1]
"""The folder that contains the packages of nextsong."""


@dataclass(frozen=True)
class _Source:
    """One module: the SHA-256 of its file, and the names that it imports at run time."""

    sha256: str
    imports: frozenset[str]


class SourceCode:
    """The modules under a folder. Each file is read once, when it is first needed."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._sources: dict[str, _Source | None] = {}

    def fingerprint(self, modules: Iterable[ModuleType]) -> str:
        """Return a SHA-256, in hexadecimal, of all code that the given modules use.

        The hash covers the modules themselves, all modules under the folder that they import
        directly or indirectly, and the versions of all imported libraries. Imports that are only
        for type checking are ignored.
        """
        sources, libraries = self.collect(module.__name__ for module in modules)
        parts = [f"{name} {sources[name].sha256}" for name in sorted(sources)]
        parts += [f"{name} {version(name)}" for name in sorted(libraries)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def collect(self, modules: Iterable[str]) -> tuple[dict[str, _Source], set[str]]:
        """Return the modules under the folder that `modules` use, and the libraries they import.

        The result includes `modules` and all modules that they import directly or indirectly.
        """
        sources: dict[str, _Source] = {}
        libraries: set[str] = set()
        waiting = {package for name in modules for package in _with_packages(name)}
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            seen.add(name)
            source = self._load(name)
            if source:
                sources[name] = source
                waiting |= source.imports - seen
            elif "." not in name and name not in sys.stdlib_module_names:
                libraries.add(name)
        return sources, libraries

    def _load(self, name: str) -> _Source | None:
        """Return the module with this name, or None if there is no such module under the folder."""
        if name not in self._sources:
            path = self._root.joinpath(*name.split("."))
            files = (path.with_suffix(".py"), path / "__init__.py")
            file = next((file for file in files if file.is_file()), None)
            self._sources[name] = _parse(file.read_bytes()) if file else None
        return self._sources[name]


def _parse(code: bytes) -> _Source:
    imports = {
        package
        for node in _nodes_that_run(ast.parse(code))
        for name in _imported_names(node)
        for package in _with_packages(name)
    }
    return _Source(hashlib.sha256(code).hexdigest(), frozenset(imports))


def _nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the syntax tree nodes of a module, except those in `if TYPE_CHECKING:` blocks."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            waiting.extend(ast.iter_child_nodes(node))


def _imported_names(node: ast.AST) -> Iterator[str]:
    """Yield the imported names. `from a import b` yields `a.b`, even if `b` is not a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _with_packages(name: str) -> Iterator[str]:
    """Yield the names of a module's packages, then the module's own name: `a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))
