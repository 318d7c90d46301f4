"""Follows the current release of a home, and says whether calls can be answered."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from catalog.deadline import within
from catalog.errors import NextsongError, NoReleaseError, ReleaseError, UnavailableError
from catalog.reranker import load_reranker
from service.operate.logs import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from catalog.store import OpenRelease, ReleaseStore
    from service.operate.metrics import Metrics
    from service.settings import Settings

SOONEST_S = 0.2
"""Two looks are at least so far apart, however many calls fail."""

SILENCE_S = 3.0
"""A home that says nothing for so long is away."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
"""A release that could not be opened is tried again after so long, and then ever later."""


class Stage(Protocol):
    """Where releases answer calls."""

    @property
    def release(self) -> OpenRelease | None:
        """The release that answers now."""

    def take_up(self, release: OpenRelease | None) -> None:
        """Answer from this release from now on."""

    def lease(self) -> AbstractContextManager[OpenRelease]:
        """Keep the release that answers now from being closed. Raises `NoReleaseError`."""

    def stalled(self) -> AbstractContextManager[None]:
        """During this, the engine may hold the interpreter, and calls wait unseen."""


@dataclass
class _Refused:
    """A release that could not be opened, and when it is tried again."""

    release: str
    pause_s: float = field(default_factory=lambda: FIRST_PAUSE_S)
    not_before: float = 0.0

    def put_off(self) -> None:
        self.not_before = time.monotonic() + self.pause_s
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)


def _take_exception(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from logging the failure of a task that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def open_with_ranker(home: ReleaseStore, release_id: str | None = None) -> OpenRelease:
    """Open a release and load its ranker, so that no call waits for LightGBM.

    Raises what `ReleaseStore.open` raises, and `CorruptReleaseError` if the ranker cannot be read.
    """
    release = home.open(release_id)
    try:
        load_reranker(release.manifest.ranker)
    except BaseException:
        release.close()
        raise
    return release


class ReleaseWatcher:
    """Looks every `settings.look_every` seconds, and at once when `wake` is called."""

    def __init__(
        self,
        home: ReleaseStore,
        stage: Stage,
        settings: Settings,
        metrics: Metrics,
        say_health: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._home = home
        self._stage = stage
        self._settings = settings
        self._metrics = metrics
        self._say_health = say_health
        self._wanted = asyncio.Event()
        self._asked: asyncio.Task[str | None] | None = None
        self._refused: _Refused | None = None
        self._complaint: str | None = None

    def open_first(self) -> None:
        """Open the current release; what that raises, unless the service may wait for one."""
        try:
            self._stage.take_up(open_with_ranker(self._home))
        except (ReleaseError, UnavailableError) as error:
            if not self._settings.wait:
                raise
            self._complain("waiting for a release", error)

    def wake(self) -> None:
        """Look now: a call failed as it does where the release or its home is gone."""
        self._wanted.set()

    async def follow(self) -> None:
        """Move over to new releases, and say how it is, until cancelled."""
        try:
            while True:
                await self._pause()
                try:
                    await self._look()
                except Exception as error:  # noqa: BLE001 -- the lookout never ends
                    self._complain("a look for releases failed", error)
        finally:
            if self._asked:
                self._asked.cancel()
                await asyncio.gather(self._asked, return_exceptions=True)

    async def _pause(self) -> None:
        soonest = min(SOONEST_S, self._settings.look_every)
        await asyncio.sleep(soonest)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.look_every - soonest):
                await self._wanted.wait()
        self._wanted.clear()

    async def _look(self) -> None:
        try:
            current = await self._current()
        except UnavailableError as error:
            self._complain("the home of releases is away", error)
            await self._say_health(False)
            return
        except Exception as error:  # noqa: BLE001 -- what is open may answer all the same
            self._complain(f"stay on release {self._serving()}", error)
            await self._say_health(await self._can_answer())
            return
        if current is None:
            gone = NoReleaseError("the home has no current release any more")
            self._complain("no current release", gone)
            await self._say_health(False)
            return
        if current != self._serving():
            await self._move_to(current)
        healthy = await self._can_answer()
        if healthy and current == self._serving():
            self._complaint = self._refused = None
        await self._say_health(healthy)

    async def _current(self) -> str | None:
        # A home that falls silent is away at once, not when the connection notices. The thread that
        # waits for it cannot be stopped: the next look waits for the same one.
        if self._asked is None:
            self._asked = asyncio.create_task(asyncio.to_thread(self._home.current))
            self._asked.add_done_callback(_take_exception)
        asked = self._asked
        try:
            async with asyncio.timeout(SILENCE_S):
                return await asyncio.shield(asked)
        except TimeoutError as error:
            raise UnavailableError("the home of releases says nothing") from error
        finally:
            if asked.done():
                self._asked = None

    async def _move_to(self, current: str) -> None:
        if self._refused is None or self._refused.release != current:
            self._refused = _Refused(current)
        elif time.monotonic() < self._refused.not_before:
            return
        try:
            with self._stage.stalled():
                opened = await self._open(current)
        except UnavailableError as error:
            self._complain("the home of releases is away", error)
        except Exception as error:  # noqa: BLE001 -- the one before goes on answering
            self._refused.put_off()
            self._metrics.release_refused()
            self._complain(f"stay on release {self._serving()}", error)
        else:
            self._stage.take_up(opened)
            log.info(f"now serving release {current}")

    async def _open(self, current: str) -> OpenRelease:
        opening = asyncio.create_task(asyncio.to_thread(open_with_ranker, self._home, current))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread cannot be stopped: what it opens all the same is closed.
            with suppress(Exception):
                (await opening).close()
            raise

    async def _can_answer(self) -> bool:
        """Whether the engine answers the simplest question from the release that is open."""
        if self._stage.release is None:
            return False
        try:
            with self._stage.lease() as release, within(self._settings.call_timeout):
                async with asyncio.timeout(self._settings.call_timeout):
                    await release.popular(1)
        except (NextsongError, TimeoutError) as error:
            self._complain("the release cannot be asked", error)
            return False
        return True

    def _serving(self) -> str | None:
        release = self._stage.release
        return release.manifest.release if release else None

    def _complain(self, event: str, error: Exception) -> None:
        if self._complaint == repr(error):  # said before: a bad pointer is read every time
            return
        self._complaint = repr(error)
        foreign = not isinstance(error, NextsongError)
        level: Any = log.warning if isinstance(error, NoReleaseError) else log.error
        level(event, reason=str(error), exc_info=foreign)
