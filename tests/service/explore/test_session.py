"""`Session`: the request that a user edits on the page, and the link that contains the request."""

from __future__ import annotations

import base64
import zlib

import pytest

from catalog.errors import RequestError
from nextsong.v1 import recommender_pb2 as pb
from service.explore.link import MAX_REQUEST_BYTES, decode_request, encode_request
from service.explore.session import Session

A, B, C = (
    pb.Song(song_id=f"{letter * 8}-0000-0000-0000-000000000000", artist=letter, title=letter * 2)
    for letter in "abc"
)


@pytest.fixture
def session() -> Session:
    """A session whose playlist has three songs."""
    session = Session()
    for song in (A, B, C):
        session.add(song)
    return session


def titles(session: Session) -> list[str]:
    return [session.describe(seed)[0] for seed in session.seeds]


def test_songs_are_moved_within_the_playlist(session: Session) -> None:
    assert session.move(0, 1) == 1
    assert titles(session) == ["bb", "aa", "cc"]
    assert session.move(2, -5) == 0
    assert titles(session) == ["cc", "bb", "aa"]
    assert session.move(0, 9) == 2
    assert titles(session) == ["bb", "aa", "cc"]


def test_a_song_is_in_the_playlist_once(session: Session) -> None:
    assert session.add(A, -1.0) == 0
    assert titles(session) == ["aa", "bb", "cc"]
    assert session.seeds[0].weight == -1


def test_weights_are_raised_in_a_cycle_and_dislikes_can_be_undone(session: Session) -> None:
    weights = []
    for _ in range(4):
        session.weigh_more(0)
        weights.append(session.seeds[0].weight)
    assert weights == [2, 4, 0.5, 0]
    assert not session.seeds[0].HasField("weight")
    session.toggle_dislike(0)
    assert session.seeds[0].weight == -1
    session.toggle_dislike(0)
    assert not session.seeds[0].HasField("weight")


def test_a_seed_by_name_becomes_the_song_that_it_names() -> None:
    session = Session(
        pb.RecommendRequest(seeds=[pb.Seed(title="aa"), pb.Seed(title="x", weight=2)])
    )
    resolved = [
        pb.ResolvedSeed(resolution=pb.RESOLUTION_SONG, song=A),
        pb.ResolvedSeed(resolution=pb.RESOLUTION_UNKNOWN),
    ]
    session.learn(pb.RecommendResponse(seeds=resolved))
    assert session.seeds[0] == pb.Seed(song_id=A.song_id)
    assert session.describe(session.seeds[0]) == ("aa", "a", "")
    assert session.describe(session.seeds[1]) == ("x", "", "not in this release")


def test_a_link_holds_the_whole_request(session: Session) -> None:
    session.request.diversity = 0.25
    session.request.filter.exclude_artists.append("Ångström & <b>")
    link = encode_request(session.request)
    assert decode_request(link) == session.request
    assert link.isascii()
    assert not set(link) & set("+/=?&#'\"")


@pytest.mark.parametrize(
    "text",
    [
        "!",
        "A",
        "AAAA",
        encode_request(pb.RecommendRequest(limit=5))[:-4],
        base64.urlsafe_b64encode(zlib.compress(b"\xff\xff")).decode(),
        base64.urlsafe_b64encode(zlib.compress(bytes(MAX_REQUEST_BYTES + 1))).decode(),
    ],
)
def test_a_damaged_or_huge_link_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="link"):
        decode_request(text)
