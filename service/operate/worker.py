"""One of several serving processes, started by `supervisor`: `python -m service.operate.worker`.

Its argument is its number among them, the first line of standard input its settings. It answers
with one line of JSON, that it is ready or why it cannot serve, and ends on SIGTERM, or when
standard input ends because its parent has died.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import prometheus_client as prometheus

from catalog import errors
from service import settings
from service.operate import lifecycle, logs, metrics
from service.operate.lifecycle import Ready

if TYPE_CHECKING:
    from typing import TextIO


def to_line(answer: Ready | errors.NextsongError) -> str:
    """Return an answer as the line of JSON that `from_line` reads."""
    if isinstance(answer, Ready):
        return json.dumps({"ready": asdict(answer)})
    return json.dumps({"error": type(answer).__name__, "args": answer.args}, default=str)


def from_line(line: bytes) -> Ready | errors.NextsongError | None:
    """Return the answer in a line, or None if it holds anything else."""
    try:
        answer = json.loads(line)
        if "ready" in answer:
            return Ready(**answer["ready"])
        error = getattr(errors, answer["error"])(*answer["args"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return error if isinstance(error, errors.NextsongError) else None


async def _serve(given: settings.Settings, place: int, answers: TextIO) -> None:
    stopped = lifecycle.stop_signal()
    asyncio.get_running_loop().add_reader(sys.stdin, _parent_has_died, stopped)
    own_file = metrics.release_file(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), place)
    measured = metrics.Metrics(prometheus.CollectorRegistry(), own_file)
    await lifecycle.serve(given, measured, partial(_say, answers), stopped)


def _parent_has_died(stopped: asyncio.Event) -> None:
    if stopped.is_set():  # it was ended at once, in the middle of a drain
        os._exit(1)
    asyncio.get_running_loop().remove_reader(sys.stdin)
    stopped.set()


def _say(answers: TextIO, answer: Ready | errors.NextsongError) -> None:
    answers.write(f"{to_line(answer)}\n")
    answers.flush()


def _take_standard_output() -> TextIO:
    """Return what was standard output; what is printed from now on goes to standard error.

    So nothing that a library prints can come between the answers.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def main() -> None:
    """Serve until told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent gets it too
    os.set_blocking(sys.stdin.fileno(), True)
    with _take_standard_output() as answers:
        given = settings.from_json(sys.stdin.readline())
        logs.configure(given.log_level, given.log_format)
        place = int(sys.argv[1])
        metrics.share(place)
        try:
            asyncio.run(_serve(given, place, answers))
        except errors.NextsongError as error:
            _say(answers, error)
            sys.exit(1)


if __name__ == "__main__":
    main()
