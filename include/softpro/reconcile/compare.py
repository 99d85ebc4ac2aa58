"""Compare what a sweep has seen at SoftPro with the stored records: counts, hashes, and each difference.

Both sides are counted and hashed the same way: by the `bit_xor` of `softpro.record_digest`, which does not depend on
any order. Neither side includes unreadable records or records in flux. A record is in flux if it changed at SoftPro
after the sweep began, or if something other than the sweep landed it since.
"""

from __future__ import annotations

from psycopg import sql

from softpro.db import pending, queries
from softpro.db.database import Connection
from softpro.delete_limit import DeleteLimit
from softpro.entities import EntityType
from softpro.reconcile import audits
from softpro.reconcile.audits import Audit, AuditStatus

# `held_hash` is the hash of the version stored when the sweep saw the record. A record that it did not see has not
# changed. For a version that a user corrected, the hash that SoftPro sent counts.
WITH_SIDES = """
with audit as (
    select * from softpro.audits where id = %(audit_id)s
),
sides as (
    select s.payload_hash as vendor_hash, coalesce(s.entity_id, r.entity_id) as entity_id,
           case when s.entity_id is null then coalesce(r.corrects, r.payload_hash) else s.held_hash end
               as hash_before,
           coalesce(r.corrects, r.payload_hash) as hash_after,
           not coalesce(s.readable, true) as unreadable,
           coalesce(s.softpro_updated_at > a.in_flux_from, false)
               or coalesce(r.softpro_updated_at > a.in_flux_from, false)
               or (s.entity_id is null and r.last_seen_at >= a.started_at) as in_flux
    from (select * from softpro.audit_seen where audit_id = %(audit_id)s and entity_id <> '') s
    full join (
        select * from raw.records
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and deleted_at is null
    ) r on r.entity_id = s.entity_id
    cross join audit a
)
"""

UPDATE_SUMS = """
update softpro.audits
set in_flux = c.in_flux, unreadable = c.unreadable, vendor_count = c.vendor_count, vendor_hash = c.vendor_hash,
    our_count_before = coalesce(our_count_before, c.count_before),
    our_hash_before = coalesce(our_hash_before, c.hash_before),
    our_count_after = c.count_after, our_hash_after = c.hash_after
from (
    select count(*) filter (where unreadable) as unreadable,
           count(*) filter (where in_flux and not unreadable) as in_flux,
           count(vendor_hash) filter (where steady) as vendor_count,
           count(hash_before) filter (where steady) as count_before,
           count(hash_after) filter (where steady) as count_after,
           coalesce(bit_xor(softpro.record_digest(entity_id, vendor_hash)) filter (where steady), {nothing})
               as vendor_hash,
           coalesce(bit_xor(softpro.record_digest(entity_id, hash_before)) filter (where steady), {nothing})
               as hash_before,
           coalesce(bit_xor(softpro.record_digest(entity_id, hash_after)) filter (where steady), {nothing})
               as hash_after
    from (select *, not in_flux and not unreadable as steady from sides) s
) c
where id = %(audit_id)s
"""

# Each lookup per record is a scalar subquery. PostgreSQL may have no statistics about a stream yet, and could plan a
# join that scans all of it for each record. A correction that gave a record its id belongs to the case without an id.

# A change that the stream had not fetched yet when the sweep began is left to the next sync, and is no difference.
INSERT_OURS_DIFFERING = """
insert into softpro.audit_differences (audit_id, organization_id, entity_id, kind, vendor_hash, our_hash)
select a.id, a.organization_id, s.entity_id, case when s.held_hash is null then 'MISSING_HERE' else 'DIFFERS' end,
       s.payload_hash, s.held_hash
from softpro.audits a
join softpro.audit_seen s on s.audit_id = a.id and s.readable and s.entity_id <> ''
where a.id = %(audit_id)s
  and s.held_hash is distinct from s.payload_hash
  and s.softpro_updated_at <= least(a.in_flux_from, a.synced_until)
  and a.synced_until is not null
  and coalesce(a.in_flux_from >= (
          select r.softpro_updated_at
          from raw.records r
          where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = s.entity_id
      ), true)
"""

