"""Maps what is pending in `raw` into staging, in chunks, so that memory stays the same whatever the volume."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from softpro.entities import EntityType
from softpro.mapping import sets
from softpro.mapping.compiled import Compiled, Mapped, apply, compile_mappings
from softpro.store import leases
from softpro.store.database import Connection
from softpro.store.leases import Run

CHUNK = 2_000

PENDING = """
select entity_id, payload::text as payload, payload_hash, softpro_updated_at
from raw.records
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and pending
"""


@dataclass(frozen=True)
class Transformed:
    """How many pending records were staged, and how many no mapping could make a row of."""

    staged: int
    rejected: int


def transform(connection: Connection, run: Run) -> Transformed:
    """Stages every pending record of the stream under the run's log id, replacing what an earlier try staged.

    Raises LeaseLost.
    """
    mappings = [stored.mapping for stored in sets.read(connection, run.integration_id, run.entity_type)]
    compiled = compile_mappings(run.entity_type, mappings)
    staged = rejected = 0
    with connection.transaction():
        leases.fence(connection, run)
        clear(connection, run.entity_type, run.log_id)
        with connection.cursor(name="pending") as pending:
            pending.execute(PENDING, run.stream)
            while chunk := pending.fetchmany(CHUNK):
                mapped = [(row, apply(compiled, row["payload"].encode())) for row in chunk]
                staged += _stage(connection, run, compiled, [pair for pair in mapped if not pair[1].reasons])
                rejected += _reject(connection, run, [pair for pair in mapped if pair[1].reasons])
    return Transformed(staged, rejected)


def clear(connection: Connection, entity_type: EntityType, log_id: UUID) -> None:
    """Throws away what a run has in staging."""
    for table in (entity_type.table, "rejects"):
        connection.execute(
            sql.SQL("delete from {} where log_id = %s").format(sql.Identifier("staging", table)), [log_id]
        )


def _stage(connection: Connection, run: Run, compiled: Compiled, rows: list[tuple[dict[str, object], Mapped]]) -> int:
    if not rows:
        return 0
    columns = ["log_id", "organization_id", run.entity_type.key, "payload_hash", "softpro_updated_at"]
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier("staging", run.entity_type.table),
        sql.SQL(", ").join(map(sql.Identifier, [*columns, *compiled.columns])),
    )
    with connection.cursor().copy(statement) as copy:
        for row, mapped in rows:
            copy.write_row(
                (
                    run.log_id,
                    run.organization_id,
                    row["entity_id"],
                    row["payload_hash"],
                    row["softpro_updated_at"],
                    *mapped.values,
                )
            )
    return len(rows)


def _reject(connection: Connection, run: Run, rows: list[tuple[dict[str, object], Mapped]]) -> int:
    if not rows:
        return 0
    with connection.cursor().copy(
        "copy staging.rejects (log_id, organization_id, entity_id, payload_hash, reasons) from stdin"
    ) as copy:
        for row, mapped in rows:
            copy.write_row(
                (run.log_id, run.organization_id, row["entity_id"], row["payload_hash"], Jsonb(mapped.reasons))
            )
    return len(rows)
