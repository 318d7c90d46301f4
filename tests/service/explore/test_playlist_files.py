"""Files of playlists: exported files are read back unchanged, and imported files are read."""

from __future__ import annotations

import pytest

from catalog.errors import FileError
from nextsong.v1 import recommender_pb2 as pb
from service.explore.playlist_files import WRITERS, read_playlist
from service.explore.session import Session

ID = "11111111-2222-3333-4444-555555555555"
KNOWN = pb.Song(song_id=ID, artist="AC/DC", title='T.N.T., "live" - again')


@pytest.fixture
def session() -> Session:
    """A session whose playlist has a song of the catalog, and a song that the catalog lacks."""
    session = Session(pb.RecommendRequest(limit=7, diversity=0.5))
    session.add(KNOWN, 2.0)
    session.request.seeds.add(artist="Nobody", title="Nothing")
    return session


def test_json_keeps_the_whole_request(session: Session) -> None:
    content = WRITERS["json"](session).encode()
    assert read_playlist("playlist.json", content) == session.request


def test_csv_keeps_ids_names_and_weights(session: Session) -> None:
    content = WRITERS["csv"](session).encode()
    assert list(read_playlist("playlist.csv", content).seeds) == list(session.seeds)


def test_jspf_keeps_ids_and_names(session: Session) -> None:
    content = WRITERS["jspf"](session).encode()
    seeds = read_playlist("playlist.jspf", content).seeds
    assert list(seeds) == [pb.Seed(song_id=ID), pb.Seed(artist="Nobody", title="Nothing")]


def test_m3u_keeps_names(session: Session) -> None:
    content = WRITERS["m3u8"](session).encode()
    seeds = read_playlist("playlist.m3u8", content).seeds
    assert [(seed.artist, seed.title) for seed in seeds] == [
        ("AC/DC", 'T.N.T., "live" - again'),
        ("Nobody", "Nothing"),
    ]


def test_m3u_without_names_and_lines_of_text_are_read() -> None:
    paths = read_playlist("a.m3u", b"#EXTM3U\nC:\\music\\Queen - Bicycle Race\n")
    assert list(paths.seeds) == [pb.Seed(artist="Queen", title="Bicycle Race")]
    lines = read_playlist("a.txt", "Beyonc\xe9 - Halo\n\nHello\n".encode("cp1252"))
    assert list(lines.seeds) == [pb.Seed(artist="Beyonc\xe9", title="Halo"), pb.Seed(title="Hello")]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", b"[", "is not JSON"),
        ("a.json", b'{"seeds": 1}', "neither JSPF nor a request"),
        ("a.json", b"[1]", "neither JSPF nor a request"),
        ("a.jspf", b'{"playlist": {}}', "no list 'track'"),
        ("a.jspf", b'{"playlist": {"track": [1]}}', "a track is not an object"),
        ("a.csv", b"x,y\n1,2\n", "no column 'title' or 'song_id'"),
        ("a.csv", b"title,weight\nHalo,heavy\n", "line 2: could not convert"),
        ("a.m3u", b"#EXTM3U\n", "holds no song"),
        ("a.txt", b"song\n" * 1001, "1,001 songs"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(name: str, content: bytes, problem: str) -> None:
    with pytest.raises(FileError, match=problem):
        read_playlist(name, content)
