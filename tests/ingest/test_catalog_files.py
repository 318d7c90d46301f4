"""Ingest runs with catalog files: which stages are repeated, and the release with new songs."""

from __future__ import annotations

import asyncio
import csv
import json
import shutil
from typing import TYPE_CHECKING
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.embedded.store import EmbeddedStore
from catalog.errors import ColumnError, EmptyFileError, InputError, RejectsError
from cli.main import main
from ingest.report import describe_last_run, describe_run, load_last_run
from ingest.sources.options import ReadOptions
from ingest.sources.values.payload import parse_payload_columns
from service.recommend.engine import find_similar, recommend
from service.recommend.query import Mode, Query, Recommendation, Strategy
from service.recommend.seeds import Seed
from tests.support.pipeline_runs import Lane
from tests.support.road import linked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.store import OpenRelease
    from ingest.pipeline import Outcome
    from tests.support.road import Road

LEARNED = ["read", "prepare", "split", "count", "train", "choose"]
ALBUM = ReadOptions(payload=parse_payload_columns(["album=record"]))


def write(path: Path, *rows: tuple[str, ...], header: str = "artist,title,record") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def popular(road: Road) -> dict[str, str]:
    """Return the row in `songs.parquet` of the most popular song of the training playlists."""
    songs = pq.read_table(road.work / "prepare" / "songs.parquet").to_pylist()
    counts = dict.fromkeys(range(len(songs)), 0)
    for playlist in pq.read_table(road.work / "split" / "train.parquet")["songs"].to_pylist():
        for song in playlist:
            counts[song] += 1
    return songs[max(counts, key=counts.__getitem__)]


@pytest.fixture
def catalogued(quick: Lane, tmp_path: Path) -> Lane:
    """A `Lane` with a catalog file, which lists a new song and a song of playlists."""
    known = popular(quick.road)
    file = write(
        tmp_path / "songs.csv",
        (known["artist"], "Brand New", "Debut"),
        (known["artist"], known["title"], "Debut"),
    )
    quick.catalog = [file]
    return quick


def test_nothing_is_learned_again_because_of_a_catalog_file(catalogued: Lane) -> None:
    first = catalogued.run()
    assert catalogued.listener.done == ["read", "catalog", "publish"]
    assert catalogued.listener.unchanged == LEARNED
    assert first.published
    assert first.manifest.origin.parameters["new_songs"] == 1
    assert first.manifest.counts.songs == catalogued.road.outcome.manifest.counts.songs + 1

    assert not catalogued.run().published
    assert catalogued.listener.done == []

    write(catalogued.catalog[0], ("Somebody", "Else", ""))
    second = catalogued.run()
    assert catalogued.listener.done == ["read", "catalog", "publish"]
    assert second.published

    catalogued.catalog = []
    third = catalogued.run()
    assert catalogued.listener.done == ["publish"]
    assert "new_songs" not in third.manifest.origin.parameters
    assert not (catalogued.work / "catalog").exists()
    assert third.manifest.counts == catalogued.road.outcome.manifest.counts


def test_shares_are_selected_again_if_a_catalog_file_has_a_content_field(catalogued: Lane) -> None:
    catalogued.how = ALBUM
    first = catalogued.run()
    assert catalogued.listener.done == ["read", "catalog", "choose", "publish"]
    assert first.stages.choose.summary.selected.content_shares.keys() == {"artist", "album"}
    assert first.stages.files.fields == ["album"]


def test_a_payload_column_must_be_in_some_file(catalogued: Lane) -> None:
    catalogued.how = ReadOptions(payload=parse_payload_columns(["genre"]))
    with pytest.raises(ColumnError, match=r"'genre' .* in the playlist files or in the catalog"):
        catalogued.run()


def test_a_share_of_a_field_of_the_catalog_is_accepted(catalogued: Lane) -> None:
    catalogued.how = ALBUM
    shares = {"artist": 0.1, "album": 0.3}
    outcome = catalogued.run(content_shares=shares)
    assert outcome.manifest.origin.parameters["content_shares"] == shares
    with pytest.raises(InputError, match="no keyword field 'genre'"):
        catalogued.run(content_shares={"genre": 0.1})


def test_values_have_the_kind_of_the_playlist_files(catalogued: Lane) -> None:
    catalogued.how = ReadOptions(payload=parse_payload_columns(["at=position:integer"]))
    write(catalogued.catalog[0], ("A", "B", "7"), ("A", "C", "x"), header="artist,title,position")
    outcome = catalogued.run(max_rejects=0.5)
    assert outcome.stages.catalog is not None
    tally = outcome.stages.catalog.summary.read.payload["at"]
    assert (tally.kind, tally.filled, tally.wrong) == ("integer", 1, 1)


def test_rejected_rows_of_a_catalog_file_are_reported(catalogued: Lane) -> None:
    write(catalogued.catalog[0], ("", "No artist", ""), ("A", "Fine", ""))
    with pytest.raises(RejectsError, match=r"1 of 2 rows .*catalog/rejects\.parquet.*--catalog-"):
        catalogued.run()
    outcome = catalogued.run(max_rejects=0.5)
    for text in (describe_run(outcome), describe_last_run(load_last_run(catalogued.work))):
        assert "listed     2 read = 1 used + 1 rejected" in text
        assert "1 no artist: " in text
        assert "1 songs, 1 of them in no playlist file" in text
    assert "songs.csv, line 2: no artist: ' | No artist'" in text
    assert (
        "catalog    songs.csv: CSV, standard quoting; 2 rows, 0 unreadable; artist, title" in text
    )


