"""A query for tests of the server store, and the expected results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.model import Search
from tests.support.embedded_releases import run
from tests.support.store_content import VECTOR, WEIGHTS

if TYPE_CHECKING:
    from catalog.server.store import ServerStore

QUERY = Search(VECTOR, WEIGHTS, limit=30)


def name_of(store: ServerStore) -> str:
    return store.collection(store.current() or "")


def answers(store: ServerStore, search: Search = QUERY) -> list[str]:
    release = store.open()
    (hits,) = run(release.find([search]))
    release.close()
    return [str(hit.song.song_id) for hit in hits]
