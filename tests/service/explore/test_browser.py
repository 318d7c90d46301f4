"""The pages in Chromium: flows of a visit, without errors or requests to other hosts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from nextsong.v1 import recommender_pb2 as pb
from service.explore.link import encode_request
from tests.support.road import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

    from catalog.embedded.store import EmbeddedStore

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
TIMEOUT_MS = 60_000  # of each step, on a busy machine
TOKEN = "s3cret"
MARKUP = "<img src=x onerror=alert(1)>"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]

NAMELESS = """
[...document.querySelectorAll("button, a, input, select, textarea, [role=slider], [role=img]")]
  .filter((element) => element.checkVisibility())
  .filter((element) => !(element.getAttribute("aria-label") || element.innerText?.trim()
    || element.labels?.length))
  .map((element) => element.outerHTML)
"""
"""JavaScript that returns the visible controls without an accessible name."""


@pytest.fixture(scope="module")
def address(explored: EmbeddedStore) -> Iterator[str]:
    """The printed address of a running `nextsong explore`, which contains the token."""
    command = [sys.executable, "-m", "cli.main", "explore", "--no-open", "--port=0"]
    environment = {**os.environ, "NEXTSONG_EXPLORE_TOKEN": TOKEN}
    with subprocess.Popen(
        [*command, f"--home={explored.path}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r"on (http://127\.0\.0\.1:\d+/\?token=s3cret)$", line)
        assert match, line
        yield match[1]
        process.terminate()
        assert process.wait() == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        # Chromium has no sandbox for root, as in a container.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, address: str, width: int) -> Iterator[Page]:
    """Open a page `width` pixels wide. At the end, fail after errors or requests to other hosts."""
    errors: list[str] = []
    hosts: set[str] = set()

    def on_console(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            errors.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            hosts.add(urlsplit(request.url).netloc)

    page = browser.new_page(viewport={"width": width, "height": 800}, accept_downloads=True)
    page.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    page.on("console", on_console)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
    page.on("request", on_request)
    page.goto(address)
    yield page
    page.close()
    assert errors == []
    assert hosts == {urlsplit(address).netloc}


def link_to(address: str, request: pb.RecommendRequest, **parameters: str) -> str:
    more = "".join(f"&{name}={value}" for name, value in parameters.items())
    return f"{address}&q={encode_request(request)}{more}"


def test_a_visit_with_the_keyboard(browser: Browser, address: str, tmp_path: Path) -> None:
    with visit(browser, address, 1280) as page:
        expect(page.locator(".songs > .song").first).to_be_visible()
        assert TOKEN not in page.url
        page.keyboard.press("/")
        page.keyboard.type("firs lov")
        expect(page.get_by_role("option").first).to_contain_text("First Love")
        page.keyboard.press("Enter")
        playlist = page.locator(".playlist > .entry")
        expect(playlist).to_have_count(1)
        expect(page.locator(".reason").first).to_have_text("100% from First Love")
        page.keyboard.press("Tab")  # leave the search box
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(playlist).to_have_count(2)
        assert page.evaluate("document.activeElement.dataset.suggestion") == "0"
        second = playlist.nth(1).locator(".title").inner_text()
        playlist.nth(1).focus()
        page.keyboard.press("Alt+ArrowUp")
        expect(playlist.nth(0).locator(".title")).to_have_text(second)
        page.get_by_role("button", name=f"Less like {second}").click()
        expect(playlist.nth(0)).to_have_class(re.compile("disliked"))
        page.locator(".handle").first.drag_to(playlist.nth(1))
        expect(playlist.nth(0).locator(".title")).to_have_text("First Love")
        page.get_by_role("button", name="Export the playlist").click()
        with page.expect_download() as download:
            page.get_by_text("CSV", exact=True).click()
        download.value.save_as(tmp_path / "playlist.csv")
        assert f",{second}," in (tmp_path / "playlist.csv").read_text("utf-8")
        page.get_by_role("tab", name="Map").click()
        expect(page.locator(".song-map[data-ready='445']")).to_be_visible()
        page.get_by_role("button", name="Dark or light").click()
        expect(page.locator("body")).to_have_class(re.compile("body--dark"))
        assert page.evaluate(NAMELESS) == []
        page.reload()  # the address keeps the playlist and the view, a cookie the colours
        expect(playlist).to_have_count(2)
        expect(page.locator("body")).to_have_class(re.compile("body--dark"))
        expect(page.get_by_role("tab", name="Map")).to_have_attribute("aria-selected", "true")


def test_a_visit_with_a_phone(browser: Browser, address: str) -> None:
    request = pb.RecommendRequest(
        seeds=[pb.Seed(title=MARKUP), pb.Seed(artist="Beyoncé", title="Halo")], limit=10
    )
    with visit(browser, link_to(address, request), 390) as page:
        expect(page.get_by_text(MARKUP)).to_be_visible()
        expect(page.locator(".reason").first).to_have_text("100% from Halo")
        page.get_by_role("button", name="Options").click()
        expect(page.get_by_role("slider", name="Diversity")).to_be_visible()
        for view in ("Modes", "Releases", "Map"):
            page.get_by_role("tab", name=view).click()
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, f"{view} is {width} px wide"
        for name in ("Release", "Evaluations", "Data"):
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute(
                "aria-current", "page"
            )
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("main img").count() == 0
