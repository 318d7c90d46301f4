"""Access control of the pages: by a token, or by restriction to this machine."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "nextsong_token"
PARAMETER = "token"
LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])


class AccessControl:
    """An ASGI middleware that passes only permitted requests and WebSockets on to `app`.

    - If `token` is set, a request must have the token in the query parameter `token`, which is then
      moved to a cookie, or in that cookie.
    - If `token` is None, the host in the address must be one of `LOOPBACK`. Otherwise, another web
      site could reach the pages through a host name that resolves to the loopback address.

    If a request has the header `Origin`, it must be the address of the pages themselves.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = self._find_problem(scope, headers)
        if problem and scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": problem})
        elif problem:
            await PlainTextResponse(problem, status_code=403)(scope, receive, send)
        elif self._token and scope["type"] == "http" and self._has_parameter(scope):
            await self._redirect(scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _find_problem(self, scope: Scope, headers: Headers) -> str:
        """Return the reason to refuse a request, or "" if it is permitted."""
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc != host:
            return "This page can be used only from its own address."
        if self._token is None:
            name = urlsplit(f"//{host}").hostname
            return "" if name in LOOPBACK else "Open this page at localhost or 127.0.0.1."
        if self._has_parameter(scope) or self._is_token(_read_cookie(headers)):
            return ""
        return "Open the address with the token that `nextsong explore` has printed."

    def _has_parameter(self, scope: Scope) -> bool:
        values = parse_qs(scope["query_string"].decode("latin-1")).get(PARAMETER, [""])
        return self._is_token(values[0])

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self._token or "").encode())

    def _redirect(self, scope: Scope) -> RedirectResponse:
        """Return a response that moves the token from the address to a cookie."""
        parts = [
            part
            for part in scope["query_string"].decode("latin-1").split("&")
            if part.partition("=")[0] != PARAMETER
        ]
        # With two slashes at its beginning, the path would name another host.
        path = "/" + scope["path"].lstrip("/")
        response = RedirectResponse(f"{path}?{'&'.join(parts)}" if parts else path, 303)
        response.set_cookie(COOKIE, self._token or "", httponly=True, samesite="strict")
        return response


def _read_cookie(headers: Headers) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""
