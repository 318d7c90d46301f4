"""Import path of earlier versions for `catalog.progress.ConsoleReporter`."""

from catalog.progress import ConsoleReporter as Talking

__all__ = ["Talking"]
