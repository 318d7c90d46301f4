"""Every exception that nextsong raises on purpose.

    NextsongError
    ├── InputError               what the user gave cannot be used
    │   ├── FileError            a file is missing, unreadable or not of a known kind
    │   │   └── EmptyFileError   a file holds no record
    │   ├── ColumnError          a file lacks a column that is needed
    │   ├── PlaylistError        the files hold no playlist that can be used
    │   ├── RejectsError         too many rows of the files cannot be used
    │   ├── RequestError         a field of a request is malformed or out of range
    │   ├── SettingsError        the configuration of the service cannot be used
    │   └── UnknownSongError     the catalog lacks the song that was asked for
    ├── ReleaseError
    │   ├── NoReleaseError       nothing has been published yet
    │   ├── CorruptReleaseError  a release is not what its manifest says
    │   └── MismatchError        a release and a work folder do not belong together
    ├── StorageError             a folder cannot be written, or the disk is full
    ├── BusyError                another process holds the folder or the port
    ├── EngineError              Qdrant failed
    ├── MissingLibraryError      a library that this needs cannot be loaded
    │   └── MissingExtraError    it is optional, and not installed
    ├── SupervisionError         serving processes cannot be started or watched
    ├── GateError                the new release is worse than the current one
    ├── NoHistoryError           the service keeps no listening history
    ├── NoKeyError               a call brings no key, or one that the service does not know
    ├── OverloadError            the service has as many calls under way as it takes
    └── UnavailableError         the service could not be reached
        └── TooLateError         it did not answer in time

The command line turns each into one line and exit code 1; the gRPC edge turns each into a status.
"""

from __future__ import annotations


class NextsongError(Exception):
    """The root: catching it catches all that nextsong raises on purpose.

    `kind(*error.args)` makes every one again, so that it can travel between processes.
    """


class InputError(NextsongError):
    """What the user gave cannot be used."""


class FileError(InputError):
    """A file is missing, unreadable or not of a known kind."""


class EmptyFileError(FileError):
    """A file holds no record. Among other files it is passed over."""


class ColumnError(InputError):
    """A file lacks a column that is needed."""


class PlaylistError(InputError):
    """The files hold no playlist that can be used."""


class RejectsError(InputError):
    """Too many rows of the files cannot be used."""


class RequestError(InputError):
    """A field of a request is malformed or out of range.

    `field` is the path of the field in the request, such as `seeds[2].song_id`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class SettingsError(InputError):
    """The configuration of the service cannot be used."""


class UnknownSongError(InputError):
    """The catalog lacks the song that was asked for."""


class ReleaseError(NextsongError):
    """A release cannot be used."""


class NoReleaseError(ReleaseError):
    """Nothing has been published yet."""


class CorruptReleaseError(ReleaseError):
    """A release is not what its manifest says: `problem`. The message adds what to do."""

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(f"{problem}: {advice}" if advice else problem)
        self.problem = problem


class MismatchError(ReleaseError):
    """A release and a work folder do not belong together."""


class StorageError(NextsongError):
    """A folder cannot be written, or the disk is full."""


class BusyError(NextsongError):
    """Another process holds the folder or the port."""


class EngineError(NextsongError):
    """Qdrant failed."""


class MissingLibraryError(NextsongError):
    """A library that is needed cannot be loaded."""


class MissingExtraError(MissingLibraryError):
    """An optional library is not installed: `what` needs it, and the extra `extra` brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)
        self.what = what
        self.extra = extra

    def __str__(self) -> str:
        return (
            f"{self.what} need libraries that are not installed: run `make install-dev`, "
            f"or `pip install -e '.[{self.extra}]'`, in a checkout"
        )


class SupervisionError(NextsongError):
    """Serving processes cannot be started or watched."""


class GateError(NextsongError):
    """The new release is worse than the current one, and was not published."""


class NoHistoryError(NextsongError):
    """The service keeps no listening history."""


class NoKeyError(NextsongError):
    """A call brings no key, or one that the service does not know."""


class OverloadError(NextsongError):
    """The service has as many calls under way as it takes; `wait_s` seconds later it may not."""

    def __init__(self, message: str, wait_s: float = 0.1) -> None:
        super().__init__(message, wait_s)
        self.message = message
        self.wait_s = wait_s

    def __str__(self) -> str:
        return self.message


class UnavailableError(NextsongError):
    """The service could not be reached."""


class TooLateError(UnavailableError):
    """The service did not answer in time."""
