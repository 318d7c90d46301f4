"""The keys that callers must bring, in a file that is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING

from catalog.errors import NoKeyError, SettingsError
from service.operate.logs import log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHORTEST_KEY = 16
LOOK_EVERY_S = 1.0


class Keys:
    """The keys in a file: a line each, `KEY` or `NAME KEY`; blank and `#` lines count nothing.

    Only digests are kept. A change of the file counts within `LOOK_EVERY_S` seconds; a file that
    cannot be used any more leaves the keys as they were. Raises `SettingsError` at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._stamp_of_file()
        self._names = _read(path)
        self._looked = time.monotonic()
        self._complaint = ""

    def caller(self, metadata: Mapping[str, str]) -> str:
        """The name of the key that a call brings, as `authorization: Bearer` or `x-api-key`.

        Raises `NoKeyError`.
        """
        self._look()
        given = metadata.get("x-api-key", "")
        if not given:
            scheme, _, token = metadata.get("authorization", "").partition(" ")
            given = token.strip() if scheme.lower() == "bearer" else ""
        if not given:
            raise NoKeyError(
                "a key is needed: send 'authorization: Bearer KEY' or 'x-api-key: KEY'"
            )
        digest = _digest(given)
        name = None
        for known, its_name in self._names.items():  # all of them: the time tells nothing
            if hmac.compare_digest(known, digest):
                name = its_name
        if name is None:
            raise NoKeyError("the key is not known")
        return name

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        try:
            stamp = self._stamp_of_file()
            if stamp != self._stamp:
                self._names, self._stamp = _read(self._path), stamp
                self._complaint = ""
                log.info("keys read", keys=len(self._names))
        except SettingsError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("the keys stay as they were", reason=self._complaint)

    def _stamp_of_file(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError as error:
            raise _unreadable(self._path, error) from error
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> dict[bytes, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    names: dict[bytes, str] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = words[-1]
        if len(words) > 2 or len(key) < SHORTEST_KEY or not key.isascii():
            raise SettingsError(
                f"{path}, line {number}: not 'KEY' or 'NAME KEY', the key of {SHORTEST_KEY} or "
                f"more ASCII characters"
            )
        names[_digest(key)] = words[0] if len(words) == 2 else f"line {number}"
    if not names:
        raise SettingsError(f"{path} holds no key")
    return names


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _unreadable(path: Path, error: Exception) -> SettingsError:
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return SettingsError(f"the keys in {path} cannot be read: {reason}")
