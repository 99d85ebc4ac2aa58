"""Profile which fields and codes SoftPro's records hold, and since when.

The results are in `softpro.seen_fields` and `softpro.seen_values`. Each refresh examines the records landed since the
last one, inside PostgreSQL. To keep personal data out, only names that are identifiers and values that look like codes
are stored.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from softpro.db import queries
from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.entities import EntityType

PROFILE_MAX_AGE = timedelta(hours=1)
"""A profile of this age is refreshed only on request."""

IDENTIFIER, OTHER_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}", "(no identifier)"
CODE = r"[A-Z][A-Z0-9_]{0,59}"
# A person's name in capitals looks like a code too, so codes are stored only for fields with names like these.
CODE_FIELD_PATTERN = (
    r"(?i)(type|status|state|code|category|kind|role|purpose|priority|country|method|stage|phase|level|language)"
    r"s?(\[\])*$"
)
MAX_FIELDS, MAX_VALUES = 2_000, 100
MAX_DEPTH = 30
SETTLE_SECONDS = 0.25  # the time a transaction may take from its beginning to its first record
LANDING_TIMEOUT_SECONDS = 30.0

ENSURE_STATE = """
insert into softpro.coverage (integration_id, organization_id, entity_type)
values (%(integration_id)s, %(organization_id)s, %(entity_type)s)
on conflict do nothing
"""
LOCK_STATE = """
select seen_until from softpro.coverage
where integration_id = %(integration_id)s and entity_type = %(entity_type)s
for update
"""
SELECT_IF_FRESH = """
select from softpro.coverage
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and refreshed_at > now() - %(fresh)s
  and baseline_at is not null  -- before there is one, all is still to come
"""
SELECT_LANDING = """
select virtualtransaction as name
from pg_locks
where relation = 'raw.records'::regclass and mode = 'RowExclusiveLock' and granted
  and database = (select oid from pg_database where datname = current_database())