# Records that landed before the sweep began, were not landed by any run since, and that the sweep did not see.
INSERT_MISSING_THERE = """
insert into softpro.audit_differences (audit_id, organization_id, entity_id, kind, our_hash)
select a.id, a.organization_id, r.entity_id, 'MISSING_THERE', r.payload_hash
from softpro.audits a
join raw.records r on r.integration_id = a.integration_id and r.entity_type = a.entity_type
where a.id = %(audit_id)s and r.deleted_at is null
  and r.first_seen_at < a.started_at and r.last_seen_at < a.started_at
  and (select true from softpro.audit_seen s where s.audit_id = %(audit_id)s and s.entity_id = r.entity_id) is null
"""

INSERT_NOT_LOADED = """
with lost as (
    insert into softpro.audit_differences (audit_id, organization_id, entity_id, kind, our_hash)
    select a.id, a.organization_id, r.entity_id, 'NOT_LOADED', r.payload_hash
    from softpro.audits a
    join raw.records r on r.integration_id = a.integration_id and r.entity_type = a.entity_type
    where a.id = %(audit_id)s and r.deleted_at is null
      and (select true from {roi} t
           where t.organization_id = r.organization_id and t.{key} = r.entity_id and t.deleted_at is null) is null
      and (select true from raw.pending p
           where p.integration_id = %(integration_id)s and p.entity_type = %(entity_type)s
             and p.entity_id = r.entity_id) is null
      and (select true from softpro.quarantine q
           where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
             and q.record_key = r.entity_id
             and (q.resolved_at is null or softpro.is_decided(q, r.payload_hash))) is null
      and (select true from softpro.quarantine q
           where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
             and q.entity_id = r.entity_id and q.record_key <> q.entity_id and q.edited_hash = r.payload_hash
             and (q.resolved_at is null or softpro.is_decided(q, r.payload_hash))
           limit 1) is null
    on conflict (audit_id, entity_id) do nothing
    returning organization_id, entity_id, our_hash
)
{mark}
"""
LOST = sql.SQL(
    """
    (select %(integration_id)s::uuid as integration_id, organization_id, %(entity_type)s::text as entity_type,
            entity_id, our_hash as payload_hash
     from lost) lost_records
    """
)

# HEALED: the row is correct now. KEPT: our version is newer, and an older version never replaces a newer one.
UPDATE_OUTCOMES = """
update softpro.audit_differences d
set outcome = case
        when coalesce(d.vendor_hash, d.our_hash) is distinct from (
            select r.payload_hash
            from raw.records r
            where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
              and r.entity_id = d.entity_id) then 'KEPT'
        when (select true from softpro.quarantine q
              where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
                and q.record_key = d.entity_id
                and (q.resolved_at is null or softpro.is_decided(q, coalesce(d.vendor_hash, d.our_hash)))
             ) then 'QUARANTINED'
        when (select true from softpro.quarantine q
              where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
                and q.entity_id = d.entity_id and q.record_key <> q.entity_id
                and q.edited_hash = coalesce(d.vendor_hash, d.our_hash)
                and (q.resolved_at is null or softpro.is_decided(q, coalesce(d.vendor_hash, d.our_hash)))
              limit 1) then 'QUARANTINED'
        else 'HEALED' end
where d.audit_id = %(audit_id)s and d.outcome = 'OPEN' and d.kind <> 'MISSING_THERE'
  and (select true from raw.records r
       where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = d.entity_id)
  and (select true from raw.pending p
       where p.integration_id = %(integration_id)s and p.entity_type = %(entity_type)s
         and p.entity_id = d.entity_id) is null
"""

UPDATE_COUNTS = """
update softpro.audits
set missing_here = c.missing_here, differing = c.differing, missing_there = c.missing_there,
    not_loaded = c.not_loaded, found = c.found, unanswered = c.unanswered, deleted = c.deleted, waiting = c.waiting
from (
    select count(*) filter (where kind = 'MISSING_HERE') as missing_here,
           count(*) filter (where kind = 'DIFFERS') as differing,
           count(*) filter (where kind = 'MISSING_THERE') as missing_there,
           count(*) filter (where kind = 'NOT_LOADED') as not_loaded,
           count(*) filter (where outcome = 'FOUND') as found,
           count(*) filter (where outcome = 'UNANSWERED') as unanswered,
           count(*) filter (where outcome = 'DELETED') as deleted,
           count(*) filter (where outcome = 'CONFIRMED') as waiting
    from softpro.audit_differences
    where audit_id = %(audit_id)s
) c
where id = %(audit_id)s
"""

