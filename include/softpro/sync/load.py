"""Settle the staged records of a run: merge, write history, quarantine, and clear pending, in one transaction.

This is the second of the two transactions that a sync depends on; `land.py` holds the first. A record is settled only
if the payload that was mapped is still the current one. A version landed since is left to its own load.
See docs/design/sync.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from softpro.db import leases, outbox, pending, queries, sync_logs
from softpro.db.database import Connection, disable_planner_nodes
from softpro.db.leases import Run
from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS, CUSTOM, CUSTOM_PREFIX
from softpro.quality import holds, quarantine, results
from softpro.sync import cursors
from softpro.sync.transform import clear_staging

# Every writer locks raw.pending rows in id order (prevents deadlocks). Each lookup per record is a subquery with
# `offset 0`, as in transform.
PENDING_STAGED = """
select p.place
from (
    select {key} as entity_id, payload_hash from {staged} where log_id = %(log_id)s
    order by entity_id
    offset 0
) s
cross join lateral (
    select p.ctid as place
    from raw.pending p
    where p.integration_id = %(integration_id)s and p.entity_type = %(entity_type)s
      and p.entity_id = s.entity_id and p.payload_hash = s.payload_hash
    for update
) p
"""
CLEAR_PENDING = """
with cleared as ({clear})
select array(
    select {key}
    from {staged}
    where log_id = %(log_id)s
      and (select count(*) from cleared) < (select count(*) from {staged} where log_id = %(log_id)s)
    except
    select entity_id from cleared
) as others
"""

# Another run had settled these records, so they are no longer pending. The next run maps a version landed since. A
# record deleted since, or being deleted now (its row is locked), stays deleted.
SELECT_CURRENT = """
select s.{key} as entity_id
from {staged} s
cross join lateral (
    select r.entity_id
    from raw.records r
    where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = s.{key}
      and r.payload_hash = s.payload_hash and r.deleted_at is null
    for key share skip locked
) r
where s.log_id = %(log_id)s and s.{key} = any(%(others)s)
"""
DROP_OUTDATED = "delete from {staged} where log_id = %(log_id)s and {key} = any(%(outdated)s)"
DROP_THEIR_REJECTS = "delete from staging.rejects where log_id = %(log_id)s and entity_id = any(%(outdated)s)"

DROP_REJECTED = """
delete from {staged}
where log_id = %(log_id)s
  and {key} in (select entity_id from staging.rejects where log_id = %(log_id)s)
"""

MERGE_STAGED = """
with incoming as not materialized (
    select * from {staging} where log_id = %(log_id)s {only}
),
replaced as (
    update {roi} t
    set ({columns}, mapping_version) = row({replacing_columns}, i.mapping_version),
        updated_at = greatest(now(), o.updated_at), deleted_at = null
    from incoming i
    join {roi} o on o.organization_id = i.organization_id and o.{key} = i.{key}
    where t.id = o.id
      and ((coalesce(o.softpro_updated_at, '-infinity'), coalesce(o.mapping_version, 0))
               <= (i.softpro_updated_at, coalesce(i.mapping_version, 0)) or o.deleted_at is not null)
      and (({old_columns}) is distinct from ({replacing_columns}) or o.deleted_at is not null)
    returning o.*, array_remove(array[{changes}, case when o.deleted_at is not null then 'deleted_at' end], null)
                   as changed_fields
),
history as (
    insert into {history}
        (id, organization_id, {key}, {columns}, mapping_version, created_at, updated_at, deleted_at,
         valid_from, valid_to, changed_fields)
    select id, organization_id, {key}, {columns}, mapping_version, created_at, updated_at, deleted_at,
           updated_at, greatest(now(), updated_at), changed_fields
    from replaced
),
added as (
    insert into {roi} (organization_id, {key}, {columns}, mapping_version)
    select i.organization_id, i.{key}, {new_columns}, i.mapping_version
    from incoming i
    where not exists (
        select from {roi} t where t.organization_id = i.organization_id and t.{key} = i.{key})
    returning 1
),
healed as (
    update softpro.quarantine c
    set resolved_at = now(), updated_at = now(),
        resolution = case when h.edited then 'EDITED' else 'LOADED' end,
        resolved_by = case when h.edited then c.edited_by end
    from (
        select q.id, coalesce(q.edited_hash = i.payload_hash, false) as edited
        from incoming i
        cross join lateral (
            select q.id, q.edited_hash
            from softpro.quarantine q
            where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
              and q.record_key = i.{key} and q.resolved_at is null
              -- A version that had landed before does not heal a case whose record could not land.
              and (q.mapping_version is not null or i.payload_hash in (q.payload_hash, q.edited_hash)
                   or q.updated_at < (
                       select r.last_seen_at
                       from raw.records r
                       where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
                         and r.entity_id = i.{key}))
            offset 0
        ) q
        where exists (
            select from softpro.quarantine
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s and resolved_at is null)
        union all
        select q.id, true
        from softpro.quarantine q
        join incoming i on i.{key} = q.entity_id and i.payload_hash = q.edited_hash
        where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
          and q.record_key <> q.entity_id and q.resolved_at is null
          and exists (
            select from softpro.quarantine
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s
              and record_key <> entity_id and resolved_at is null)
    ) h
    where c.id = h.id
)
select (select count(*) from incoming) as loaded,
       (select count(*) from replaced) as updated,
       (select count(*) from added) as inserted
"""


WHERE_GIVEN = "and {key} = any(%(only)s)"
KEEP_FIELDS = """
case when jsonb_typeof(o.custom) = 'object' and o.custom ? {name}
     then coalesce({custom}, '{{}}') || jsonb_build_object({name}, o.custom -> {name})
     else {custom} end
