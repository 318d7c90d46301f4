"""Fixtures of the server store: a store with a release on a real Qdrant server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from catalog.console.progress import SilentReporter

if TYPE_CHECKING:
    from catalog.server.store import ServerStore
    from tests.support.qdrant_servers import Shared
    from tests.support.store_content import Content


@pytest.fixture
def store(server_stores: Shared, content: Content) -> ServerStore:
    store = server_stores()
    store.publish(content.draft, SilentReporter())
    return store
