"""Import path of earlier versions for `catalog.console.progress.ConsoleReporter`."""

from catalog.console.progress import ConsoleReporter as Talking

__all__ = ["Talking"]
