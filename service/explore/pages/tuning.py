"""The options of a request: mode, variety, popularity, artists, and filters on extra fields."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nicegui import ui

from nextsong.v1 import recommender_pb2 as pb
from service.explore.explorer import MODE_NAMES, describe_value
from service.explore.pages.elements import Text, box, text_button
from service.explore.session import start_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from catalog.schema import Kind
    from service.explore.explorer import Explorer
    from service.explore.session import Session

MAX_PER_ARTIST = 5  # highest value of the slider
MAX_GAP = 5  # highest value of the slider
LIMITS = [10, 20, 50, 100]  # numbers of songs to choose from
POPULARITY_STEPS = 100
"""Number of steps of the slider for popularity, whose scale is logarithmic."""


class TuningPanel:
    """Controls for all fields of a request but its seeds.

    `most_playlists` is the number of playlists that contain the most popular song. `changed` is
    called after each change of the session.
    """

    def __init__(
        self,
        explorer: Explorer,
        session: Session,
        most_playlists: int,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._explorer = explorer
        self._session = session
        self._most = max(2, most_playlists)
        self._changed = changed
        self._build()

    @property
    def _request(self) -> pb.RecommendRequest:
        return self._session.request

    def _build(self) -> None:
        with box("div", "panel-head"):
            Text("Options", "panel-title", "h2")
            with box("div", "panel-actions"):
                text_button("Reset", self._reset, classes="small").mark("reset")
        self._content = box("div", "tuning-content")
        with self._content:
            self._build_controls()
        task = self._explorer.overview
        if self._explorer.manifest.payload and task.overview is None and not task.problem:
            self._timer = ui.timer(1.0, self._show_values)

    def _show_values(self) -> None:
        """Show the values of the extra fields once they are known. A timer calls this method."""
        task = self._explorer.overview
        if task.overview is not None:
            self.show()
        if task.overview is not None or task.problem:
            self._timer.cancel()

    def _build_controls(self) -> None:
        """Build the controls with the values of the request."""
        modes = {mode: MODE_NAMES[mode] for mode in [pb.MODE_UNSPECIFIED, *self._explorer.modes]}
        mode = self._request.mode if self._request.mode in modes else pb.MODE_UNSPECIFIED
        with _field("Mode"):
            ui.select(modes, value=mode, on_change=self._setter("mode")).props(
                'dense outlined options-dense aria-label="Mode"'
            ).mark("mode")
        with _field("Number of songs"):
            limits = sorted({*LIMITS, self._request.limit})
            ui.select(limits, value=self._request.limit, on_change=self._setter("limit")).props(
                'dense outlined options-dense aria-label="Number of songs"'
            )
        self._build_slider("Diversity", "diversity", 1.0, 0.05, lambda value: f"{value:.0%}")
        self._build_slider("Songs per artist", "max_per_artist", MAX_PER_ARTIST, 1, _any_number)
        self._build_slider(
            "Songs between two of an artist",
            "min_artist_gap",
            MAX_GAP,
            1,
            lambda value: f"{value:g}",
        )
        self._build_popularity()
        ui.switch(
            "Allow other versions",
            value=self._request.allow_versions,
            on_change=self._setter("allow_versions"),
        ).props("dense").classes("switch")
        self._build_artists("Only these artists", "include_artists")
        self._build_artists("Without these artists", "exclude_artists")
        for name, kind in sorted(self._explorer.manifest.payload.items()):
            self._build_condition(name, kind)

    def _setter(self, name: str) -> Callable[[Any], Awaitable[None]]:
        async def set_value(event: Any) -> None:
            if event.value is not None:
                setattr(self._request, name, event.value)
                await self._changed()

        return set_value

    def _build_slider(
        self, label: str, name: str, maximum: float, step: float, describe: Callable[[float], str]
    ) -> None:
        value = min(maximum, getattr(self._request, name))
        with _field(label):
            shown = Text(describe(value), "field-value")

            async def set_value(event: Any) -> None:
                shown.text = describe(event.value)
                setattr(self._request, name, event.value if step < 1 else int(event.value))
                await self._changed()

            slider = ui.slider(min=0, max=maximum, step=step, value=value, on_change=set_value)
            slider.props(f'dense aria-label="{label}"').mark(name)

    def _build_popularity(self) -> None:
        where = self._request.filter
        low = self._to_step(where.min_playlists or 1)
        high = self._to_step(where.max_playlists or self._most)
        with _field("Popularity"):
            shown = Text(self._describe_popularity(), "field-value")

            async def set_range(event: Any) -> None:
                low, high = event.value["min"], event.value["max"]
                where = self._request.filter
                where.min_playlists = self._to_playlists(low) if low > 0 else 0
                where.max_playlists = self._to_playlists(high) if high < POPULARITY_STEPS else 0
                if where.max_playlists:
                    where.min_playlists = min(where.min_playlists, where.max_playlists)
                shown.text = self._describe_popularity()
                await self._changed()

            slider = ui.range(
                min=0, max=POPULARITY_STEPS, value={"min": low, "max": high}, on_change=set_range
            )
            slider.props('dense aria-label="Popularity, in playlists"').mark("popularity")

    def _describe_popularity(self) -> str:
        where = self._request.filter
        if not where.min_playlists and not where.max_playlists:
            return "any"
        high = where.max_playlists or self._most
        return f"{max(1, where.min_playlists):,} to {high:,} playlists"

    def _to_playlists(self, step: float) -> int:
        return max(1, round(math.exp(step / POPULARITY_STEPS * math.log(self._most))))

    def _to_step(self, playlists: int) -> int:
        share = math.log(min(playlists, self._most)) / math.log(self._most)
        return round(share * POPULARITY_STEPS)

    def _build_artists(self, label: str, name: str) -> None:
        async def set_artists(event: Any) -> None:
            artists = getattr(self._request.filter, name)
            del artists[:]
            artists.extend(value.strip() for value in event.value or [] if value.strip())
            await self._changed()

        with _field(label):
            chips = ui.input_chips(
                value=list(getattr(self._request.filter, name)),
                on_change=set_artists,
                new_value_mode="add-unique",
            )
            chips.props(f'dense outlined hide-dropdown-icon aria-label="{label}"')
            chips.props('placeholder="Artist, then Enter"').mark(name)

    def _build_condition(self, name: str, kind: Kind) -> None:
        """Build the controls for an extra field."""
        condition = self._get_condition(name)
        with _field(name):
            if kind == "keyword":
                self._build_values(name, condition)
            elif kind == "text":
                text = ui.input(
                    value=condition.text, on_change=lambda event: self._set_text(name, event.value)
                )
                text.props("dense outlined debounce=200 placeholder=words").props["aria-label"] = (
                    f"{name}: words"
                )
                text.mark(f"field-{name}")
            else:
                with box("div", "bounds"):
                    for part in ("minimum", "maximum"):
                        self._build_bound(name, part, condition)

    def _build_values(self, name: str, condition: pb.Condition) -> None:
        overview = self._explorer.overview.overview
        chosen = [str(describe_value(value)) for value in condition.any_of]
        known = overview.fields[name].values if overview and name in overview.fields else []

        async def set_values(event: Any) -> None:
            values = [pb.Value(text=value) for value in event.value or [] if value]
            await self._set_condition(pb.Condition(field=name, any_of=values), is_empty=not values)

        select = ui.select(
            list(dict.fromkeys([*known, *chosen])),
            value=chosen,
            multiple=True,
            new_value_mode="add-unique",
            on_change=set_values,
        )
        select.props("dense outlined options-dense use-chips placeholder=any").mark(f"field-{name}")
        select.props["aria-label"] = f"{name}: any of"

    def _build_bound(self, name: str, part: str, condition: pb.Condition) -> None:
        overview = self._explorer.overview.overview
        known = (
            getattr(overview.fields[name], part) if overview and name in overview.fields else None
        )
        value = getattr(condition, part) if condition.HasField(part) else None

        async def set_bound(event: Any) -> None:
            changed = self._get_condition(name)
            if event.value is None:
                changed.ClearField(part)
            else:
                setattr(changed, part, event.value)
            is_empty = not (changed.HasField("minimum") or changed.HasField("maximum"))
            await self._set_condition(changed, is_empty=is_empty)

        number = ui.number(
            value=value,
            placeholder=f"{known:g}" if known is not None else part[:3],
            on_change=set_bound,
        )
        number.props("dense outlined debounce=200").mark(f"field-{name}-{part}")
        number.props["aria-label"] = f"{name}: {part}"

    def _get_condition(self, name: str) -> pb.Condition:
        """Return a copy of the condition on a field, or an empty one."""
        copy = pb.Condition(field=name)
        for condition in self._request.filter.conditions:
            if condition.field == name:
                copy.CopyFrom(condition)
        return copy

    async def _set_text(self, name: str, text: str | None) -> None:
        words = (text or "").strip()
        await self._set_condition(pb.Condition(field=name, text=words), is_empty=not words)

    async def _set_condition(self, condition: pb.Condition, *, is_empty: bool) -> None:
        """Replace the condition on a field, or remove it."""
        conditions = [
            kept for kept in self._request.filter.conditions if kept.field != condition.field
        ]
        conditions += [] if is_empty else [condition]
        copies = [pb.Condition.FromString(kept.SerializeToString()) for kept in conditions]
        del self._request.filter.conditions[:]
        self._request.filter.conditions.extend(copies)
        await self._changed()

    async def _reset(self) -> None:
        request = start_request()
        request.seeds.extend(self._request.seeds)
        self._session.request = request
        self.show()
        await self._changed()

    def show(self) -> None:
        """Show the options of the session's request."""
        self._content.clear()
        with self._content:
            self._build_controls()


def _field(label: str) -> Any:
    """Return an element with a label, for a control that is built inside it."""
    field = box("div", "field")
    with field:
        Text(label, "field-label")
    return field


def _any_number(value: float) -> str:
    """Return a number as text, or "any" for 0."""
    return f"{value:g}" if value else "any"
