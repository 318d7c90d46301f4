"""In-memory DuckDB connections for the stages, with temporary files in the stage's folder."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from catalog.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORY_LIMIT = "3GB"


@contextmanager
def connect(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection whose temporary files are in `folder`.

    Ctrl-C raises `KeyboardInterrupt`, even during a query. Raises `StorageError` if DuckDB cannot
    write, or runs out of memory.
    """
    spill = folder / ".spill"
    connection = duckdb.connect()
    try:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute(f"SET temp_directory = {literal(spill)}")
        connection.execute("SET enable_progress_bar = false")
        with _interrupted_by_ctrl_c(connection):
            yield connection
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        first_line = str(error).splitlines()[0]
        if "No space left" in str(error):
            raise StorageError(
                f"cannot write in {folder}: the disk is full: free some space and run again"
            ) from error
        raise StorageError(f"cannot work in {folder}: {first_line}") from error
    except (duckdb.InterruptException, RuntimeError) as error:
        # If Ctrl-C is pressed during a query, DuckDB handles the signal and raises its own error.
        if "interrupt" not in str(error).lower():
            raise
        raise KeyboardInterrupt from None
    finally:
        connection.close()
        shutil.rmtree(spill, ignore_errors=True)


@contextmanager
def _interrupted_by_ctrl_c(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Interrupt the running query immediately on Ctrl-C."""
    # During a query, Python cannot run its signal handlers, and DuckDB checks for signals only
    # between parts of the query, which may take minutes. However, Python writes the number of each
    # signal to the wakeup pipe at once, so a thread reads this pipe and interrupts the query.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    before = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_interrupt, args=(source, connection), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(sink)
        watcher.join()
        os.close(source)


def _interrupt(source: int, connection: duckdb.DuckDBPyConnection) -> None:
    while signals := os.read(source, 64):
        if signal.SIGINT in signals:
            connection.interrupt()


def literal(value: object) -> str:
    """Return a value as an SQL string literal, for statements that take no parameters."""
    return "'" + str(value).replace("'", "''") + "'"