EMPTY_HASH = sql.Literal("0" * 128) + sql.SQL("::bit(128)")


def compare(connection: Connection, audit: Audit) -> Audit:
    """Store the differences that a complete sweep shows, and return the audit. Raises LeaseLost.

    Stored records that were never loaded become pending again. If a crash of the database lost what the sweep had seen,
    the audit is FAILED and no difference is stored.
    """
    parameters = _parameters(audit)
    with connection.transaction():
        audits.lock_owned(connection, audit, AuditStatus.SWEPT)
        if not _has_sightings(connection, audit):
            why = "The database crashed and lost what the sweep had seen: nothing was deleted; reconcile again"
            audits.close(connection, audit, AuditStatus.FAILED, why)
            return audits.get(connection, audit.id)
        connection.execute(sql.SQL(WITH_SIDES + UPDATE_SUMS).format(nothing=EMPTY_HASH), parameters)
        connection.execute(INSERT_OURS_DIFFERING, parameters)
        connection.execute(INSERT_MISSING_THERE, parameters)
        entity_type = EntityType(audit.entity_type)
        connection.execute(
            sql.SQL(INSERT_NOT_LOADED).format(
                roi=sql.Identifier("roi", entity_type.table),
                key=sql.Identifier(entity_type.key),
                mark=pending.marking(LOST),
            ),
            parameters,
        )
        connection.execute(UPDATE_COUNTS, parameters)
        connection.execute("update softpro.audits set status = 'CONFIRMING' where id = %s", [audit.id])
    return audits.get(connection, audit.id)


def apply_limit(connection: Connection, audit: Audit, limit: DeleteLimit) -> Audit:
    """Let the confirmed deletes proceed, or wait for a user if they exceed the limit. Raises LeaseLost.

    Call it once all candidates were requested.
    """
    with connection.transaction():
        audits.lock_owned(connection, audit, AuditStatus.CONFIRMING)
        row = queries.one(
            connection,
            """
            select (select count(*) from softpro.audit_differences
                    where audit_id = %(audit_id)s and outcome = 'CONFIRMED') as confirmed,
                   (select count(*) from raw.records
                    where integration_id = %(integration_id)s and entity_type = %(entity_type)s
                      and deleted_at is null) as live
            """,
            _parameters(audit),
        )
        status = AuditStatus.WAITING if limit.is_exceeded_by(row["confirmed"], row["live"]) else AuditStatus.DELETING
        connection.execute(
            "update softpro.audits set status = %s, limit_percent = %s, limit_records = %s where id = %s",
            [status, limit.percent, limit.records, audit.id],
        )
        _sum_up(connection, audit)
    return audits.get(connection, audit.id)


def conclude(connection: Connection, audit: Audit) -> Audit:
    """Close an audit whose deletes are done or rejected. Raises LeaseLost."""
    with connection.transaction():
        audits.lock_owned(connection, audit, AuditStatus.DELETING)
        _sum_up(connection, audit)
        audits.close(connection, audit, AuditStatus.COMPLETED)
    return audits.get(connection, audit.id)


def _sum_up(connection: Connection, audit: Audit) -> None:
    """Update the outcomes, the counts and both sides' sums, which are unknown if a crash lost the sightings."""
    connection.execute(UPDATE_OUTCOMES, _parameters(audit))
    connection.execute(UPDATE_COUNTS, _parameters(audit))
    if _has_sightings(connection, audit):
        connection.execute(sql.SQL(WITH_SIDES + UPDATE_SUMS).format(nothing=EMPTY_HASH), _parameters(audit))
    else:
        connection.execute(
            "update softpro.audits set our_count_after = null, our_hash_after = null where id = %s", [audit.id]
        )


def _has_sightings(connection: Connection, audit: Audit) -> bool:
    marker = connection.execute(
        "select from softpro.audit_seen where audit_id = %s and entity_id = ''", [audit.id]
    ).fetchone()
    return marker is not None


def _parameters(audit: Audit) -> dict[str, object]:
    return {"audit_id": audit.id, "integration_id": audit.integration_id, "entity_type": audit.entity_type}
