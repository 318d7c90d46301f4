"""The release that answers calls. It can be replaced while calls are in progress."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import NextsongError, NoReleaseError
from service.operate.logs import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from catalog.store import OpenRelease
    from service.operate.metrics import Metrics


@dataclass(slots=True)
class _Lease:
    """A release, the number of calls that use it, and whether it is no longer the current one."""

    release: OpenRelease
    calls: int = 0
    is_replaced: bool = False


class CurrentRelease:
    """Leases the current release to calls, and closes replaced releases.

    A call uses the same release until the call ends, even if the release is replaced meanwhile.
    `stall` returns a context manager for work during which Qdrant may block all Python threads (see
    `Admission.stall`).
    """

    def __init__(self, metrics: Metrics, stall: Callable[[], AbstractContextManager[None]]) -> None:
        self.stall = stall
        self._metrics = metrics
        self._current: _Lease | None = None

    @property
    def release(self) -> OpenRelease | None:
        """The current release, or None if there is none."""
        return self._current.release if self._current else None

    @property
    def release_id(self) -> str | None:
        """The id of the current release, or None if there is none."""
        return self._current.release.manifest.release if self._current else None

    def replace(self, release: OpenRelease | None) -> None:
        """Make `release` the current release, or have no current release if it is None.

        The previous release is closed after its last call.
        """
        previous = self._current
        self._current = _Lease(release) if release else None
        self._metrics.set_release(self.release_id)
        if previous:
            previous.is_replaced = True
            self._close_if_unused(previous)

    @contextmanager
    def lease(self) -> Iterator[OpenRelease]:
        """Yield the current release, and keep it open inside this block.

        Raises `NoReleaseError` if there is no current release.
        """
        lease = self._current
        if lease is None:
            raise NoReleaseError("no release is open yet")
        lease.calls += 1
        try:
            yield lease.release
        finally:
            lease.calls -= 1
            self._close_if_unused(lease)

    def _close_if_unused(self, lease: _Lease) -> None:
        if not lease.is_replaced or lease.calls:
            return
        try:
            with self.stall():
                lease.release.close()
        except NextsongError as error:
            log.warning("a release could not be closed", reason=str(error))
