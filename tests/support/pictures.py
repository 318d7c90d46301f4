"""Take the screenshots for the documentation, with synthetic data. Run with `make pictures`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from catalog.console.progress import ConsoleReporter
from catalog.embedded.store import EmbeddedStore
from evaluation.synthetic import playlists
from ingest import pipeline
from ingest.parameters import Parameters
from nextsong.v1 import recommender_pb2 as pb
from service.explore.link import encode_request
from tests.support.road import ROOT

FOLDER = ROOT / "docs" / "pictures"
SHAPE = playlists.Shape(playlists=6_000, songs=12_000)
SIZE = {"width": 1280, "height": 800}
SONGS = 4  # number of songs of the playlist in the picture
COLOURS = 256


def main() -> None:
    """Publish a release of synthetic playlists, and take screenshots of the page that shows it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "playlists.csv"
        playlists.write_csv(playlists.generate(SHAPE, seed=3), file)
        store = EmbeddedStore(folder / "home")
        parameters = Parameters(seed=3)
        pipeline.run([file], store, folder / "work", parameters, ConsoleReporter())
        command = [sys.executable, "-m", "cli.main", "explore", "--no-open", "--port=0"]
        with subprocess.Popen(
            [*command, f"--home={store.path}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            match = re.search(r"http://\S+", server.stdout.readline())
            assert match
            take(match[0])
            server.terminate()


def take(address: str) -> None:
    """Take the screenshots of the page at an address."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        request = pb.RecommendRequest(limit=20, max_per_artist=1)
        page.goto(f"{address}?q={encode_request(request)}")
        for count in range(1, SONGS + 1):
            page.locator(f"button[data-suggestion='{count}']").first.click()
            page.wait_for_function(f"document.querySelectorAll('.entry').length === {count}")
        page.wait_for_function("document.querySelector('.reason')?.innerText.includes('from')")
        page.evaluate("document.activeElement.blur()")
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        save(page, "explore")
        page.get_by_role("tab", name="Map").click()
        page.locator(".song-map[data-ready]").wait_for()
        page.wait_for_timeout(500)
        save(page, "map")
        browser.close()


def save(page: Page, name: str) -> None:
    """Save a screenshot of a page, reduced to `COLOURS` colours to keep the file small."""
    FOLDER.mkdir(exist_ok=True)
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
