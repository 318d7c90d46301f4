"""Read catalog files: lists of songs without playlists, in the formats of playlist files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from catalog.errors import ColumnError, EmptyFileError
from ingest.sources.columns.roles import ALL_ROLES, SONG_ROLES, THIS_FILE
from ingest.sources.detect import find_payload_column, open_file
from ingest.sources.options import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.sources.files.find import SourceFiles
    from ingest.sources.values.payload import PayloadColumn, PayloadTally


@dataclass(frozen=True)
class CatalogFiles:
    """Catalog files, and the options for reading them.

    `columns` maps roles to column names. Roles that are not in `SONG_ROLES` have no column.
    """

    inputs: SourceFiles
    columns: Mapping[str, str]
    reading: ReadOptions

    def with_kinds(self, payload: Mapping[str, PayloadTally]) -> CatalogFiles:
        """Return the files, with options to read each payload field as the kind in `payload`.

        `payload` contains the fields of the playlist files, so that a field has the same kind in
        both.
        """
        columns = tuple(
            replace(column, kind=payload[column.field].kind) if column.field in payload else column
            for column in self.reading.payload
        )
        return replace(self, reading=replace(self.reading, payload=columns))


def divide_payload(
    playlists: SourceFiles,
    catalog: SourceFiles,
    columns: Mapping[str, str],
    catalog_columns: Mapping[str, str],
    options: ReadOptions,
) -> tuple[ReadOptions, CatalogFiles]:
    """Decide from which files each payload column is read.

    Returns the options for the playlist files, and the catalog files with their options.

    `columns` and `catalog_columns` map roles to given column names. Each payload column must exist
    in the playlist files, in the catalog files, or in both. Raises `ColumnError` if it exists in
    none of them, and the errors of `open_file`.
    """
    roles = dict.fromkeys(ALL_ROLES, "") | {"playlist_id": THIS_FILE}
    given = {role: name for role, name in roles.items() if role not in SONG_ROLES}
    given |= catalog_columns
    reading = ReadOptions(column_flag="--catalog-column")
    in_playlists = _find_payload(playlists, columns, options, options)
    in_catalog = _find_payload(catalog, given, reading, options)
    for column in options.payload:
        if column not in in_playlists | in_catalog:
            raise ColumnError(
                f"there is no column '{column.column}' (--payload {column.field}) in the playlist "
                f"files or in the catalog files"
            )
    return (
        replace(options, payload=tuple(c for c in options.payload if c in in_playlists)),
        CatalogFiles(
            catalog,
            given,
            replace(reading, payload=tuple(c for c in options.payload if c in in_catalog)),
        ),
    )


def _find_payload(
    files: SourceFiles, columns: Mapping[str, str], reading: ReadOptions, options: ReadOptions
) -> set[PayloadColumn]:
    """Return the payload columns in `options` that at least one of the files has."""
    if not options.payload:
        return set()
    found: set[PayloadColumn] = set()
    for file in files.files:
        try:
            names = open_file(file, columns, replace(reading, payload=())).content.names.all
        except EmptyFileError:
            continue
        found |= {c for c in options.payload if find_payload_column(names, c.column)}
    return found
