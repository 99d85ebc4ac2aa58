"""Keep the results of checks for analysts: in staging until the batch is loaded or held, then in `softpro`.

Each check replaces the staged results of an earlier check of its run. Moving results deletes them from staging in the
same transaction, so every batch counts once.
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
    """The result of an expectation.

    Attributes:
        shown: the arguments of the expectation.
        records: the number of checked records.
        unexpected: the number of records that break the expectation.
    """

    expectation: str
    column: str | None
    severity: str
    level: str
    shown: Any
    records: int
    unexpected: int
    success: bool


def stage(connection: Connection, run: Run, results: Iterable[Result]) -> None:
    """Stage the results of a check of the run's batch, and replace those of an earlier check."""
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
    """Move the staged results of the run's batch to the kept results, and return the warnings, {expectation: records}.

    Call it in the transaction that loads or holds the batch.
    """
    found = connection.execute(KEEP_RESULTS, {**run.stream.parameters, "log_id": run.log_id}).fetchall()
    warnings: dict[str, int] = {}
    for row in found:
        name = suite.name(row["expectation"], row["column_name"])
        warnings[name] = warnings.get(name, 0) + row["unexpected"]
    return warnings


def purge(connection: Connection, days: int) -> int:
    """Delete the results older than the given number of days, and return their number."""
    return connection.execute(
        "delete from softpro.check_results where checked_at < now() - make_interval(days => %s)", [days]
    ).rowcount
