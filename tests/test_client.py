"""The client and the network: what it says of a server that is gone, stuck, busy or new."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from catalog.errors import BusyError, TooLateError, UnavailableError
from fakes import FakeHome, FakeRelease
from server_fixtures import POINTS, WATERLOO, Loop, Slow, loop
from service.client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.release import Hit, Search

__all__ = ["loop"]  # fixtures


def test_the_client_says_when_nothing_listens() -> None:
    with socket.socket() as taken:  # bound, and so nobody else's, but not listening
        taken.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        with (
            Client(f"127.0.0.1:{taken.getsockname()[1]}") as client,
            pytest.raises(UnavailableError, match="Failed to connect"),
        ):
            client.recommend(WATERLOO)
        assert time.monotonic() - begun < 5


def test_the_client_gives_up_in_time(loop: Loop) -> None:
    stuck = Slow(POINTS)
    with (
        loop.serve(FakeHome(stuck)) as server,
        Client(server.address, timeout=0.2) as client,
        pytest.raises(TooLateError, match=r"Deadline Exceeded|no answer within"),
    ):
        client.recommend(WATERLOO)


def test_the_client_finds_a_server_that_was_started_anew(loop: Loop) -> None:
    home = FakeHome(FakeRelease(POINTS))
    with loop.serve(home) as server:
        client = Client(server.address)
        client.recommend(WATERLOO)
    with loop.serve(home, port=server.port), client:
        client.recommend(WATERLOO)


class Flaky(FakeRelease):
    """Is busy for the first `failures` calls."""

    failures = 0

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        self.failures -= 1
        if self.failures >= 0:
            raise BusyError("busy")
        return await super().find(searches)


@pytest.mark.parametrize(("failures", "answered"), [(3, True), (4, False)])
def test_the_client_tries_four_times_in_all(loop: Loop, failures: int, answered: bool) -> None:
    release = Flaky(POINTS)
    release.failures = failures
    with loop.serve(FakeHome(release)) as server, Client(server.address) as client:
        if answered:
            assert client.recommend(WATERLOO).release == "fake"
        else:
            with pytest.raises(UnavailableError, match="busy"):
                client.recommend(WATERLOO)
    assert release.failures == (-1 if answered else 0)