def test_columns_of_catalog_files_can_be_named(catalogued: Lane, tmp_path: Path) -> None:
    odd = write(tmp_path / "odd.csv", ("A", "B"), header="who,what")
    run = ["ingest", "run", str(catalogued.file), f"--home={tmp_path / 'new'}", "--quiet"]
    run += [f"--catalog={odd}"]
    failed = CliRunner().invoke(main, run)
    assert failed.exit_code == 1
    assert "--catalog-column title=who" in failed.stderr
    assert "--column" not in failed.stderr
    failed = CliRunner().invoke(main, [*run, "--catalog-column=position=what"])
    assert failed.exit_code == 2
    assert "the roles are artist, title, track_id" in failed.stderr


def test_a_catalog_file_without_songs_is_an_error(catalogued: Lane) -> None:
    write(catalogued.catalog[0])
    with pytest.raises(EmptyFileError):
        catalogued.run()


# A real release with new songs.


@pytest.fixture(scope="module")
def outcome(road: Road, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lane, Outcome]:
    """A release with two new songs: one of the most popular artist, and one of a new artist."""
    folder = tmp_path_factory.mktemp("catalog")
    shutil.copytree(road.work, folder / "work")
    shutil.copytree(road.home.path, folder / "home", copy_function=linked)
    lane = Lane(road, folder / "work", EmbeddedStore(folder / "home"), road.file)
    lane.catalog = [
        write(
            folder / "songs.csv",
            (popular(road)["artist"], "Brand New", "Debut"),
            ("Nobody Yet", "Lonely", "Alone"),
        )
    ]
    return lane, lane.run()


@pytest.fixture(scope="module")
def release(outcome: tuple[Lane, Outcome]) -> Iterator[OpenRelease]:
    lane, _ = outcome
    opened = lane.home.open()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def new(road: Road) -> Seed:
    return Seed(artist=popular(road)["artist"], title="Brand New")


def ask(
    release: OpenRelease, *seeds: Seed, mode: Mode | None = None, limit: int = 500
) -> Recommendation:
    return asyncio.run(recommend(release, Query(list(seeds), limit=limit, mode=mode)))


def titles(recommendation: Recommendation) -> list[str]:
    return [hit.song.title for hit in recommendation.songs]


def test_a_new_song_is_similar_to_songs_of_its_artist_and_they_to_it(
    release: OpenRelease, new: Seed
) -> None:
    song, similar = asyncio.run(find_similar(release, new))
    assert song.playlists == 0
    assert len(similar.songs) == 10
    _, back = asyncio.run(find_similar(release, Seed(similar.songs[0].song.song_id), 500))
    assert "Brand New" in titles(back)


def test_nothing_is_similar_to_a_new_song_of_a_new_artist(release: OpenRelease) -> None:
    song, similar = asyncio.run(find_similar(release, Seed(artist="Nobody Yet", title="Lonely")))
    assert (song.title, similar.songs) == ("Lonely", [])


def test_a_query_with_only_new_songs_uses_their_artists(release: OpenRelease, new: Seed) -> None:
    answer = ask(release, new, mode=Mode.COOCCURRENCE)
    assert answer.strategy is Strategy.ARTISTS
    assert answer.songs
    assert all(hit.song.artist == new.artist for hit in answer.songs)
    plays = [hit.song.playlists for hit in answer.songs]
    assert plays == sorted(plays, reverse=True)
    alone = ask(release, Seed(artist="Nobody Yet", title="Lonely"))
    assert alone.strategy is Strategy.POPULAR


def test_a_new_song_is_recommended_because_of_its_artist(
    release: OpenRelease, new: Seed, road: Road
) -> None:
    answer = ask(release, Seed(UUID(popular(road)["song_id"])), mode=Mode.COOCCURRENCE)
    assert answer.strategy is Strategy.SEEDS
    assert "Brand New" in titles(answer)
    assert "Lonely" not in titles(answer)


def test_new_songs_are_the_least_popular(release: OpenRelease) -> None:
    songs = asyncio.run(release.popular(10_000))
    assert {point.song.title for point in songs[-2:]} == {"Brand New", "Lonely"}
    assert [point.song.ordinal for point in songs] == list(range(len(songs)))


def test_the_commands_know_the_new_songs(outcome: tuple[Lane, Outcome]) -> None:
    lane, made = outcome
    text = describe_run(made)
    assert "(2 of them from catalog files alone)" in text
    arguments = [f"--home={lane.home.path}", f"--work={lane.work}", "--json"]
    report = json.loads(CliRunner().invoke(main, ["ingest", "report", *arguments]).stdout)
    assert (report["catalog"]["songs"], report["catalog"]["new"]) == (2, 2)
    assert report["catalog_rejects"] == str(lane.work / "catalog" / "rejects.parquet")
    doctor = CliRunner().invoke(main, ["doctor", f"--home={lane.home.path}", "--json"])
    assert doctor.exit_code == 0, doctor.output
