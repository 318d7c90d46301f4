"""The description of the API: an OpenAPI document and a page that shows it."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

if TYPE_CHECKING:
    from starlette.requests import Request

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nextsong API</title>
<link rel="stylesheet" href="assets/swagger-ui.css">
<link rel="icon" href="assets/favicon-32x32.png">
</head>
<body>
<div id="reference"></div>
<script src="assets/swagger-ui-bundle.js"></script>
<script src="start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({url: "../openapi.json", dom_id: "#reference", validatorUrl: null});
"""
SECURITY_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


def reference_routes() -> list[BaseRoute]:
    """Return the routes of the OpenAPI document and of the page that shows it."""
    document = resources.files("nextsong.v1").joinpath("recommender.openapi.json").read_bytes()

    async def show_document(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def show_page(_request: Request) -> Response:
        return HTMLResponse(PAGE, headers={"content-security-policy": SECURITY_POLICY})

    async def show_start(_request: Request) -> Response:
        return Response(START, media_type="text/javascript")

    async def redirect(_request: Request) -> Response:
        return RedirectResponse("docs/")

    return [
        Route("/", redirect),
        Route("/openapi.json", show_document),
        Route("/docs/", show_page),
        Route("/docs/start.js", show_start),
        Mount("/docs/assets", StaticFiles(directory=swagger_ui_path)),
    ]
