"""Tests that every store must pass: a folder, an emulated server, and a real server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.commands.copy import copy_release
from catalog.console.progress import SilentReporter
from catalog.content import ARTIST, content_index
from catalog.draft import build_draft
from catalog.embedded.store import EmbeddedStore
from catalog.errors import BusyError, CorruptReleaseError, EngineError, NoReleaseError
from catalog.model import Condition, Filter, Search
from catalog.song import song_id
from tests.support.embedded_releases import Notes, make_songs, run, vectors_of
from tests.support.qdrant_servers import Shared
from tests.support.store_content import (
    DIMENSIONS,
    KINDS,
    SONGS,
    VECTOR,
    WEIGHTS,
    Content,
    assert_same,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.store import OpenRelease, ReleaseStore


@pytest.fixture(scope="module")
def release(store: ReleaseStore) -> Iterator[OpenRelease]:
    opened = store.open()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reference(content: Content, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    """A release with the same content in an embedded store, for comparison."""
    store = EmbeddedStore(tmp_path_factory.mktemp("reference"))
    store.publish(content.draft, SilentReporter())
    opened = store.open()
    yield opened
    opened.close()


def test_the_manifest_describes_the_release(store: ReleaseStore, content: Content) -> None:
    release = store.current()
    assert release is not None
    assert release.endswith("-00000000")
    assert store.releases() == [release]
    manifest = store.manifest(release)
    assert (manifest.release, manifest.dimensions) == (release, DIMENSIONS)
    assert (manifest.counts, manifest.origin) == (content.draft.counts, content.draft.origin)
    assert manifest.payload == KINDS
    assert manifest.recall == pytest.approx(1.0, abs=0.03)
    assert len(set(manifest.canaries)) == 8


def test_points_are_exactly_as_published(release: OpenRelease, content: Content) -> None:
    ids = [song.song_id for song in content.songs]
    points = run(release.points(ids))
    for song, vector in zip(content.songs, content.vectors, strict=True):
        point = points[song.song_id]
        assert point.song == song
        assert point.song.extra == song.extra
        assert (point.vector is None) == (vector is None)
        if vector is not None and point.vector is not None:
            assert point.vector.tobytes() == vector.tobytes()
    strengths = run(release.cooccurrence_weights(ids))
    assert [strengths[song_id] for song_id in ids] == content.strengths


def test_a_release_without_dense_vectors(make_store: Any, content: Content, tmp_path: Path) -> None:
    table = pq.read_table(content.draft.songs_path)
    place = table.schema.get_field_index("vector")
    none = pa.nulls(len(table), table.schema.field("vector").type)
    pq.write_table(table.set_column(place, "vector", none), tmp_path / "songs.parquet")
    counts = replace(content.draft.counts, vectors=0)
    draft = replace(content.draft, songs_path=tmp_path / "songs.parquet", counts=counts)
    store = make_store()
    manifest = store.publish(draft, SilentReporter())
    assert (manifest.canaries, manifest.recall) == ([], 1.0)
    copied = copy_release(
        store, EmbeddedStore(tmp_path / "copy"), None, tmp_path / "scratch", SilentReporter()
    )
    assert copied.counts == manifest.counts
    for kept in (store, EmbeddedStore(tmp_path / "copy")):
        opened = kept.open()
        try:
            (found, likely) = run(
                opened.find([Search(content.vectors[0], limit=5), Search(weights={3: 1.0})])
            )
        finally:
            opened.close()
        assert found == []
        assert likely
        assert all(3 in content.strengths[hit.song.ordinal] for hit in likely)


def test_cooccurrence_scores_are_those_of_the_search(
    release: OpenRelease, content: Content
) -> None:
    weights = {3: 1.0, 5: 0.5}
    (hits,) = run(release.find([Search(weights=weights, limit=1_000)]))
    expected = {hit.song.song_id: hit.score for hit in hits}
    half = content.songs[: len(content.songs) // 2]
    wanted = [song.song_id for song in half]
    pairs = [(weights, half), (weights, []), ({}, half)]
    scores, *nothing = run(release.cooccurrence_scores(pairs))
    assert nothing == [{}, {}]
    assert 0 < len(expected.keys() & {*wanted}) < len(wanted)
    assert scores.keys() <= {*wanted}
    for song in wanted:
        assert scores.get(song, 0.0) == pytest.approx(expected.get(song, 0.0), abs=1e-5)


def test_a_release_of_format_2_is_served_and_copied(
    make_store: Any, content: Content, tmp_path: Path
) -> None:
    source = EmbeddedStore(tmp_path / "source")
    current = source.publish(content.draft, SilentReporter())
    table = pq.read_table(content.draft.songs_path)
    place = table.schema.get_field_index("artist_key")
    names = pa.array([keys[0] if keys else "-" for keys in table["artist_key"].to_pylist()])
    pq.write_table(table.set_column(place, "artist_key", names), tmp_path / "songs.parquet")
    published = replace(current, format=2, release="20251201T000000000-00000000")
    draft = build_draft(published, tmp_path / "songs.parquet")
    old = EmbeddedStore(tmp_path / "old")
    assert old.publish(draft, SilentReporter()).format == 2
    store = make_store()
    assert copy_release(old, store, None, tmp_path / "scratch", SilentReporter()).format == 2
    opened = store.open()
    try:
        points = run(opened.points([song.song_id for song in content.songs]))
        (hits,) = run(opened.find([Search(VECTOR, where=FILTERS[1])]))
        by_spelling = run(opened.search_spelling("beyonce halo", 10))
    finally:
        opened.close()
    assert by_spelling == []  # format 2 has no spelling vectors
    for song in content.songs:
        assert points[song.song_id].song.artist_keys == (song.artist_keys[:1] or ("-",))
    assert hits
    assert {hit.song.artist_key for hit in hits} <= FILTERS[1].include_artists


def test_unknown_songs_are_left_out(release: OpenRelease, content: Content) -> None:
    known, unknown = content.songs[0].song_id, song_id("nobody", "nothing")
    assert list(run(release.points([unknown, known]))) == [known]
    assert list(run(release.cooccurrence_weights([unknown, known]))) == [known]
    assert run(release.points([])) == run(release.cooccurrence_weights([])) == {}


FILTERS = [
    Filter(),
    Filter(include_artists=frozenset({"artist 3", "artist 4", "beyonce"})),
    Filter(exclude_artists=frozenset({"artist 3", "artist 4"})),
    Filter(include_artists=frozenset({"guest 1"})),
    Filter(exclude_artists=frozenset({"guest 1"})),
    Filter(exclude_songs=frozenset(song.song_id for song in make_songs(40))),
    Filter(min_playlists=100, max_playlists=300),
    Filter(conditions=(Condition("genre", any_of=("rock", "jazz")),)),
    Filter(conditions=(Condition("genre", none_of=("rock",)),)),
    Filter(conditions=(Condition("year", any_of=(1960, 1961)),)),
    Filter(conditions=(Condition("year", none_of=(1960,), minimum=1955, maximum=1970),)),
    Filter(conditions=(Condition("tempo", minimum=70.5, maximum=90.25),)),
    Filter(conditions=(Condition("genre", any_of=("none of them",)),)),
    Filter(
        include_artists=frozenset({"artist 1", "artist 2"}),
        exclude_songs=frozenset({make_songs(22)[21].song_id}),
        max_playlists=450,
        conditions=(Condition("genre", any_of=("pop",)), Condition("year", minimum=1960)),
    ),
]
WORDS = [
    Filter(conditions=(Condition("notes", text="TAKE 3"),)),
    Filter(conditions=(Condition("notes", text="tak très"),)),
    Filter(conditions=(Condition("notes", text="ake"),)),
]


def searches(where: Filter) -> list[Search]:
    return [
        Search(VECTOR, where=where),
        Search(VECTOR, where=where, limit=60, exact=True),
        Search(VECTOR, where=where, with_vectors=True),
        Search(weights=WEIGHTS, where=where, limit=50),
        Search(weights=WEIGHTS | {17: -1.5}, where=where, limit=50),
        Search(weights=WEIGHTS | {content_index(ARTIST, "guest 1"): 3.0}, where=where, limit=50),
        Search(VECTOR, WEIGHTS, where=where),
        Search(VECTOR, WEIGHTS, where=where, limit=150, dense_weight=0.3),
        Search(VECTOR, WEIGHTS | {3: -4.0}, where=where, dense_weight=2.0, with_vectors=True),
        Search(VECTOR, {10_000: 1.0}, where=where),
        Search(weights={10_000: 1.0}, where=where),
        Search(where=where),
    ]


@pytest.mark.parametrize("where", [*FILTERS, *WORDS])
def test_all_stores_return_the_same_hits(
    kind: str, release: OpenRelease, reference: OpenRelease, where: Filter
) -> None:
    if kind == "memory" and where in WORDS:
        pytest.skip("the emulation has no text index")
    queries = searches(where)
    found = run(release.find(queries))
    expected = run(reference.find(queries))
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    if where == Filter():
        assert [len(hits) for hits in found[:9]] == [10, 60, 10, 50, 50, 50, 10, 150, 10]


def test_searches_that_return_nothing(release: OpenRelease) -> None:
    assert run(release.find([])) == []
    assert run(release.find([Search(VECTOR, limit=0), Search()])) == [[], []]


@pytest.mark.parametrize("where", FILTERS)
def test_all_stores_return_the_same_popular_songs(
    release: OpenRelease, reference: OpenRelease, where: Filter
) -> None:
    found = run(release.popular(70, where))
    expected = run(reference.popular(70, where))
    assert [point.song for point in found] == [point.song for point in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.vector is None) == (other.vector is None)
    assert run(release.popular(0)) == []


NAMES = ["Beyoncé", "b", "eyonce", "deja", "vu bey", "ac/dc", "AC DC", "t.n.t.", "guns n' ro"]
NAMES += ["宇多", "فيروز", "Supercalifragilisticexpialidocious", "sæglo", "song 1", "the"]
NAMES += ["", " \t", "!?"]


@pytest.mark.parametrize("text", NAMES)
def test_all_stores_return_the_same_songs_by_name(
    kind: str, release: OpenRelease, reference: OpenRelease, text: str
) -> None:
    if kind == "memory":
        pytest.skip("the emulation has no text index")
    where = Filter(exclude_artists=frozenset({"artist 2"}))
    for limit, filtered in ((5, Filter()), (400, where), (0, Filter())):
        assert run(release.search(text, limit, filtered)) == run(
            reference.search(text, limit, filtered)
        )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("beyonse hallo", "Halo"),
        ("eyoncé - Déja Vú", "Déjà Vu"),
        ("Zweet Chyld of Mine", "Sweet Child O' Mine"),
        ("宇多ヒカル", "First Love"),
        ("sigur ros saeglopr", "Sæglópur"),
        ("supercalifragilistexpialidosious", "Supercalifragilisticexpialidocious"),
    ],
)
def test_misspelt_names_are_found_by_trigrams(release: OpenRelease, text: str, name: str) -> None:
    assert name in [song.title for song in run(release.search_spelling(text, 5))]


def test_a_search_by_spelling_has_a_limit_and_a_filter(
    release: OpenRelease, content: Content
) -> None:
    songs = run(release.search_spelling("beyonse", 10))
    assert {song.title for song in songs[:2]} == {"Déjà Vu", "Halo"}
    assert [len(run(release.search_spelling("beyonse", limit))) for limit in (0, 1)] == [0, 1]
    where = Filter(exclude_songs=frozenset([content.songs[0].song_id]))
    assert run(release.search_spelling("beyonse", 10, where))[0].title == "Halo"
    assert run(release.search_spelling("  ", 10)) == run(release.search_spelling("ξξξ", 10)) == []


def test_songs_that_match_equally_well_are_ordered_by_popularity(release: OpenRelease) -> None:
    ordinals = [song.ordinal for song in run(release.search_spelling("beyonse", 2))]
    assert ordinals == [0, 6]


def test_a_vector_of_another_size_is_an_engine_error(release: OpenRelease) -> None:
    with pytest.raises(EngineError):
        run(release.find([Search(vectors_of(1, DIMENSIONS + 1)[0])]))


def test_an_empty_store(make_store: Any) -> None:
    empty = make_store()
    assert empty.current() is None
    assert empty.releases() == []
    with pytest.raises(NoReleaseError, match="nextsong ingest run"):
        empty.open()
    with pytest.raises((NoReleaseError, CorruptReleaseError)):
        empty.open("20260101T000000000-abcdef01")
    with pytest.raises(NoReleaseError):
        empty.rollback()
    assert empty.prune(0) == []


def test_publish_rollback_and_prune(make_store: Any, content: Content) -> None:
    store = make_store(keep=1)
    made = [store.publish(content.draft, SilentReporter()).release for _ in range(3)]
    assert made == sorted(made)
    assert store.current() == made[2]
    assert store.releases() == made[1:]
    assert store.rollback() == made[1]
    assert store.current() == made[1]
    opened = store.open()
    assert opened.manifest.release == made[1]
    opened.close()
    with pytest.raises(NoReleaseError):
        store.rollback()
    assert store.rollback(made[2]) == made[2]
    assert store.prune(1) == []
    assert store.rollback() == made[1]
    assert store.prune(0) == [made[2]]
    assert (store.current(), store.releases()) == (made[1], [made[1]])
    with pytest.raises((NoReleaseError, CorruptReleaseError)):
        store.rollback(made[0])
    assert store.current() == made[1]
    assert store.verify(made[1], SilentReporter()).release == made[1]


def test_a_bad_vector_is_refused_and_nothing_changes(
    make_store: Any, content: Content, tmp_path: Path
) -> None:
    store = make_store()
    before = store.publish(content.draft, SilentReporter()).release
    table = pq.read_table(content.draft.songs_path)
    vectors = table["vector"].to_pylist()
    vectors[100] = [2.0] * DIMENSIONS
    place = table.schema.get_field_index("vector")
    bad = table.set_column(
        place, table.schema.field(place), pa.array(vectors, pa.list_(pa.float32()))
    )
    pq.write_table(bad, tmp_path / "bad.parquet")
    song = content.songs[100].song_id
    with pytest.raises(EngineError, match=f"the vector of song {song} is not 12 numbers"):
        store.publish(replace(content.draft, songs_path=tmp_path / "bad.parquet"), SilentReporter())
    seeds = table["seeds"].to_pylist()
    place = table.schema.get_field_index("seeds")
    twice = next(at for at, own in enumerate(seeds) if own and len(own) > 2)
    seeds[twice][2] = seeds[twice][0]
    bad = table.set_column(place, table.schema.field(place), pa.array(seeds, pa.list_(pa.uint32())))
    pq.write_table(bad, tmp_path / "bad.parquet")
    song = content.songs[twice].song_id
    with pytest.raises(EngineError, match=f"a seed predicts song {song} twice"):
        store.publish(replace(content.draft, songs_path=tmp_path / "bad.parquet"), SilentReporter())
    assert (store.current(), store.releases()) == (before, [before])
    again = store.publish(content.draft, SilentReporter()).release
    assert (store.current(), store.releases()) == (again, [before, again])


def test_copies_are_identical(
    store: ReleaseStore, make_store: Any, reference: OpenRelease, tmp_path: Path
) -> None:
    there, back = EmbeddedStore(tmp_path / "folder"), make_store()
    notes = Notes()
    carried = copy_release(store, there, None, tmp_path / "scratch", notes)
    assert carried.release == there.current() == store.current()
    assert notes.steps[-1][0] == SONGS
    copy_release(there, back, None, tmp_path / "scratch", SilentReporter())
    original, returned = store.manifest(carried.release), back.manifest(carried.release)
    assert returned.created == original.created
    assert returned.origin == original.origin
    assert sorted(returned.canaries) != []
    draft = store.export(carried.release, tmp_path / "a.parquet", SilentReporter())
    again = back.export(carried.release, tmp_path / "b.parquet", SilentReporter())
    tables = [
        pq.read_table(path).sort_by("song_id") for path in (draft.songs_path, again.songs_path)
    ]
    assert tables[0].equals(tables[1])
    assert tables[0].num_rows == SONGS
    with pytest.raises(BusyError, match="already"):
        copy_release(there, back, None, tmp_path / "scratch", SilentReporter())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_two_publishers_at_once(make_store: Any, kind: str, content: Content) -> None:
    store = make_store()
    other = store
    if isinstance(make_store, Shared):
        other = make_store.again(store)
    elif kind == "folder":
        other = EmbeddedStore(store.path)
    refused: list[str] = []

    def meanwhile(_done: float, _total: float | None) -> None:
        if not refused:
            with pytest.raises(BusyError) as error:
                other.publish(content.draft, SilentReporter())
            refused.append(str(error.value))

    won = store.publish(content.draft, Notes(meanwhile)).release
    assert "publishing a release" in refused[0]
    assert (store.current(), store.releases()) == (won, [won])
    later = other.publish(content.draft, SilentReporter()).release
    assert store.current() == later
