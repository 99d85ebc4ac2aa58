"""Read what a database holds after a sync: what to compare, and leftovers that must not exist."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from softpro.db import integrations
from softpro.db.database import Database
from softpro.entities import EntityType

from .databases import one, rows, tables

# Generated ids and times: two databases with the same content differ in nothing else.
OURS = ["id", "integration_id", "log_id", "created_at", "updated_at", "valid_from", "valid_to"]
LINES = "select (to_jsonb(t) - %s::text[])::text as line from {table} t order by line"
CASES = """
select (to_jsonb(q) - %s::text[] || jsonb_build_object(
           'resolved_at', resolved_at is not null,
           'reasons', (select jsonb_agg(reason order by reason) from jsonb_array_elements(reasons) reason)
       ))::text as line
from softpro.quarantine q
order by line
"""

OPEN_LOGS = "select count(*) from softpro.sync_logs where status in ('PENDING', 'IN_PROGRESS')"
HELD_LEASES = "select count(*) from softpro.leases where log_id is not null"

UNSOUND_LOGS = """
select *
from softpro.sync_logs
where status not in ('COMPLETED', 'PARTIAL_SUCCESS', 'FAILED')
   or completed_at is null
   or (status = 'FAILED') <> (error_message is not null)
   or least(records_fetched, records_failed, records_inserted, records_updated, api_requests) < 0
   or records_inserted + records_updated + records_failed > records_processed
"""

# Every version is valid until the next one begins, and differs from it.
BROKEN_HISTORY = """
select count(*)
from (
    select valid_to, changed_fields, lead(valid_from) over (partition by id order by valid_from, valid_to) as next_from
    from roi.{versions}
) v
where (valid_to <> 'infinity' and (next_from is distinct from valid_to or changed_fields = '{{}}'))
   or (valid_to = 'infinity' and next_from is not null)
"""


def contents(database: Database) -> dict[str, list[str]]:
    """Return every row of `roi`, with history, and every quarantine case, as sorted texts with exact numbers."""
    with database.connect() as connection:
        names = [(schema, name) for schema, name in tables(connection) if schema == "roi"]
    held = {
        f"{schema}.{name}": lines(database, sql.SQL(LINES).format(table=sql.Identifier(schema, name)))
        for schema, name in names
    }
    return {**held, "softpro.quarantine": lines(database, CASES)}


def lines(database: Database, query: Any) -> list[str]:
    return [row["line"] for row in rows(database, query, OURS)]


def leftovers(database: Database) -> dict[str, int]:
    """Return what a finished sync must not leave behind, with counts; an empty dictionary if all is well."""
    found = {
        **{f"staging.{table}": staged for table, staged in staging(database).items()},
        "open logs": one(database, OPEN_LOGS),
        "leases": one(database, HELD_LEASES),
    }
    with database.connect() as connection:
        for integration in integrations.list_all(connection):
            for entity_type in EntityType:
                state = integrations.stream_status(connection, integration, entity_type)
                found[f"pending {entity_type.table} of {integration.organization_id}"] = state["pending"]
    for entity_type in EntityType:
        versions = sql.Identifier(f"{entity_type.table}_versions")
        found[f"broken history of {entity_type.table}"] = one(
            database, sql.SQL(BROKEN_HISTORY).format(versions=versions)
        )
    return {what: count for what, count in found.items() if count}


def staging(database: Database) -> dict[str, int]:
    """Return the row count of each staging table."""
    with database.connect() as connection:
        names = [name for schema, name in tables(connection) if schema == "staging"]
    count = sql.SQL("select count(*) from {}")
    return {name: one(database, count.format(sql.Identifier("staging", name))) for name in names}


def inconsistent_logs(database: Database) -> list[dict[str, Any]]:
    """Return the logs that are still open or whose counts contradict each other."""
    return rows(database, UNSOUND_LOGS)
