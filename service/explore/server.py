"""The web server of `nextsong explore`."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import socket
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from nicegui import app as nicegui_app
from nicegui import ui

from catalog.errors import BusyError, NoReleaseError, SettingsError
from service.explore.access import LOOPBACK, PARAMETER, AccessControl
from service.explore.pages.data import REPORT_PATH, build_data_page, find_report
from service.explore.pages.explore import build_explore_page
from service.explore.pages.frame import page_icon
from service.explore.pages.map_view import NAMES_PATH, POINTS_PATH
from service.explore.pages.release import build_release_page
from service.explore.pages.runs import build_runs_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from service.explore.explorer import Explorer
    from service.explore.overview import Overview

KEEP_S = 31_536_000
"""Seconds for which a browser keeps the map: a year, because each release has its own address."""


@dataclass(frozen=True, slots=True)
class Address:
    """Host, port and token of the pages. Port 0 selects a free port. Token None means no token."""

    host: str
    port: int
    token: str | None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.host in LOOPBACK


def choose_token(address: Address) -> Address:
    """Return the address. If other machines can reach it and it has no token, add a random one."""
    if address.token or address.is_loopback:
        return address
    return Address(address.host, address.port, secrets.token_urlsafe(24))


def register_pages(explorer: Explorer) -> None:
    """Register the pages, and the data that they load, with NiceGUI."""

    @ui.page("/")
    async def explore(q: str = "", view: str = "next") -> None:
        await build_explore_page(explorer, q, view)

    @ui.page("/release")
    def release() -> None:
        build_release_page(explorer)

    @ui.page("/data")
    def data() -> None:
        build_data_page(explorer)

    @ui.page("/runs")
    def runs() -> None:
        build_runs_page(explorer)

    @nicegui_app.get(POINTS_PATH)
    def points() -> Response:
        content = _require_overview(explorer).positions.astype("<f4").tobytes()
        return _keep(Response(content, media_type="application/octet-stream"))

    @nicegui_app.get(NAMES_PATH)
    def names() -> Response:
        content = json.dumps(_require_overview(explorer).names)
        return _keep(Response(content, media_type="application/json"))

    @nicegui_app.get(REPORT_PATH + "/{name}")
    def report(name: str) -> Response:
        folder = find_report(explorer.home)
        # `name` has no slash, so it can name only a file of this folder.
        if folder is None or name.startswith(".") or not (folder / name).is_file():
            return Response(status_code=404)
        return FileResponse(folder / name)


def build_app(explorer: Explorer, token: str | None) -> FastAPI:
    """Return the web application of the pages."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(AccessControl, token=token)
    register_pages(explorer)
    ui.run_with(
        app,
        title="nextsong",
        favicon=page_icon(),
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
    )
    return app


def run(explorer: Explorer, address: Address, ready: Callable[[str], None]) -> None:
    """Serve the pages until the process is interrupted or terminated, then close the explorer.

    `ready` is called with the address to open. Raises `BusyError` if the port is in use, and
    `SettingsError` if the host cannot be used.
    """
    address = choose_token(address)
    with closing(explorer), _listen(address) as listener:
        app = build_app(explorer, address.token)
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on")
        server = _Server(config, lambda: ready(_describe(address, listener)))
        explorer.overview.start()
        signal.signal(signal.SIGTERM, _exit)
        with suppress(KeyboardInterrupt):
            asyncio.run(server.serve(sockets=[listener]))


def _exit(_signal: int, _frame: FrameType | None) -> None:
    # Uvicorn sends the signal again after it has stopped. Exit with code 0 instead of an error.
    raise SystemExit(0)


class _Server(uvicorn.Server):
    """A server that calls `ready` once it accepts connections."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server, then call `ready`."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
    except socket.gaierror as error:
        listener.close()
        raise SettingsError(f"{address.host} is not an address of this machine") from error
    except OSError as error:
        listener.close()
        raise BusyError(
            f"port {address.port} of {address.host} cannot be used: {error.strerror}; choose "
            f"another with --port"
        ) from error
    return listener


def _describe(address: Address, listener: socket.socket) -> str:
    host = address.host
    if host in {"0.0.0.0", "::"}:  # noqa: S104 -- compared, not bound
        host = socket.gethostname()
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    query = f"?{PARAMETER}={address.token}" if address.token else ""
    return f"http://{shown}:{port}/{query}"


def _require_overview(explorer: Explorer) -> Overview:
    if explorer.overview.overview is None:
        raise NoReleaseError("the map is not finished yet")
    return explorer.overview.overview


def _keep(response: Response) -> Response:
    response.headers["Cache-Control"] = f"private, max-age={KEEP_S}, immutable"
    return response
