"""What the tests of the server home share: a home with a release, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from catalog.model import Search
from catalog.progress import SilentReporter
from tests.catalog.test_stores import VECTOR, WEIGHTS
from tests.support.embedded_releases import run

if TYPE_CHECKING:
    from catalog.server.store import ServerStore
    from tests.support.qdrant_servers import Shared
    from tests.support.store_content import Content

QUERY = Search(VECTOR, WEIGHTS, limit=30)


@pytest.fixture
def home(server_stores: Shared, content: Content) -> ServerStore:
    home = server_stores()
    home.publish(content.draft, SilentReporter())
    return home


def name_of(home: ServerStore) -> str:
    return home.collection(home.current() or "")


def answers(home: ServerStore, search: Search = QUERY) -> list[str]:
    release = home.open()
    (hits,) = run(release.find([search]))
    release.close()
    return [str(hit.song.song_id) for hit in hits]
