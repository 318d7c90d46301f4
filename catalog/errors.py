"""All exceptions that nextsong raises on purpose.

    NextsongError
    ├── InputError               the input of the user cannot be used
    │   ├── FileError            a file is missing, unreadable or of an unknown format
    │   │   └── EmptyFileError   a file has no records
    │   ├── ColumnError          a file lacks a required column
    │   ├── PlaylistError        the input files contain no usable playlist
    │   ├── RejectsError         too many rows of the input files cannot be used
    │   ├── RequestError         a field of a request is malformed or out of range
    │   ├── SettingsError        the configuration of the service cannot be used
    │   └── UnknownSongError     a requested song is not in the catalog
    ├── ReleaseError
    │   ├── NoReleaseError       the release does not exist, or there is no release at all
    │   ├── CorruptReleaseError  the data of a release does not match its manifest
    │   └── MismatchError        a release cannot be evaluated as requested
    ├── StorageError             a folder cannot be written, or the disk is full
    ├── BusyError                another process uses the folder, the store or the port
    ├── EngineError              Qdrant failed
    ├── MissingLibraryError      a required library cannot be loaded
    │   └── MissingExtraError    an optional library is not installed
    ├── SupervisionError         serving processes cannot be started or supervised
    ├── GateError                a new release did not pass the check before publication
    ├── NoHistoryError           the service is not configured to keep a listening history
    ├── NoKeyError               a call has no API key, or an unknown key
    ├── OverloadError            the service has reached its limit of concurrent calls
    └── UnavailableError         a server could not be reached
        └── TooLateError         a server did not answer in time

The command line reports an exception as one line with exit code 1, and the gRPC service reports it
as a status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalog.model import SimilarName


class NextsongError(Exception):
    """The base class of all exceptions that nextsong raises on purpose.

    `type(error)(*error.args)` must create an equal error, because pickle does this when processes
    send errors to each other.
    """


class InputError(NextsongError):
    """The input from the user cannot be used."""


class FileError(InputError):
    """A file is missing, unreadable or of an unknown format."""


class EmptyFileError(FileError):
    """A file has no records. If there are other files, the empty file is skipped."""


class ColumnError(InputError):
    """A file lacks a required column."""


class PlaylistError(InputError):
    """The input files contain no usable playlist."""


class RejectsError(InputError):
    """Too many rows of the input files cannot be used."""


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
    """A requested song is not in the catalog.

    `suggestions` contains songs with similar names, the most similar first.
    """

    def __init__(self, message: str, suggestions: tuple[SimilarName, ...] = ()) -> None:
        super().__init__(message, suggestions)
        self.message = message
        self.suggestions = suggestions

    def __str__(self) -> str:
        return self.message


class ReleaseError(NextsongError):
    """A release cannot be used."""


class NoReleaseError(ReleaseError):
    """The release does not exist, or there is no release at all."""


class CorruptReleaseError(ReleaseError):
    """The data of a release does not match its manifest.

    The message consists of `problem` and `advice`.
    """

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(f"{problem}: {advice}" if advice else problem)
        self.problem = problem


class MismatchError(ReleaseError):
    """A release cannot be evaluated as requested.

    For example, the release was not made from the playlists in the work folder.
    """


class StorageError(NextsongError):
    """A folder cannot be written, or the disk is full."""


class BusyError(NextsongError):
    """Another process uses the folder, the store or the port."""


class EngineError(NextsongError):
    """Qdrant failed."""


class MissingLibraryError(NextsongError):
    """A required library cannot be loaded."""


class MissingExtraError(MissingLibraryError):
    """An optional library is not installed.

    - `what`: a plural that names the features that need the library, for the message.
    - `extra`: the name of the optional dependency group of nextsong that installs the library.
    """

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
    """Serving processes cannot be started or supervised."""


class GateError(NextsongError):
    """A new release did not pass the check before publication, so it was not published.

    For example, its hit rate is lower than that of the current release.
    """


class NoHistoryError(NextsongError):
    """The service is not configured to keep a listening history."""


class NoKeyError(NextsongError):
    """A call has no API key, or an unknown key."""


class OverloadError(NextsongError):
    """The service has reached its limit of concurrent calls; retry after `wait_s` seconds."""

    def __init__(self, message: str, wait_s: float = 0.1) -> None:
        super().__init__(message, wait_s)
        self.message = message
        self.wait_s = wait_s

    def __str__(self) -> str:
        return self.message


class UnavailableError(NextsongError):
    """A server could not be reached."""


class TooLateError(UnavailableError):
    """A server did not answer in time."""
