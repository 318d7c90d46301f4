"""Tests of documented imports: all of them work, and old import paths give the current objects."""

from __future__ import annotations

from pathlib import Path


def test_documented_imports_of_the_current_version() -> None:
    from catalog.console.progress import ConsoleReporter
    from catalog.errors import NextsongError
    from evaluation.judge import harness
    from evaluation.report.terminal import print_evaluation
    from evaluation.systems.location import StoreLocation
    from service.client.client import Client

    assert issubclass(NextsongError, Exception)
    assert all(map(callable, (ConsoleReporter, harness.evaluate, print_evaluation, Client)))
    assert StoreLocation(Path("home")).folder == Path("home")


def test_imports_of_earlier_versions_are_aliases() -> None:
    from catalog.console.progress import ConsoleReporter
    from catalog.reporting import Talking
    from evaluation import harness, show
    from evaluation.judge import harness as current_harness
    from evaluation.place import Place
    from evaluation.report.terminal import print_evaluation
    from evaluation.systems.location import StoreLocation
    from service.client import Client
    from service.client.client import Client as CurrentClient

    assert Talking is ConsoleReporter
    assert Place is StoreLocation
    assert show.evaluation is print_evaluation
    assert harness.Plan is current_harness.Plan
    assert harness.evaluate is current_harness.evaluate
    assert Client is CurrentClient
