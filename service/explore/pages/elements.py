"""Small elements of the pages: text in any tag, buttons with icons, links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

if TYPE_CHECKING:
    from collections.abc import Callable

    from nicegui.element import Element


class Text(TextElement):
    """Text in an HTML element with the tag `tag`. The text is shown as it is, never as markup."""

    def __init__(self, text: str, classes: str = "", tag: str = "span") -> None:
        super().__init__(tag=tag, text=text)
        self.classes(classes)


def box(tag: str = "div", classes: str = "", **attributes: str) -> Element:
    """Return an HTML element with CSS classes and attributes, such as `aria_label="Close"`."""
    element = ui.element(tag).classes(classes)
    for name, value in attributes.items():
        element.props[name.replace("_", "-")] = value
    return element


def icon_button(
    icon: str, label: str, on_click: Callable[..., Any] | None = None, classes: str = ""
) -> Element:
    """Return a button with an icon; `label` is its accessible name and its tooltip."""
    button = box("button", f"icon-button {classes}", type="button", title=label, aria_label=label)
    with button:
        ui.icon(icon).props("aria-hidden=true")
    if on_click:
        button.on("click", on_click, args=[])
    return button


def text_button(
    text: str, on_click: Callable[..., Any] | None = None, *, icon: str = "", classes: str = ""
) -> Element:
    """Return a button with a text, and an icon before it if `icon` is given."""
    button = box("button", f"text-button {classes}", type="button", aria_label=text)
    with button:
        if icon:
            ui.icon(icon).props("aria-hidden=true")
        Text(text)
    if on_click:
        button.on("click", on_click, args=[])
    return button


def rename(button: Element, label: str) -> None:
    """Change the accessible name and the tooltip of a button."""
    if button.props.get("aria-label") != label:
        button.props["aria-label"] = label
        button.props["title"] = label
        button.update()


def set_class(element: Element, name: str, *, on: bool) -> None:
    """Add a CSS class to an element if `on`, else remove the class."""
    element.classes(add=name if on else "", remove="" if on else name)


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 playlist` or `2,000 playlists`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