"""


@dataclass(frozen=True)
class Loaded:
    """The outcome of a load.

    Attributes:
        loaded: records loaded; those neither inserted nor updated were unchanged.
        quarantined: records in quarantine, including those that a user discarded.
    """

    loaded: int
    inserted: int
    updated: int
    quarantined: int


@dataclass(frozen=True)
class MergedEdits:
    """The records that were merged with local edits, and how many of them are not loaded."""

    records: Sequence[str]
    left_out: int


EditMerger = Callable[[], MergedEdits]
"""Merges the staged records with local edits; called again for edits made since the call before."""


def load(connection: Connection, run: Run, merge_edits: EditMerger, kept: Sequence[str] = ()) -> Loaded:
    """Merge what the run staged into its `roi` table, writing only changes, and settle it. Raises LeaseLost.

    Args:
        merge_edits: merges the staged records with local edits.
        kept: the fields that SoftPro does not own, which keep their values.
    """
    with connection.transaction():
        leases.fence(connection, run)
        connection.execute(outbox.MARK_LOADING)
        parameters = {**run.stream.parameters, "log_id": run.log_id}
        discarded = _clear_pending(connection, run, parameters)
        left_out = merge_edits().left_out
        counts = _merge(connection, run, parameters, kept)
        # An edit made between `merge_edits` and the lock on its row is overwritten by now: merge again from the outbox.
        while edited := merge_edits().records:
            _merge(connection, run, {**parameters, "only": list(edited)}, kept)
        quarantined = discarded + quarantine.settle_rejected(connection, run)
        warnings = results.keep(connection, run)
        clear_staging(connection, run.entity_type, run.log_id)
        sync_logs.add_counts(
            connection,
            run.log_id,
            records_processed=counts["loaded"] + left_out + quarantined,
            records_failed=quarantined,
            records_inserted=counts["inserted"],
            records_updated=counts["updated"],
        )
        sync_logs.add_warnings(connection, run.log_id, warnings)
        if run.records is None:
            holds.close_settled_holds(connection, run)
        cursors.clear_load_due(connection, run.stream)
    return Loaded(counts["loaded"], counts["inserted"], counts["updated"], quarantined)


def _merge(connection: Connection, run: Run, parameters: dict[str, object], kept: Sequence[str]) -> dict[str, int]:
    """Merge the staged records, or only the ids in the parameter `only`, and return the counts."""
    with disable_planner_nodes(connection, "seqscan"):  # the table may be empty when this is planned
        query = _compose(MERGE_STAGED, run.entity_type, kept, WHERE_GIVEN if "only" in parameters else "")
        return queries.one(connection, query, parameters)


def _clear_pending(connection: Connection, run: Run, parameters: dict[str, object]) -> int:
    """Clear the pending rows of what is settled, and drop from staging what is not to be merged.

    Returns:
        The number of records left out because a user discarded them.
    """
    names = {
        "staged": sql.Identifier("staging", run.entity_type.table),
        "key": sql.Identifier(run.entity_type.key),
    }
    clear = pending.clearing(sql.SQL(PENDING_STAGED).format(**names))
    row = queries.one(connection, sql.SQL(CLEAR_PENDING).format(clear=clear, **names), parameters)
    if others := row["others"]:
        found = connection.execute(sql.SQL(SELECT_CURRENT).format(**names), {**parameters, "others": others}).fetchall()
        outdated = sorted({*others} - {each["entity_id"] for each in found})
        connection.execute(sql.SQL(DROP_OUTDATED).format(**names), {**parameters, "outdated": outdated})
        connection.execute(DROP_THEIR_REJECTS, {**parameters, "outdated": outdated})
    discarded = quarantine.leave_discarded(connection, run)
    with disable_planner_nodes(connection, "nestloop"):
        connection.execute(sql.SQL(DROP_REJECTED).format(**names), parameters)
    return discarded


def _compose(query: LiteralString, entity_type: EntityType, kept: Sequence[str], only: LiteralString) -> sql.Composed:
    columns = [*COLUMNS[entity_type], "softpro_created_at", "softpro_updated_at"]

    def each(template: LiteralString) -> sql.Composed:
        pieces = (
            sql.SQL(template).format(
                name=sql.Identifier(column), text=sql.Literal(column), replacing=_replacing(column, kept)
            )
            for column in columns
        )
        return sql.SQL(", ").join(pieces)

    return sql.SQL(query).format(
        only=sql.SQL(only).format(key=sql.Identifier(entity_type.key)),
        replacing_columns=each("{replacing}"),
        staging=sql.Identifier("staging", entity_type.table),
        roi=sql.Identifier("roi", entity_type.table),
        history=sql.Identifier("roi", f"{entity_type.table}_history"),
        key=sql.Identifier(entity_type.key),
        columns=each("{name}"),
        new_columns=each("i.{name}"),
        old_columns=each("o.{name}"),
        changes=each("case when o.{name} is distinct from {replacing} then {text} end"),
    )


def _replacing(column: str, kept: Sequence[str]) -> sql.Composable:
    """Return the new value of a row's column: the staged value, except for what is kept."""
    if column != CUSTOM:
        return sql.Identifier("o" if column in kept else "i", column)
    custom: sql.Composable = sql.Identifier("o" if CUSTOM in kept else "i", CUSTOM)
    for field in kept:
        if field.startswith(CUSTOM_PREFIX):
            custom = sql.SQL(KEEP_FIELDS).format(custom=custom, name=sql.Literal(field.removeprefix(CUSTOM_PREFIX)))
    return custom
