"""The pages, used by a simulated user without a browser."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from nicegui import ui
from nicegui.client import Client
from nicegui.elements.upload_files import SmallFileUpload

from catalog.song import song_id
from nextsong.v1 import recommender_pb2 as pb
from service.explore.link import decode_request, encode_request
from service.explore.overview import compute

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nicegui.testing import User

    from service.explore.explorer import Explorer

    Visit = Callable[[Callable[[User], Awaitable[None]]], None]

STEPS = 100  # tenths of a second that the page may take, on a busy machine

HALO = str(song_id("Beyoncé", "Halo"))
FIRST_LOVE = str(song_id("宇多田ヒカル", "First Love"))


async def sees(user: User, text: str) -> None:
    await user.should_see(text, retries=STEPS)


async def choose(user: User, text: str, title: str) -> None:
    """Type a text into the search box, and choose the first result, which must have this title."""
    user.find(marker="search").type(text)
    for _ in range(STEPS):
        await asyncio.sleep(0.1)
        found = [element for element in user.find(marker="result-0").elements if element.visible]
        if found:
            break
    await user.should_see(title)
    user.find(marker="search").trigger("keydown.enter.prevent")


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[pb.RecommendRequest]:
    """The requests in the links that the pages set. Each new link adds a request to the list."""
    requests: list[pb.RecommendRequest] = []
    original = Client.run_javascript

    def record(self: Client, code: str, **options: Any) -> Any:
        if match := re.match(r"nextsong\.setLink\('/\?q=([\w-]+)", code):
            requests.append(decode_request(match[1]))
        return original(self, code, **options)

    monkeypatch.setattr(Client, "run_javascript", record)
    return requests


async def wait_for(
    links: list[pb.RecommendRequest], is_expected: Callable[[pb.RecommendRequest], bool]
) -> None:
    """Wait until the last link that the page has set contains an expected request."""
    for _ in range(STEPS):
        if links and is_expected(links[-1]):
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"no such request; the last one: {links[-1:]}")


def find_options(user: User) -> list[str]:
    """Return the values that the page offers for a filter on the field `genre`."""
    (select,) = user.find(marker="field-genre").elements
    assert isinstance(select, ui.select)
    return [str(option) for option in select.options]


def path_of(*seeds: pb.Seed, **options: Any) -> str:
    return f"/?q={encode_request(pb.RecommendRequest(seeds=seeds, limit=10, **options))}"


def test_a_song_found_by_typing_brings_next_songs_and_one_click_adds_one_of_them(
    visit: Visit, links: list[pb.RecommendRequest]
) -> None:
    async def scenario(user: User) -> None:
        await user.open("/")
        await sees(user, "popular songs")
        await choose(user, "firs lov", "First Love")
        await sees(user, "100% from First Love")
        assert [seed.song_id for seed in links[-1].seeds] == [FIRST_LOVE]
        (add,) = user.find(marker="add-0").elements
        name = str(add.props["aria-label"]).removeprefix("Add ").removesuffix(" to the playlist")
        user.find(marker="add-0").click()
        await wait_for(links, lambda request: len(request.seeds) == 2)
        await sees(user, f"% from {name}")

    visit(scenario)


def test_songs_are_weighed_disliked_moved_and_removed(
    visit: Visit, links: list[pb.RecommendRequest]
) -> None:
    async def scenario(user: User) -> None:
        await user.open(path_of(pb.Seed(song_id=HALO), pb.Seed(song_id=FIRST_LOVE)))
        user.find(marker="weight-0").click()
        await wait_for(links, lambda request: request.seeds[0].weight == 2)
        user.find(marker="unlike-1").click()
        await wait_for(links, lambda request: request.seeds[1].weight == -1)
        user.find(marker="row-0").trigger("keydown.alt.down.prevent")
        await wait_for(links, lambda request: request.seeds[0].song_id == FIRST_LOVE)
        user.find(marker="remove-0").click()
        await wait_for(links, lambda request: [s.song_id for s in request.seeds] == [HALO])
        user.find(marker="clear").click()
        await wait_for(links, lambda request: not request.seeds)
        await sees(user, "popular songs")

    visit(scenario)


def test_options_and_filters_change_the_request_and_the_songs(
    visit: Visit, links: list[pb.RecommendRequest]
) -> None:
    async def scenario(user: User) -> None:
        await user.open(path_of(pb.Seed(song_id=HALO)))
        for marker, value in (("diversity", 0.5), ("max_per_artist", 2), ("min_artist_gap", 1)):
            (slider,) = user.find(marker=marker).elements
            slider.value = value  # type: ignore[attr-defined]
        (year,) = user.find(marker="field-year-minimum").elements
        year.value = 2000  # type: ignore[attr-defined]
        (genre,) = user.find(marker="field-genre").elements
        genre.value = ["jazz"]  # type: ignore[attr-defined]
        await wait_for(links, lambda request: len(request.filter.conditions) == 2)
        await wait_for(links, lambda request: bool(request.min_artist_gap))
        assert (links[-1].diversity, links[-1].max_per_artist) == (0.5, 2)
        await sees(user, " · jazz · ")
        await user.should_not_see(" · rock · ")
        (popularity,) = user.find(marker="popularity").elements
        popularity.value = {"min": 50, "max": 100}  # type: ignore[attr-defined]
        # The most popular song is in 500 playlists, and the middle of a logarithmic scale is 22.
        await wait_for(links, lambda request: request.filter.min_playlists == 22)
        user.find(marker="reset").click()
        await wait_for(links, lambda request: not request.HasField("filter"))
        assert [seed.song_id for seed in links[-1].seeds] == [HALO]

    visit(scenario)


def test_modes_and_releases_answer_the_same_playlist_side_by_side(visit: Visit) -> None:
    async def scenario(user: User) -> None:
        await user.open(path_of(pb.Seed(song_id=HALO)) + "&view=modes")
        for title in ("Hybrid", "Co-occurrence", "Dense", " of 3 modes"):
            await sees(user, title)
        user.find(marker="view-releases").click()
        await sees(user, "10 of 10 songs are in both answers.")
        await sees(user, "same rank")

    visit(scenario)


def test_names_with_markup_and_unknown_songs_are_shown_as_they_are(visit: Visit) -> None:
    markup = "<img src=x onerror=alert(1)>"

    async def scenario(user: User) -> None:
        await user.open(path_of(pb.Seed(title=markup), pb.Seed(song_id=HALO)))
        await user.should_see(markup)
        await sees(user, "not in this release")
        await sees(user, "100% from Halo")

    visit(scenario)


def test_a_damaged_link_is_reported_and_the_page_is_empty(visit: Visit) -> None:
    async def scenario(user: User) -> None:
        await user.open("/?q=eJwdamaged")
        await user.should_see("link: is damaged; copy it again")
        await user.should_see("popular songs")

    visit(scenario)


def test_the_playlist_is_exported_and_imported(
    visit: Visit, links: list[pb.RecommendRequest]
) -> None:
    async def scenario(user: User) -> None:
        await user.open(path_of(pb.Seed(song_id=HALO, weight=2), diversity=0.25))
        user.find(marker="export-json").click()
        response = await user.download.next()
        exported = json.loads(response.content)
        assert exported["seeds"] == [{"songId": HALO, "weight": 2.0}]
        assert exported["diversity"] == 0.25
        (upload,) = user.find(marker="upload").elements
        assert isinstance(upload, ui.upload)
        lines = SmallFileUpload("songs.txt", "text/plain", "宇多田ヒカル - First Love".encode())
        with user.client or user:
            await upload.handle_uploads([lines])
        await wait_for(links, lambda request: [s.song_id for s in request.seeds] == [FIRST_LOVE])
        assert links[-1].diversity == 0.25

    visit(scenario)


def test_the_map_marks_the_playlist_and_adds_a_song_that_is_clicked(
    visit: Visit, explorer: Explorer, links: list[pb.RecommendRequest]
) -> None:
    location = explorer.overview._location

    async def scenario(user: User) -> None:
        await user.open(path_of(pb.Seed(song_id=HALO)) + "&view=map")
        await sees(user, "Computing the map of this release: 0%")
        explorer.overview.overview = compute(location)
        await sees(user, "445 of 500 songs")
        (drawn,) = user.find(marker="map").elements
        # Every ninth song has no vector, and Halo is the seventh song.
        await wait_for(links, lambda _: drawn.props["marks"]["playlist"] == [6])
        points = await user.http_client.get("/map/points")
        assert len(points.content) == 445 * 2 * 4
        await wait_for(links, lambda _: sorted(find_options(user)) == ["jazz", "pop", "rock"])
        user.find(marker="map").trigger("pick", 3)
        await wait_for(links, lambda request: len(request.seeds) == 2)
        assert links[-1].seeds[1].song_id == FIRST_LOVE

    visit(scenario)


def test_the_other_pages_show_manifest_runs_and_data_report(
    visit: Visit, explorer: Explorer
) -> None:
    async def scenario(user: User) -> None:
        await user.open("/release")
        await user.should_see(explorer.manifest.release)
        await user.should_see("genre")
        await user.open("/runs")
        await user.should_see("12.5%")
        await user.open("/data")
        await user.should_see("There is no data report")
        folder = explorer.home / "stats"
        folder.mkdir()
        (folder / "index.html").write_text("<h1>report</h1>")
        await user.open("/data")
        await user.should_not_see("There is no data report")
        report = await user.http_client.get("/data-report/index.html")
        assert report.text == "<h1>report</h1>"
        (explorer.home / "secret").write_text("not to be read")
        assert "not to be read" not in (await user.http_client.get("/data-report/..%2fsecret")).text

    visit(scenario)
