"""The second transaction that matters: merge, history, quarantine, counts, and pending cleared, together.

Pending is cleared, and a row merged, only where the payload that was mapped is still the current one: what a webhook or
a later run landed meanwhile is left to its own load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS
from softpro.quality import quarantine
from softpro.store import leases, logs
from softpro.store.database import Connection
from softpro.store.leases import Run
from softpro.sync.transform import clear

# Locks the raw rows, in one order for everybody, and settles those that did not move on.
CLEAR_PENDING = """
with current as (
    select r.integration_id, r.entity_type, r.entity_id
    from raw.records r
    join (
        select {key} as entity_id, payload_hash from {staging} where log_id = %(log_id)s
        union
        select entity_id, payload_hash from staging.rejects where log_id = %(log_id)s
    ) s using (entity_id, payload_hash)
    where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.pending
    order by r.entity_id
    for update of r
)
update raw.records r
set pending = false
from current c
where (r.integration_id, r.entity_type, r.entity_id) = (c.integration_id, c.entity_type, c.entity_id)
"""

MERGE = """
with incoming as materialized (
    select s.*
    from {staging} s
    join raw.records r
      on r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
     and r.entity_id = s.{key} and r.payload_hash = s.payload_hash
    where s.log_id = %(log_id)s
      and not exists (select from staging.rejects j where j.log_id = s.log_id and j.entity_id = s.{key})
),
replaced as (
    update {roi} t
    set ({columns}) = row({new_columns}), updated_at = now(), deleted_at = null
    from incoming i
    join {roi} o on o.organization_id = i.organization_id and o.{key} = i.{key}
    where t.id = o.id
      and o.softpro_updated_at <= i.softpro_updated_at
      and (({old_columns}) is distinct from ({new_columns}) or o.deleted_at is not null)
    returning o.*, array_remove(array[{changes}], null) as changed_fields
),
history as (
    insert into {history}
        (id, organization_id, {key}, {columns}, created_at, updated_at, deleted_at,
         valid_from, valid_to, changed_fields)
    select id, organization_id, {key}, {columns}, created_at, updated_at, deleted_at,
           updated_at, now(), changed_fields
    from replaced
),
added as (
    insert into {roi} (organization_id, {key}, {columns})
    select i.organization_id, i.{key}, {new_columns}
    from incoming i
    where not exists (
        select from {roi} t where t.organization_id = i.organization_id and t.{key} = i.{key})
    on conflict (organization_id, {key}) do nothing
    returning 1
),
healed as (
    update softpro.quarantine q
    set resolved_at = now(), updated_at = now()
    from incoming i
    where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
      and q.record_key = i.{key} and q.resolved_at is null
)
select (select count(*) from incoming) as loaded,
       (select count(*) from replaced) as updated,
       (select count(*) from added) as inserted
"""


@dataclass(frozen=True)
class Loaded:
    """What became of the staged records: loaded (of which inserted, updated, the rest unchanged), or in quarantine."""

    loaded: int
    inserted: int
    updated: int
    quarantined: int


def load(connection: Connection, run: Run, warnings: Mapping[str, int]) -> Loaded:
    """Merges what the run staged into its roi table, writing only what changed, and settles it.

    `warnings`, {expectation: records}, go to the log. Raises LeaseLost.
    """
    with connection.transaction():
        leases.fence(connection, run)
        parameters = {**run.stream, "log_id": run.log_id}
        connection.execute(_compose(CLEAR_PENDING, run.entity_type), parameters)
        counts = connection.execute(_compose(MERGE, run.entity_type), parameters).fetchone()
        assert counts is not None
        quarantined = quarantine.settle(connection, run)
        clear(connection, run.entity_type, run.log_id)
        logs.add(
            connection,
            run.log_id,
            records_processed=counts["loaded"] + quarantined,
            records_failed=quarantined,
            records_inserted=counts["inserted"],
            records_updated=counts["updated"],
        )
        logs.add_warnings(connection, run.log_id, warnings)
    return Loaded(counts["loaded"], counts["inserted"], counts["updated"], quarantined)


def _compose(query: str, entity_type: EntityType) -> sql.Composed:
    columns = [*COLUMNS[entity_type], "softpro_created_at", "softpro_updated_at"]

    def each(template: str) -> sql.Composed:
        pieces = (sql.SQL(template).format(name=sql.Identifier(column), text=sql.Literal(column)) for column in columns)
        return sql.SQL(", ").join(pieces)

    return sql.SQL(query).format(
        staging=sql.Identifier("staging", entity_type.table),
        roi=sql.Identifier("roi", entity_type.table),
        history=sql.Identifier("roi", f"{entity_type.table}_history"),
        key=sql.Identifier(entity_type.key),
        columns=each("{name}"),
        new_columns=each("i.{name}"),
        old_columns=each("o.{name}"),
        changes=each("case when o.{name} is distinct from i.{name} then {text} end"),
    )
