"""Encode a request in the address of a page, so that a playlist can be shared as a link."""

from __future__ import annotations

import base64
import binascii
import zlib

from google.protobuf.message import DecodeError

from catalog.errors import RequestError
from nextsong.v1 import recommender_pb2 as pb

MAX_REQUEST_BYTES = 1 << 20
"""Maximum size of a request in a link after decompression."""

MAX_LINK_LENGTH = 8_000
"""Maximum number of characters of an encoded request.

Browsers and proxies refuse longer addresses.
"""


def encode_request(request: pb.RecommendRequest) -> str:
    """Return the request as text for the address of a page."""
    packed = zlib.compress(request.SerializeToString(deterministic=True), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode_request(text: str) -> pb.RecommendRequest:
    """Return the request in `text`, which `encode_request` made for the URL of a page.

    Raises `RequestError` if the text is damaged.
    """
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        decompressor = zlib.decompressobj()
        content = decompressor.decompress(packed, MAX_REQUEST_BYTES)
        if not decompressor.eof:
            raise RequestError("link", "is incomplete or too long")
        return pb.RecommendRequest.FromString(content)
    except (ValueError, binascii.Error, zlib.error, DecodeError) as error:
        raise RequestError("link", "is damaged; copy it again") from error
