"""Follow the current release of a store, and report the health of the service."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from catalog.errors import NextsongError, NoReleaseError, ReleaseError, UnavailableError
from catalog.reranker import load_reranker
from service.operate.logs import log

if TYPE_CHECKING:
    from catalog.store import OpenRelease, ReleaseStore
    from service.operate.current_release import CurrentRelease
    from service.operate.metrics import Metrics
    from service.rpc.health import Health
    from service.settings import Settings

MIN_INTERVAL_S = 0.2
"""Minimum number of seconds between two checks of the store, even if `wake` is called."""

STORE_TIMEOUT_S = 3.0
"""Seconds without an answer before a store counts as unreachable."""

FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 300.0
"""Seconds until a release that could not be opened is tried again: first and maximum pause.

The pause doubles with each failure.
"""


@dataclass
class _RefusedRelease:
    """A release that could not be opened.

    The release is not tried again before `not_before`, in seconds of `time.monotonic`. `pause_s` is
    the number of seconds to wait after the next failure.
    """

    release_id: str
    pause_s: float = field(default_factory=lambda: FIRST_PAUSE_S)
    not_before: float = 0.0

    def postpone(self) -> None:
        self.not_before = time.monotonic() + self.pause_s
        self.pause_s = min(2 * self.pause_s, MAX_PAUSE_S)


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Prevent asyncio from logging the exception of a task that is no longer awaited."""
    if not task.cancelled():
        task.exception()


def open_with_reranker(store: ReleaseStore, release_id: str | None = None) -> OpenRelease:
    """Open a release and load its re-ranker, so that no call waits for LightGBM.

    If `release_id` is None, the current release of the store is opened. Raises the errors of
    `ReleaseStore.open`, and `CorruptReleaseError` if the re-ranker cannot be read.
    """
    release = store.open(release_id)
    try:
        load_reranker(release.manifest.ranker)
    except BaseException:
        release.close()
        raise
    return release


class ReleaseWatcher:
    """Makes the current release of the store the release that answers calls.

    The store is checked every `settings.look_every` seconds, and soon after a call of `wake`. Each
    check also reports the health of the service.
    """

    def __init__(
        self,
        store: ReleaseStore,
        current: CurrentRelease,
        settings: Settings,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._store = store
        self._current = current
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._wake = asyncio.Event()
        self._query: asyncio.Task[str | None] | None = None
        self._refused: _RefusedRelease | None = None
        self._last_error: str | None = None

    def open_first(self) -> None:
        """Open the current release of the store.

        Raises the errors of `open_with_reranker`, unless the settings allow waiting for a release.
        """
        try:
            self._current.replace(open_with_reranker(self._store))
        except (ReleaseError, UnavailableError) as error:
            if not self._settings.wait:
                raise
            self._log_once("waiting for a release", error)

    def wake(self) -> None:
        """Request a check soon, because a call failed and the release or its store may be gone."""
        self._wake.set()

    async def follow(self) -> None:
        """Switch to new releases and report the health of the service, until cancelled."""
        try:
            while True:
                await self._pause()
                try:
                    await self._check()
                except Exception as error:  # noqa: BLE001 -- the watcher must not end before it is cancelled
                    self._log_once("a check for releases failed", error)
        finally:
            if self._query:
                self._query.cancel()
                await asyncio.gather(self._query, return_exceptions=True)

    async def _pause(self) -> None:
        min_interval = min(MIN_INTERVAL_S, self._settings.look_every)
        await asyncio.sleep(min_interval)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.look_every - min_interval):
                await self._wake.wait()
        self._wake.clear()

    async def _check(self) -> None:
        try:
            release_id = await self._query_store()
        except UnavailableError as error:
            self._log_once("the release store cannot be reached", error)
            await self._health.set_serving(False)
            return
        except Exception as error:  # noqa: BLE001 -- the open release may still answer
            self._log_once(
                f"the store cannot be read: release {self._current.release_id} stays in use", error
            )
            await self._health.set_serving(await self._can_answer())
            return
        if release_id is None:
            self._log_once(
                "no current release",
                NoReleaseError("the release store has no current release any more"),
            )
            await self._health.set_serving(False)
            return
        if release_id != self._current.release_id:
            await self._switch_to(release_id)
        is_healthy = await self._can_answer()
        if is_healthy and release_id == self._current.release_id:
            self._last_error = self._refused = None
        await self._health.set_serving(is_healthy)

    async def _query_store(self) -> str | None:
        """Return the id of the store's current release. Raises `UnavailableError` after a timeout.

        The query runs in a thread, which cannot be stopped. After a timeout, the next check
        therefore waits for the same query instead of starting another one.
        """
        if self._query is None:
            self._query = asyncio.create_task(asyncio.to_thread(self._store.current))
            self._query.add_done_callback(_retrieve_exception)
        query = self._query
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                return await asyncio.shield(query)
        except TimeoutError as error:
            raise UnavailableError("the release store does not answer") from error
        finally:
            if query.done():
                self._query = None

    async def _switch_to(self, release_id: str) -> None:
        if self._refused is None or self._refused.release_id != release_id:
            self._refused = _RefusedRelease(release_id)
        elif time.monotonic() < self._refused.not_before:
            return
        try:
            with self._current.stall():
                release = await self._open(release_id)
        except UnavailableError as error:
            self._log_once("the release store cannot be reached", error)
        except Exception as error:  # noqa: BLE001 -- the open release stays in use
            self._refused.postpone()
            self._metrics.count_refused_release()
            self._log_once(
                f"a new release cannot be opened: release {self._current.release_id} stays in use",
                error,
            )
        else:
            self._current.replace(release)
            log.info(f"now serving release {release_id}")

    async def _open(self, release_id: str) -> OpenRelease:
        opening = asyncio.create_task(
            asyncio.to_thread(open_with_reranker, self._store, release_id)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread cannot be stopped, so wait for the release that it opens, and close it.
            with suppress(Exception):
                (await opening).close()
            raise

    async def _can_answer(self) -> bool:
        """Return whether Qdrant answers a minimal query from the open release."""
        if self._current.release is None:
            return False
        try:
            with self._current.lease() as release:
                deadline = time.monotonic() + self._settings.call_timeout
                async with asyncio.timeout(self._settings.call_timeout):
                    await release.with_deadline(deadline).popular(1)
        except (NextsongError, TimeoutError) as error:
            self._log_once("the release does not answer", error)
            return False
        return True

    def _log_once(self, event: str, error: Exception) -> None:
        """Log an error, but only once if it repeats at every check."""
        if self._last_error == repr(error):
            return
        self._last_error = repr(error)
        is_unexpected = not isinstance(error, NextsongError)
        level: Any = log.warning if isinstance(error, NoReleaseError) else log.error
        level(event, reason=str(error), exc_info=is_unexpected)
