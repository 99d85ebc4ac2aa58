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

# Whoever lands or settles a record holds its row of raw.pending; locked in one order by everybody.
CLEAR_PENDING = """
with settled as (
    select p.ctid as place
    from raw.pending p
    join {staged} s on s.{key} = p.entity_id and s.payload_hash = p.payload_hash
    where p.integration_id = %(integration_id)s and p.entity_type = %(entity_type)s and s.log_id = %(log_id)s
    order by p.entity_id
    for update of p
)
delete from raw.pending p
using settled
where p.ctid = settled.place
"""

# What landed since it was staged is mapped anew by the next run.
DROP_OUTDATED = """
delete from {staging} s
using raw.records r
where s.log_id = %(log_id)s
  and r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
  and r.entity_id = s.{key} and r.payload_hash <> s.payload_hash
"""

MERGE = """
with incoming as not materialized (
    select s.*
    from {staging} s
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
        _clear_pending(connection, run, parameters)
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


def _clear_pending(connection: Connection, run: Run, parameters: dict[str, object]) -> None:
    """Clears what is about to be settled, and takes out of staging what is not current any more."""
    rejects, key = sql.Identifier("staging", "rejects"), sql.Identifier("entity_id")
    connection.execute(sql.SQL(CLEAR_PENDING).format(staged=rejects, key=key), parameters)
    staged, key = sql.Identifier("staging", run.entity_type.table), sql.Identifier(run.entity_type.key)
    cleared = connection.execute(sql.SQL(CLEAR_PENDING).format(staged=staged, key=key), parameters).rowcount
    count = connection.execute(
        sql.SQL("select count(*) as n from {} where log_id = %(log_id)s").format(staged), parameters
    ).fetchone()
    if count and cleared < count["n"]:
        connection.execute(sql.SQL(DROP_OUTDATED).format(staging=staged, key=key), parameters)


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
