"""What a database holds once a sync has ended, seen from outside: what to compare, and what must not be there."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from softpro.db import integrations
from softpro.db.database import Database
from softpro.entities import EntityType

from .databases import one, rows, tables

# Ids and times of our own making: two databases that hold the same differ in nothing else.
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

# Every version stands until the one after it begins, and differs from that one.
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
    """Every row of `roi`, history included, and every case of the quarantine, as sorted texts with exact numbers."""
    with database.connect() as connection:
        names = [(schema, name) for schema, name in tables(connection) if schema == "roi"]
    held = {
        f"{schema}.{name}": lines(database, sql.SQL(LINES).format(table=sql.Identifier(schema, name)))
        for schema, name in names
    }
    return {**held, "softpro.quarantine": lines(database, CASES)}


def lines(database: Database, query: Any) -> list[str]:
    return [row["line"] for row in rows(database, query, OURS)]


def left_over(database: Database) -> dict[str, int]:
    """What no sync that ended may leave, and how much of it is there; nothing where all is well."""
    found = {
        **{f"staging.{table}": staged for table, staged in staging(database).items()},
        "open logs": one(database, OPEN_LOGS),
        "leases": one(database, HELD_LEASES),
    }
    with database.connect() as connection:
        for integration in integrations.every(connection):
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
    """The rows of each table that runs work in."""
    with database.connect() as connection:
        names = [name for schema, name in tables(connection) if schema == "staging"]
    count = sql.SQL("select count(*) from {}")
    return {name: one(database, count.format(sql.Identifier("staging", name))) for name in names}


def unsound_logs(database: Database) -> list[dict[str, Any]]:
    """The logs that are still open, or whose counts contradict each other."""
    return rows(database, UNSOUND_LOGS)
