"""Access to the pages: tokens, host names, and origins of requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from service.explore.access import AccessControl
from service.explore.server import Address, choose_token

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await PlainTextResponse("page")(scope, receive, send)


def get(token: str | None, url: str, **headers: str) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(AccessControl(page, token))
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get(url, headers=headers)

    return asyncio.run(call())


def connect(token: str | None, **headers: str) -> dict[str, Any]:
    """Open a WebSocket with these headers. Return the first message from the server."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(AccessControl(page, token)(scope, receive, send))
    return sent[0]


def test_without_a_token_only_names_of_this_machine_are_answered() -> None:
    assert get(None, "http://127.0.0.1:8080/").text == "page"
    assert get(None, "http://localhost/").text == "page"
    assert get(None, "http://[::1]:80/").text == "page"
    assert get(None, "http://rebound.example/").status_code == 403


def test_a_token_moves_from_the_address_to_a_cookie_without_scripts() -> None:
    response = get("s3cret", "http://host.example/map?q=1&token=s3cret&view=map")
    assert response.status_code == 303
    assert response.headers["location"] == "/map?q=1&view=map"
    cookie = response.headers["set-cookie"]
    assert "nextsong_token=s3cret" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert get("s3cret", "http://host.example/", cookie="nextsong_token=s3cret").text == "page"


def test_the_redirect_stays_on_this_host() -> None:
    response = get("s3cret", "http://host.example//evil.example/?token=s3cret")
    assert response.headers["location"] == "/evil.example/"


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=s3cre"])
def test_without_the_token_nothing_is_answered(query: str) -> None:
    response = get("s3cret", f"http://127.0.0.1/{query}", cookie="nextsong_token=wrong")
    assert response.status_code == 403
    assert "token" in response.text


def test_a_websocket_needs_the_token_and_the_origin_of_the_page() -> None:
    assert connect(None, host="127.0.0.1:80", origin="http://127.0.0.1:80") == {
        "type": "websocket.accept"
    }
    assert connect(None, host="127.0.0.1:80", origin="http://evil.example")["code"] == 1008
    assert connect("s3cret", host="host.example")["code"] == 1008
    cookie = "theme=dark; nextsong_token=s3cret"
    assert connect("s3cret", host="host.example", cookie=cookie)["type"] == "websocket.accept"


def test_only_addresses_that_other_machines_reach_get_a_random_token() -> None:
    assert choose_token(Address("127.0.0.1", 8080, None)).token is None
    assert choose_token(Address("0.0.0.0", 8080, "mine")).token == "mine"
    first, second = (choose_token(Address("0.0.0.0", 8080, None)).token for _ in range(2))
    assert first
    assert len(first) >= 32
    assert first != second
