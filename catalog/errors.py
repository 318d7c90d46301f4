"""Every exception that nextsong raises on purpose.

    NextsongError
    ├── InputError               what the user gave cannot be used
    │   ├── FileError            a file is missing, empty, unreadable or not of a known kind
    │   ├── ColumnError          a file lacks a column that is needed
    │   ├── PlaylistError        the files hold no playlist that can be used
    │   ├── RequestError         a field of a request is malformed or out of range
    │   └── UnknownSongError     the catalog lacks the song that was asked for
    ├── ReleaseError
    │   ├── NoReleaseError       nothing has been published yet
    │   ├── CorruptReleaseError  a release is not what its manifest says
    │   └── MismatchError        a release and a work folder do not belong together
    ├── StorageError             a folder cannot be written, or the disk is full
    ├── BusyError                another process holds the folder or the port
    ├── EngineError              Qdrant failed
    └── UnavailableError         the service could not be reached, or did not answer in time

The command line turns each into one line and exit code 1; the gRPC edge turns each into a status.
"""

from __future__ import annotations


class NextsongError(Exception):
    """The root: catching it catches all that nextsong raises on purpose."""


class InputError(NextsongError):
    """What the user gave cannot be used."""


class FileError(InputError):
    """A file is missing, empty, unreadable or not of a known kind."""


class ColumnError(InputError):
    """A file lacks a column that is needed."""


class PlaylistError(InputError):
    """The files hold no playlist that can be used."""


class RequestError(InputError):
    """A field of a request is malformed or out of range.

    `field` is the path of the field in the request, such as `seeds[2].song_id`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class UnknownSongError(InputError):
    """The catalog lacks the song that was asked for."""


class ReleaseError(NextsongError):
    """A release cannot be used."""


class NoReleaseError(ReleaseError):
    """Nothing has been published yet."""


class CorruptReleaseError(ReleaseError):
    """A release is not what its manifest says."""


class MismatchError(ReleaseError):
    """A release and a work folder do not belong together."""


class StorageError(NextsongError):
    """A folder cannot be written, or the disk is full."""


class BusyError(NextsongError):
    """Another process holds the folder or the port."""


class EngineError(NextsongError):
    """Qdrant failed."""


class UnavailableError(NextsongError):
    """The service could not be reached, or did not answer in time."""
