"""Former import path of `catalog.console.progress.ConsoleReporter`, kept for compatibility."""

from catalog.console.progress import ConsoleReporter as Talking

__all__ = ["Talking"]
