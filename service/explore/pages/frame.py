"""The frame of all pages: style, title, navigation, colours."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import context, ui

from service.explore.pages.elements import Text, box, icon_button

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.explore.explorer import Explorer

PAGES = {"/": "Explore", "/release": "Release", "/data": "Data", "/runs": "Evaluations"}
"""The title of each page, by path."""

THEME_COOKIE = "nextsong_theme"
_THEMES = {"light": False, "dark": True}

_STATIC = Path(__file__).parents[1] / "static"
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect "
    "width='32' height='32' rx='8' fill='%232457d6'/%3E%3Cpath d='M11 22V9l13 7z' fill='%23fff'/"
    "%3E%3C/svg%3E"
)


_BOOT = """<div class="boot" aria-hidden="true"><div class="top"><span class="brand">next<span
class="brand-song">song</span></span></div><div class="card"></div></div>"""
"""HTML that is shown while the browser loads the scripts that build the page."""


def read_static(name: str) -> str:
    """Return the text of a file in the folder of the style sheet and scripts."""
    return (_STATIC / name).read_text(encoding="utf-8")


@contextmanager
def page_frame(explorer: Explorer, path: str, classes: str = "") -> Iterator[None]:
    """Build the header of the page at `path`. The code inside this block builds the content."""
    request = context.client.request
    theme = request.cookies.get(THEME_COOKIE, "") if request else ""
    dark = ui.dark_mode(_THEMES.get(theme))
    ui.add_head_html(f"<style>{read_static('style.css')}</style>")
    ui.add_head_html(f"<script>{read_static('page.js')}</script>")
    ui.add_body_html(_BOOT)
    ui.page_title(f"{PAGES[path]} · nextsong")
    context.client.content.classes("app")
    with box("a", "skip-link", href="#main"):
        Text("Skip to the content")
    with box("header", "top"):
        _build_header(explorer, path, dark)
    with box("main", f"page {classes}", id="main"):
        yield


def _build_header(explorer: Explorer, path: str, dark: ui.dark_mode) -> None:
    with box("a", "brand", href="/", aria_label="nextsong: explore"):
        Text("next", "brand-next")
        Text("song", "brand-song")
    with box("nav", "nav", aria_label="Pages"):
        for target, title in PAGES.items():
            with box("a", "nav-link", href=target) as link:
                Text(title)
            if target == path:
                link.props["aria-current"] = "page"
    with box("div", "top-end"):
        manifest = explorer.manifest
        Text(f"{manifest.counts.songs:,} songs", "release-size")
        Text(manifest.release, "release-id mono")
        icon_button("help_outline", "Keyboard shortcuts (?)", classes="only-wide").on(
            "click", js_handler="() => nextsong.showHelp()"
        )

        def change_theme() -> None:
            # If the page follows the theme of the system, the first click selects dark.
            name = "light" if dark.value else "dark"
            dark.value = _THEMES[name]
            ui.run_javascript(f"nextsong.keepTheme('{name}')")

        icon_button("contrast", "Dark or light", change_theme).mark("theme")


def page_icon() -> str:
    """Return the icon of the pages as a data URL."""
    return _ICON
