"""Sessions: the plays of a listener, cut at each long pause, and used as playlists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.sql import literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

# Smallest number that is read as a time since 1970 in each unit. Smaller numbers are seconds. These
# limits distinguish the units for all times between the years 1973 and 5000.
_UNITS = {"milliseconds": 1e11, "microseconds": 1e14, "nanoseconds": 1e17}

_FILES = """
CREATE TEMP TABLE session_files AS
SELECT file, base, usual, {unit} AS unit
FROM files JOIN (
    SELECT (row_key >> 40) << 40 AS base, approx_quantile(abs(position), 0.5) AS usual
    FROM numbered WHERE position IS NOT NULL GROUP BY 1
) USING (base)
WHERE file IN ({files})
"""

# The id of a session consists of the listener and the time of the first play, in seconds.
_SESSIONS = """
CREATE TEMP TABLE sessions AS
WITH times AS (
    SELECT row_key, list, owner, position * unit AS moment
    FROM numbered JOIN lists USING (list) JOIN session_files ON (row_key >> 40) << 40 = base
    WHERE position IS NOT NULL AND owner <> ''
), plays AS (
    SELECT row_key, list, owner, moment,
           coalesce(moment - lag(moment) OVER listener > {gap}, true) AS starts
    FROM times WINDOW listener AS (PARTITION BY owner ORDER BY moment, row_key)
)
SELECT row_key, list, owner || ' ' || max(moment) FILTER (starts) OVER (
           PARTITION BY owner ORDER BY moment, row_key ROWS UNBOUNDED PRECEDING
       )::BIGINT AS session, moment
FROM plays;
CREATE TEMP TABLE session_lists AS
SELECT (row_number() OVER () + (SELECT max(list) FROM lists))::INTEGER AS new_list, *
FROM (SELECT DISTINCT list, session FROM sessions);
INSERT INTO lists
SELECT new_list, given_id, raw_name, raw_owner, name, owner, session
FROM session_lists JOIN lists USING (list);
CREATE OR REPLACE TEMP TABLE numbered AS
SELECT numbered.* REPLACE (coalesce(new_list, numbered.list) AS list,
                           coalesce(moment, position) AS position)
FROM numbered LEFT JOIN (
    SELECT row_key, new_list, moment FROM sessions JOIN session_lists USING (list, session)
) USING (row_key)
"""


def cut_sessions(
    sql: duckdb.DuckDBPyConnection, files: Sequence[str], gap: float
) -> dict[str, list[str]]:
    """Cut the rows of `files` into sessions, by changing the tables of `ingest.prepare.playlists`.

    Each session gets a new row in the SQL table `lists`, and its rows in the table `numbered` refer
    to the session. Their positions become times in seconds. A pause of more than `gap` seconds ends
    a session. Times in the files may be in seconds, milliseconds, microseconds or nanoseconds.
    Returns, for each unit except seconds, the names of the files that use it.
    """
    if not files:
        return {}
    unit = "1.0"
    for power, least in enumerate(_UNITS.values(), start=1):
        unit = f"CASE WHEN usual >= {least} THEN 1e-{3 * power} ELSE {unit} END"
    listed = ", ".join(literal(file) for file in files)
    sql.execute(_FILES.format(unit=unit, files=listed))
    sql.execute(_SESSIONS.format(gap=gap))
    times = sql.sql("SELECT file, usual FROM session_files ORDER BY file").fetchall()
    files_by_unit: dict[str, list[str]] = {}
    for file, usual in times:
        name = next((name for name, least in reversed(_UNITS.items()) if usual >= least), "")
        if name:
            files_by_unit.setdefault(name, []).append(file)
    return files_by_unit
