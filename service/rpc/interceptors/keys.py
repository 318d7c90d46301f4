"""The keys that callers must send, in a file that is reloaded when it changes."""

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

MIN_KEY = 16  # minimum number of characters of a key
RELOAD_INTERVAL_S = 1.0  # seconds between checks for changes to the key file


class Keys:
    """The keys in a file with one `KEY` or `NAME KEY` per line; blank and `#` lines are skipped.

    Only hashes of the keys are kept in memory. The file is checked for changes when a call arrives.
    If a changed file cannot be used, the previous keys stay valid. The constructor raises
    `SettingsError` if the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._read_stamp()
        self._names = _read(path)
        self._last_check = time.monotonic()
        self._last_error = ""

    def find_caller(self, metadata: Mapping[str, str]) -> str:
        """Return the name of the key in the `authorization` (bearer) or `x-api-key` metadata.

        A key without a name is named after its line, such as `line 3`. Raises `NoKeyError` if there
        is no key, or an unknown one.
        """
        self._reload_if_changed()
        key = metadata.get("x-api-key", "")
        if not key:
            scheme, _, token = metadata.get("authorization", "").partition(" ")
            key = token.strip() if scheme.lower() == "bearer" else ""
        if not key:
            raise NoKeyError(
                "a key is required: send 'authorization: Bearer KEY' or 'x-api-key: KEY'"
            )
        digest = _hash_key(key)
        name = None
        for known_digest, known_name in self._names.items():
            # Compare with every key, so that the time does not reveal which key matches.
            if hmac.compare_digest(known_digest, digest):
                name = known_name
        if name is None:
            raise NoKeyError("the key is unknown")
        return name

    def _reload_if_changed(self) -> None:
        now = time.monotonic()
        if now - self._last_check < RELOAD_INTERVAL_S:
            return
        self._last_check = now
        try:
            stamp = self._read_stamp()
            if stamp != self._stamp:
                self._names, self._stamp = _read(self._path), stamp
                self._last_error = ""
                log.info("keys read", keys=len(self._names))
        except SettingsError as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                log.error(
                    "changed keys cannot be used: the old ones stay valid", reason=self._last_error
                )

    def _read_stamp(self) -> tuple[int, int, int]:
        """Return the modification time, size and inode of the file, which show if it changed."""
        try:
            stat = self._path.stat()
        except OSError as error:
            raise _build_error(self._path, error) from error
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> dict[bytes, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _build_error(path, error) from error
    names: dict[bytes, str] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = words[-1]
        if len(words) > 2 or len(key) < MIN_KEY or not key.isascii():
            raise SettingsError(
                f"{path}, line {number}: must be 'KEY' or 'NAME KEY', with a key of at least "
                f"{MIN_KEY} ASCII characters"
            )
        names[_hash_key(key)] = words[0] if len(words) == 2 else f"line {number}"
    if not names:
        raise SettingsError(f"{path} contains no key")
    return names


def _hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _build_error(path: Path, error: Exception) -> SettingsError:
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return SettingsError(f"the keys in {path} cannot be read: {reason}")
