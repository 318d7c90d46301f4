"""Difficult playlist files, with the expected numbers of rows and rejects for each."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import zstandard

from ingest.sources.options import DEFAULT_OPTIONS, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = "pid,artist,title\n"


@dataclass(frozen=True)
class DifficultFile:
    """A file, the expected number of rows, and the expected number of rejects by reason."""

    name: str
    content: bytes
    rows: int
    kind: str
    rejects: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    options: ReadOptions = DEFAULT_OPTIONS
    titles: tuple[str, ...] = ()


def csv(*lines: str, header: str = HEADER, encoding: str = "utf-8") -> bytes:
    return (header + "\n".join(lines) + "\n").encode(encoding)


def lines(*objects: Any) -> bytes:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects).encode()


def tracks(*titles: str) -> list[dict[str, Any]]:
    return [
        {"pos": at, "artist_name": "A", "track_name": title, "track_uri": f"t:{title}"}
        for at, title in enumerate(titles)
    ]


def mpd(*playlists: Any, indent: int | None = 4) -> bytes:
    info = {"generated_on": "2017-12-03", "slice": "0-999", "version": "v1"}
    return json.dumps({"info": info, "playlists": list(playlists)}, indent=indent).encode()


def slice_of(pid: int, *titles: str) -> dict[str, Any]:
    return {"name": f"n{pid}", "pid": pid, "num_tracks": len(titles), "tracks": tracks(*titles)}


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return packed.getvalue()


GOOD = csv("1,a,b", "1,c,d", "2,e,f")
FRENCH = ["1,Béla,Où", "1,Noël,Garçon", "2,Zoë,À l'été"]
CORPUS = [
    DifficultFile(
        "truncated", csv("1,a,b", "1,c")[:-1], 1, "CSV, standard quoting", {"expected 3": 1}
    ),
    DifficultFile(
        "ragged",
        csv("1,a,b", "1,a", "1,a,b,c", "", "1,a,b,", "2,a,b"),
        2,
        "CSV, standard quoting",
        {"expected 3": 3},
    ),
    DifficultFile(
        "mixed encodings",
        csv(*FRENCH, *FRENCH) + "3,Béla,Où\n".encode("latin-1") + csv("4,a,b", header=""),
        7,
        "CSV, standard quoting",
        {"not valid UTF-8": 1},
    ),
    DifficultFile(
        "latin-1",
        csv(*FRENCH, encoding="latin-1"),
        3,
        "CSV, standard quoting, Windows-1252",
        titles=("Où", "Garçon", "À l'été"),
    ),
    DifficultFile(
        "windows-1252",
        csv("1,Béla,Don’t – “wait”", "1,Noël,café…", encoding="cp1252"),
        2,
        "CSV, standard quoting, Windows-1252",
        titles=("Don’t – “wait”", "café…"),
    ),
    DifficultFile(
        "macroman, CR line ends",
        csv("1,Björk,Jóga", "1,Beyoncé,Déjà Vu", encoding="mac-roman").replace(b"\n", b"\r"),
        2,
        "CSV, standard quoting, CR line ends, MacRoman",
        options=ReadOptions(encoding="macroman"),
        titles=("Jóga", "Déjà Vu"),
    ),
    DifficultFile(
        "utf-16",
        csv("1,Ä,日本語", "1,c,Ω").decode().encode("utf-16"),
        2,
        "CSV, standard quoting, UTF-16",
        titles=("日本語", "Ω"),
    ),
    DifficultFile(
        "utf-16 without a mark",
        csv("1,a,b", "1,c,Ω").decode().encode("utf-16-be"),
        2,
        "CSV, standard quoting, UTF-16",
        titles=("b", "Ω"),
    ),
    DifficultFile(
        "named encoding",
        csv("1,椎名林檎,歌舞伎町の女王", encoding="shift_jis"),
        1,
        "CSV, standard quoting, shift_jis",
        options=ReadOptions(encoding="shift_jis"),
        titles=("歌舞伎町の女王",),
    ),
    DifficultFile(
        "bytes that are undefined in Windows-1252",
        csv("1,é,b", "1,c,d", encoding="cp1252") + b"2,\x81,x\n",
        2,
        "CSV, standard quoting, Windows-1252",
        {"not valid Windows-1252": 1},
        options=ReadOptions(encoding="windows-1252"),
    ),
    DifficultFile(
        "wrong types",
        csv("1,a,b,1", "1,c,d,first", "1,e,f,2020-01-01", header="pid,artist,title,pos\n"),
        2,
        "CSV, standard quoting",
        {"the position is neither a number nor a time": 1},
    ),
    DifficultFile(
        "NUL bytes",
        csv(*["1,a,b"] * 300) + b"1,a\0b,c\n1,c,\0\n",
        300,
        "CSV, standard quoting",
        {"the artist holds a NUL character": 1, "the title holds a NUL character": 1},
    ),
    DifficultFile(
        "gigantic field",
        csv("1,a,b", f"1,{'x' * 200_000},c", "1,e,f"),
        2,
        "CSV, standard quoting",
        {"the artist is longer than 10,000 bytes": 1},
    ),
    DifficultFile(
        "the header again",
        GOOD + GOOD + GOOD,
        9,
        "CSV, standard quoting",
        {"the header again": 2},
    ),
    DifficultFile(
        "empty columns",
        csv(",1,a,b,,", "2,1,c,d,,", header=",pid,artist,title,,\n"),
        2,
        "CSV, standard quoting",
    ),
    DifficultFile(
        "dates as titles",
        csv("1,a,1999-12-31", "1,b,2020-02-30", "1,c,1/4", "1,d,1979"),
        4,
        "CSV, standard quoting",
        titles=("1999-12-31", "2020-02-30", "1/4", "1979"),
    ),
    DifficultFile(
        "right to left and emoji",
        csv("1,فيروز,نسم علينا الهوى", "1,🎸👩‍🎤,💔", "1,אסתר,‏שיר‏"),
        3,
        "CSV, standard quoting",
        titles=("نسم علينا الهوى", "💔", "‏שיר‏"),
    ),
    DifficultFile(
        "bars", csv("1|a|b, c", header="pid|artist|title\n"), 1, "text with bars, standard quoting"
    ),
    DifficultFile(
        "named delimiter",
        csv("1^a^b, c;d", header="pid^artist^title\n"),
        1,
        "text with '^', standard quoting",
        options=ReadOptions(delimiter="^"),
        titles=("b, c;d",),
    ),
    DifficultFile(
        "no header",
        csv("1,a,b", "1,c,d", header=""),
        2,
        "CSV, standard quoting",
        columns={"playlist_id": "1", "artist": "2", "title": "3"},
        options=ReadOptions(header=False),
        titles=("b", "d"),
    ),
    DifficultFile("gzip", gzip.compress(GOOD), 3, "CSV, standard quoting, gzip"),
    DifficultFile(
        "gzip of two parts",
        gzip.compress(GOOD) + gzip.compress(b"3,x,y\n"),
        4,
        "CSV, standard quoting, gzip",
    ),
    DifficultFile("zstandard", zstandard.compress(GOOD), 3, "CSV, standard quoting, zstd"),
    DifficultFile("bzip2", bz2.compress(GOOD), 3, "CSV, standard quoting, bz2"),
    DifficultFile(
        "JSON lines, gzip",
        gzip.compress(lines(*[{"pid": 1, "artist": "a", "title": "b"}] * 2)),
        2,
        "JSON lines, gzip",
    ),
    DifficultFile(
        "JSON lines of every fault",
        lines({"pid": 1, "artist": "é", "title": "b", "year": 1999})
        + b'\n{"pid": 1, "artist": "a"\n'
        + b'[1, 2]\n"text"\n7\n'
        + lines(
            {"pid": 1, "artist": ["a", "b"], "title": "c"},
            {"pid": 1, "artist": {"x": 1}, "title": "c"},
            {"pid": 1, "artist": True, "title": "c"},
            {"pid": 1, "artist": "a", "title": 99},
            {"pid": 1.0, "artist": "a"},
            {"pid": 1, "artist": [1], "title": "c"},
        )
        + b'{"pid": 1, "artist": "\\ud800", "title": "x"}\n'
        + b'{"pid": 1, "artist": "caf\xe9", "title": "x"}\n',
        5,
        "JSON lines",
        {
            "not valid JSON": 1,
            "not a JSON object": 3,
            "artist is a list": 1,
            "artist is true or false, not text": 1,
            "artist is not valid text": 2,
        },
        titles=("b", "c", "c", "99", "None"),
    ),
    DifficultFile(
        "JSON lines of nested objects",
        lines(
            {
                "listened_at": 5,
                "user_name": "u",
                "track_metadata": {"artist_name": "a", "track_name": "b"},
            },
            {
                "listened_at": 6,
                "user_name": "u",
                "track_metadata": {"artist_name": "a", "track_name": "c"},
            },
            {"listened_at": 7, "user_name": "u", "track_metadata": None},
        ),
        3,
        "JSON lines",
        titles=("b", "c", "None"),
    ),
    DifficultFile(
        "JSON lines of playlists",
        lines(
            {"id": "p1", "tracks": [{"name": "x", "artist": "A"}, {"name": "y", "artist": "A"}]},
            {"id": "p2", "tracks": []},
            {"id": "p3"},
            {"id": "p4", "tracks": [{"name": "z", "artist": "A"}, None]},
        ),
        3,
        "JSON lines",
        {"a playlist without songs": 2, "a song that is not a JSON object": 1},
        titles=("x", "y", "z"),
    ),
    DifficultFile(
        "a list of objects",
        json.dumps(
            [{"pid": 1, "artist": "a", "title": "é"}, {"pid": 1, "artist": "c", "title": "d"}],
            indent=1,
        ).encode(),
        2,
        "JSON",
        titles=("é", "d"),
    ),
    DifficultFile(
        "a slice",
        mpd(slice_of(0, "x", "y"), slice_of(1, "x")),
        3,
        "Million Playlist Dataset",
        titles=("x", "y", "x"),
    ),
    DifficultFile(
        "a slice on one line",
        mpd(slice_of(0, "x", "y"), indent=None),
        2,
        "Million Playlist Dataset",
    ),
    DifficultFile(
        "a slice with faults",
        mpd(slice_of(0, "x"), slice_of(1), {"pid": 2, "tracks": ["y"]}, 7, slice_of(3, "x", "z")),
        3,
        "Million Playlist Dataset",
        {
            "a playlist without songs": 1,
            "a song that is not a JSON object": 1,
            "not a JSON object": 1,
        },
        titles=("x", "x", "z"),
    ),
    DifficultFile(
        "an archive of slices",
        zipped(
            data__mpd_dot_slice_dot_1000_dot_json=mpd(slice_of(1, "y", "z")),
            data__mpd_dot_slice_dot_2_dot_json=mpd(slice_of(0, "x")),
            README_dot_md=b"not a playlist",
        ),
        3,
        "Million Playlist Dataset",
        titles=("x", "y", "z"),
    ),
    DifficultFile(
        "M3U, CR line ends",
        b"#EXTM3U\r#EXTINF:1,A - x\r1.mp3\r\r#EXTINF:-1,\xff - y\r2.mp3\rA - \xc3\xa9.mp3\r",
        2,
        "M3U",
        {"not valid UTF-8": 1},
        options=ReadOptions(encoding="utf-8"),
        titles=("x", "é"),
    ),
    DifficultFile(
        "XSPF",
        b'<playlist xmlns="http://xspf.org/ns/0/"><trackList><track><title>x</title></track>'
        b"<track/></trackList></playlist>",
        2,
        "XSPF",
        titles=("x", "None"),
    ),
    DifficultFile(
        "a history with short plays",
        lines(
            {"ts": 1, "artist": "a", "track": "x", "ms_played": 30_000},
            {"ts": 2, "artist": "a", "track": 1, "ms_played": "?"},
            {"ts": "?", "artist": "a", "track": "y", "ms_played": 30_000},
        ),
        2,
        "JSON lines",
        {"the position is neither a number nor a time": 1},
        titles=("x", "1"),
    ),
    DifficultFile(
        "an account's playlists",
        json.dumps(
            {
                "playlists": [
                    {
                        "name": "n",
                        "items": [
                            {"track": {"trackName": "x", "artistName": "A"}},
                            {"track": {"trackName": "y", "artistName": "A"}},
                        ],
                    },
                    {
                        "name": "n",
                        "items": [
                            {"track": {"trackName": "z", "artistName": "A"}},
                            {"track": None},
                        ],
                    },
                ]
            }
        ).encode(),
        4,
        "JSON",
        titles=("x", "y", "z", "None"),
    ),
]
"""In `rejects`, reasons are cut off at the first colon or at " fields"."""

BROKEN = {
    "MacRoman": (csv(*FRENCH, encoding="mac-roman"), "name its encoding with --encoding"),
    "cut short gzip": (gzip.compress(GOOD * 99)[:-20], "cut short"),
    "cut short zstandard": (zstandard.compress(GOOD * 99)[:-9], "cut short"),
    "cut short archive": (zipped(a_dot_csv=GOOD * 99)[:-30], "damaged"),
    "archive without playlists": (zipped(a_dot_txt=b"x", b_dot_txt=b"y"), "no playlist file"),
    "cut short slice": (mpd(slice_of(0, "x"), slice_of(1, "y"))[:-40], "cut short"),
    "JSON without objects": (b'{\n"a": [1, 2]\n}', "missing: a title"),
    "JSON that ends at once": (b"[", "cut short"),
}
