"""What the tests of the server home share: a home with a release, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.model import Search
from tests.support.embedded_releases import run
from tests.support.store_content import VECTOR, WEIGHTS

if TYPE_CHECKING:
    from catalog.server.store import ServerStore

QUERY = Search(VECTOR, WEIGHTS, limit=30)


def name_of(home: ServerStore) -> str:
    return home.collection(home.current() or "")


def answers(home: ServerStore, search: Search = QUERY) -> list[str]:
    release = home.open()
    (hits,) = run(release.find([search]))
    release.close()
    return [str(hit.song.song_id) for hit in hits]