"""

# Each record is walked separately, so that memory holds one at a time. Its paths are then grouped, and names are
# checked once for all records. A path below a list can occur several times in a record, but counts once. Among names
# that are no identifiers, the most frequent one counts. Records that a user corrected are left out.
REFRESH_PROFILE = r"""
with landed as not materialized (
    select r.payload, r.last_seen_at
    from raw.records r
    where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
      and r.deleted_at is null and r.corrects is null
      and r.last_seen_at < %(until)s and (%(since)s::timestamptz is null or r.last_seen_at >= %(since)s)
),
state as (
    update softpro.coverage c
    set records = c.records + (select count(*) from landed), seen_until = %(until)s, refreshed_at = now(),
        baseline_at = coalesce(c.baseline_at, (
            select %(until)s::timestamptz from softpro.cursors s
            where s.integration_id = c.integration_id and s.entity_type = c.entity_type
              and s.last_synced_at is not null))
    where c.integration_id = %(integration_id)s and c.entity_type = %(entity_type)s
    returning c.records
),
looked as (
    select f.path, f.kind, f.code, f.weight, count(*) as records,
           min(l.last_seen_at) as first_at, max(l.last_seen_at) as last_at
    from landed l
    cross join lateral (
        with recursive walk (path, value, several, depth) as (
            select ''::text, l.payload, false, 0
            union all
            select child.path, child.value, child.several, w.depth + 1
            from walk w
            cross join lateral (
                select case when w.path = '' then o.key else w.path || chr(31) || o.key end, o.value, w.several
                from jsonb_each(case jsonb_typeof(w.value) when 'object' then w.value end) o
                union all
                select w.path || '[]', a.value, true
                from jsonb_array_elements(case jsonb_typeof(w.value) when 'array' then w.value end) a
            ) child (path, value, several)
            where jsonb_typeof(w.value) in ('object', 'array') and w.depth < %(deepest)s
        ),
        described as (
            select path, several, jsonb_typeof(value) as kind,
                   case when jsonb_typeof(value) = 'string'
                             and value::text collate "C" >= '"A' and value::text collate "C" < '"['
                             and value #>> '{}' ~ %(code)s and path ~ %(coded)s
                        then value #>> '{}' end as code
            from walk
            where depth > 0
        )
        select path, kind, code, 1 as weight
        from described
        where not several
        union all
        (select distinct path, kind, code, 0 from described where several)
        union all
        (select distinct path, null, null, 1 from described where several)
    ) f
    group by f.path, f.kind, f.code, f.weight
),
named as (
    select path as raw, string_agg(
               case when name ~ %(identifier)s then name
                    else %(other_name)s || substring(name from '(?:\[\])*$') end,
               '.' order by place) as path
    from (select distinct path from looked) l
    cross join lateral string_to_table(path, chr(31)) with ordinality s (name, place)
    group by path
),
fields as (
    select path, max(records) as records, min(first_at) as first_at, max(last_at) as last_at
    from (
        select n.path, n.raw, sum(l.records * l.weight) as records, min(first_at) as first_at, max(last_at) as last_at
        from looked l
        join named n on n.raw = l.path
        group by n.path, n.raw
    ) f
    group by path
),
kinds as (
    select n.path, array_agg(distinct l.kind order by l.kind) as kinds
    from looked l
    join named n on n.raw = l.path
    where l.kind is not null
    group by n.path
),
known as (
    select path, coded from softpro.seen_fields
    where integration_id = %(integration_id)s and entity_type = %(entity_type)s
),
admitted as (
    select path from known
    union
    (select path from fields where path not in (select path from known)
     order by records desc, path
     limit greatest(0, %(most_fields)s - (select count(*) from known)))
),
codes as (
    select n.path, l.code as value, sum(l.records) as records, min(l.first_at) as first_at
    from looked l
    join named n on n.raw = l.path
    where l.code is not null
      and n.path in (select path from admitted) and n.path not in (select path from known where not coded)
    group by n.path, l.code
),
uncoded as (
    select path
    from (
        select path, value from codes
        union
        select path, value from softpro.seen_values
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
    ) v
    group by path
    having count(*) > %(most_values)s
),
put_fields as (
    insert into softpro.seen_fields as f
        (integration_id, organization_id, entity_type, path, kinds, records, of_records, coded,
         first_seen_at, last_seen_at)
    select %(integration_id)s, %(organization_id)s, %(entity_type)s, n.path, k.kinds, n.records, s.records,
           n.path not in (select path from uncoded), n.first_at, n.last_at
    from fields n
    join kinds k on k.path = n.path
    cross join state s
    where n.path in (select path from admitted)
    on conflict (integration_id, entity_type, path) do update
    set kinds = (select array_agg(distinct kind order by kind) from unnest(f.kinds || excluded.kinds) kind),
        records = f.records + excluded.records, of_records = excluded.of_records,
        coded = f.coded and excluded.coded, last_seen_at = excluded.last_seen_at
),
put_values as (
    insert into softpro.seen_values as v
        (integration_id, organization_id, entity_type, path, value, records, first_seen_at)
    select %(integration_id)s, %(organization_id)s, %(entity_type)s, path, value, records, first_at
    from codes
    where path not in (select path from uncoded)
    on conflict (integration_id, entity_type, path, value) do update
    set records = v.records + excluded.records
)
delete from softpro.seen_values
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and path in (select path from uncoded)
"""


def refresh(
    connection: Connection,
    integration: Integration,
    entity_type: EntityType,
    *,
    only_if_old: bool,
    landing_timeout: float = LANDING_TIMEOUT_SECONDS,
) -> None:
    """Profile the stream's records landed since its last refresh.

    The first refresh after a list was fetched to its end is the baseline: fields and codes first seen later are new.

    Args:
        only_if_old: do nothing if the last refresh is recent.
        landing_timeout: seconds to wait for transactions that store records; after them, the refresh does nothing.
    """
    stream = integration.stream(entity_type)
    if only_if_old and connection.execute(SELECT_IF_FRESH, {**stream.parameters, "fresh": PROFILE_MAX_AGE}).rowcount:
        return
    until = _settled(connection, landing_timeout)
    with connection.transaction():
        connection.execute(ENSURE_STATE, stream.parameters)
        state = queries.one(connection, LOCK_STATE, stream.parameters)
        since = state["seen_until"]
        if until is not None and (since is None or since < until):
            connection.execute(
                REFRESH_PROFILE,
                {
                    **stream.parameters,
                    "since": since,
                    "until": until,
                    "identifier": rf"^{IDENTIFIER}(\[\])*$",
                    "code": f"^{CODE}$",
                    "coded": CODE_FIELD_PATTERN,
                    "other_name": OTHER_NAME,
                    "deepest": MAX_DEPTH,
                    "most_fields": MAX_FIELDS,
                    "most_values": MAX_VALUES,
                },
            )


def _settled(connection: Connection, timeout: float) -> datetime | None:
    """Return a time, now, before which everything has landed; None if a transaction does not end in time.

    Records carry the time at which their transaction began, so a record of an open transaction could be missed.
    """
    now = queries.now(connection)
    time.sleep(SETTLE_SECONDS)
    deadline = time.monotonic() + timeout
    landing = _landing(connection)
    while landing := landing & _landing(connection):
        if time.monotonic() > deadline:
            return None
        time.sleep(SETTLE_SECONDS)
    return now


def _landing(connection: Connection) -> set[str]:
    """Return the transactions that write records now."""
    return {row["name"] for row in connection.execute(SELECT_LANDING).fetchall()}
