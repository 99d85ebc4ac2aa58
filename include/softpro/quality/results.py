"""What the checks found, kept for analysts: in staging until the batch is loaded, or held, then in softpro.

Each check replaces what an earlier one of its run staged, and whoever moves that takes it out of staging in the same
transaction: so every batch is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.quality import suite

KEEP_RESULTS = """
with staged as (
    delete from staging.check_results
    where log_id = %(log_id)s
    returning *
),
kept as (
    insert into softpro.check_results as r
        (organization_id, integration_id, entity_type, log_id, expectation, column_name, severity, level, kwargs,
         records, unexpected, success)
    select %(organization_id)s, %(integration_id)s, %(entity_type)s, log_id, expectation, column_name, severity, level,
           kwargs, records, unexpected, success
    from staged
    on conflict (log_id, expectation, column_name, severity, level, md5(kwargs::text)) do update
    set records = r.records + excluded.records, unexpected = r.unexpected + excluded.unexpected,
        success = r.success and excluded.success, checked_at = excluded.checked_at
)
select expectation, column_name, unexpected
from staged
where severity = 'warning' and not success
"""


@dataclass(frozen=True)
class Result:
    """How an expectation fared: of `records` that were judged, so many are `unexpected`. `shown`: its arguments."""

    expectation: str
    column: str | None
    severity: str
    level: str
    shown: Any
    records: int
    unexpected: int
    success: bool


def stage(connection: Connection, run: Run, results: Iterable[Result]) -> None:
    """Notes what a check of the run's batch found, in place of what an earlier one did."""
    connection.execute("delete from staging.check_results where log_id = %s", [run.log_id])
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into staging.check_results
                (log_id, organization_id, expectation, column_name, severity, level, kwargs, records, unexpected,
                 success)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            [
                (
                    run.log_id,
                    run.organization_id,
                    result.expectation,
                    result.column,
                    result.severity,
                    result.level,
                    Jsonb(result.shown),
                    result.records,
                    result.unexpected,
                    result.success,
                )
                for result in results
            ],
        )


def keep(connection: Connection, run: Run) -> dict[str, int]:
    """Adds what the check of the run's batch found to the results, in the transaction that loads or holds the batch.

    Returns the warnings, {expectation: records}, for the log.
    """
    found = connection.execute(KEEP_RESULTS, {**run.stream.parameters, "log_id": run.log_id}).fetchall()
    warnings: dict[str, int] = {}
    for row in found:
        name = suite.name(row["expectation"], row["column_name"])
        warnings[name] = warnings.get(name, 0) + row["unexpected"]
    return warnings


def purge(connection: Connection, days: int) -> int:
    """Deletes the results that are older than so many days. Returns how many."""
    return connection.execute(
        "delete from softpro.check_results where checked_at < now() - make_interval(days => %s)", [days]
    ).rowcount
