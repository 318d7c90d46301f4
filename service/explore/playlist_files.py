"""Read and write playlists as files in the formats M3U, JSPF, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from catalog.errors import FileError
from catalog.song import full_name
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.explore.session import Session

MAX_SEEDS = 1_000  # maximum number of songs of a playlist in the API

IDENTIFIER = "urn:uuid:"
"""Prefix of a song id in the field `identifier` of a track in JSPF."""

_ARTIST_COLUMNS = ("artist", "artistname", "artist_name", "creator")
_TITLE_COLUMNS = ("title", "trackname", "track_name", "track", "song")
_ID_COLUMNS = ("song_id",)
_BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


def write_m3u(session: Session) -> str:
    """Return the playlist as extended M3U in UTF-8. Weights are not part of this format."""
    lines = ["#EXTM3U"]
    for seed in session.seeds:
        title, artist, _ = session.describe(seed)
        name = " ".join(full_name(artist, title).split())
        lines += [f"#EXTINF:-1,{name}", name]
    return "\n".join(lines) + "\n"


def write_jspf(session: Session) -> str:
    """Return the playlist as JSPF, with song ids. Weights are not part of this format."""
    tracks = []
    for seed in session.seeds:
        title, artist, _ = session.describe(seed)
        track: dict[str, Any] = {"title": title, "creator": artist}
        if seed.song_id:
            track["identifier"] = [f"{IDENTIFIER}{seed.song_id}"]
        tracks.append(track)
    return _to_json({"playlist": {"title": "nextsong", "track": tracks}})


def write_csv(session: Session) -> str:
    """Return the playlist as CSV with the columns artist, title, song_id and weight."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["artist", "title", "song_id", "weight"])
    for seed in session.seeds:
        title, artist, _ = session.describe(seed)
        weight = f"{seed.weight:g}" if seed.HasField("weight") else "1"
        writer.writerow([artist, title, seed.song_id, weight])
    return table.getvalue()


def write_json(session: Session) -> str:
    """Return the whole request, playlist and options, as the JSON of the API."""
    return _to_json(MessageToDict(session.request))


WRITERS: Mapping[str, Callable[[Session], str]] = {
    "m3u8": write_m3u,
    "jspf": write_jspf,
    "csv": write_csv,
    "json": write_json,
}
"""The function that writes a playlist in each format, by the suffix of the file."""


def read_playlist(name: str, content: bytes) -> pb.RecommendRequest:
    """Return a request with the playlist in a file, and with the options if the file has them.

    `name` is the name of the file; its suffix determines the format. A file with another suffix
    holds one song in each line. Raises `FileError`.
    """
    text = _decode(content)
    suffix = name.rpartition(".")[2].casefold()
    if suffix in {"json", "jspf"}:
        request = _read_json(name, text)
    elif suffix == "csv":
        request = pb.RecommendRequest(seeds=_read_csv(name, text))
    else:
        request = pb.RecommendRequest(seeds=_read_lines(text))
    if not request.seeds:
        raise FileError(f"{name} holds no song")
    if len(request.seeds) > MAX_SEEDS:
        raise FileError(
            f"{name} holds {len(request.seeds):,} songs, and a playlist may have {MAX_SEEDS:,}"
        )
    return request


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _read_json(name: str, text: str) -> pb.RecommendRequest:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{name} is not JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("playlist"), dict):
        tracks = document["playlist"].get("track")
        if not isinstance(tracks, list):
            raise FileError(f"{name} is not JSPF: it has no list 'track'")
        return pb.RecommendRequest(seeds=[_read_track(name, track) for track in tracks])
    try:
        return ParseDict(document, pb.RecommendRequest())
    except (ParseError, AttributeError, TypeError) as error:
        raise FileError(f"{name} is neither JSPF nor a request of the API: {error}") from error


def _read_track(name: str, track: Any) -> pb.Seed:
    if not isinstance(track, dict):
        raise FileError(f"{name} is not JSPF: a track is not an object")
    identifiers = track.get("identifier") or []
    for identifier in [identifiers] if isinstance(identifiers, str) else identifiers:
        if isinstance(identifier, str) and identifier.startswith(IDENTIFIER):
            return pb.Seed(song_id=identifier.removeprefix(IDENTIFIER))
    return pb.Seed(artist=str(track.get("creator") or ""), title=str(track.get("title") or ""))


def _read_csv(name: str, text: str) -> list[pb.Seed]:
    reader = csv.DictReader(io.StringIO(text))
    columns = {column.strip().casefold(): column for column in reader.fieldnames or () if column}
    artist, title, song_id = (
        next((columns[option] for option in options if option in columns), None)
        for options in (_ARTIST_COLUMNS, _TITLE_COLUMNS, _ID_COLUMNS)
    )
    if title is None and song_id is None:
        raise FileError(f"{name} has no column 'title' or 'song_id' in its first line")
    seeds = []
    try:
        for row in reader:
            seed = pb.Seed(
                song_id=_cell(row, song_id), artist=_cell(row, artist), title=_cell(row, title)
            )
            if seed.song_id:
                seed.ClearField("artist")
                seed.ClearField("title")
            weight = _cell(row, columns.get("weight"))
            if weight and float(weight) != 1:
                seed.weight = float(weight)
            if seed.song_id or seed.title:
                seeds.append(seed)
    except (ValueError, csv.Error) as error:
        raise FileError(f"{name}, line {reader.line_num}: {error}") from error
    return seeds


def _cell(row: Mapping[str, Any], column: str | None) -> str:
    value = row.get(column) if column else None
    return value.strip() if isinstance(value, str) else ""


def _read_lines(text: str) -> list[pb.Seed]:
    """Return the songs in an M3U file, or in lines of the form "Artist - Title".

    In M3U, each song has a line with the path of a file. If the line before the path begins with
    `#EXTINF`, that line has the name of the song, and the path is ignored.
    """
    seeds: list[pb.Seed] = []
    has_name = False
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#EXTINF:"):
            seeds.append(_split_name(line.partition(",")[2]))
            has_name = True
        elif not line.startswith("#"):
            if not has_name:
                path = line.replace("\\", "/").rpartition("/")[2] if "#EXTM3U" in text else line
                seeds.append(_split_name(path))
            has_name = False
    return [seed for seed in seeds if seed.title]


def _split_name(name: str) -> pb.Seed:
    artist, dash, title = name.partition(" - ")
    if not dash:
        return pb.Seed(title=name.strip())
    return pb.Seed(artist=artist.strip(), title=title.strip())


def _to_json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def list_formats() -> Sequence[str]:
    """Return the suffixes of the formats."""
    return list(WRITERS)
