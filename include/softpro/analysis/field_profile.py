"""Notes which fields and codes SoftPro's records hold, and since when: `softpro.seen_fields`, `softpro.seen_values`.

Each refresh looks at what landed since the one before, inside PostgreSQL. Names that are no identifiers, such as a
person's in a map of people, are not kept, and of values only those that look like codes.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from softpro.db import queries
from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.entities import EntityType

FRESH = timedelta(hours=1)
"""What was refreshed within so long is good enough, unless it is asked for."""

IDENTIFIER, OTHER_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}", "(no identifier)"
CODE = r"[A-Z][A-Z0-9_]{0,59}"
# A person's name in capitals looks like a code, too: what is kept comes from fields that are named like ones of codes.
CODED = (
    r"(?i)(type|status|state|code|category|kind|role|purpose|priority|country|method|stage|phase|level|language)"
    r"s?(\[\])*$"
)
MOST_FIELDS, MOST_VALUES = 2_000, 100
DEEPEST = 30
SETTLE_SECONDS = 0.25  # from the beginning of a transaction to its first record
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

# A record is walked by itself, so that memory holds one at a time; its paths are then grouped, and names looked at once
# for all records. Below a list a path can occur in a record several times: it counts once. Of names that are no
# identifiers the one that most records hold counts. What a person corrected is not SoftPro's.
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
        told as (
            select path, several, jsonb_typeof(value) as kind,
                   case when jsonb_typeof(value) = 'string'
                             and value::text collate "C" >= '"A' and value::text collate "C" < '"['
                             and value #>> '{}' ~ %(code)s and path ~ %(coded)s
                        then value #>> '{}' end as code
            from walk
            where depth > 0
        )
        select path, kind, code, 1 as weight
        from told
        where not several
        union all
        (select distinct path, kind, code, 0 from told where several)
        union all
        (select distinct path, null, null, 1 from told where several)
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


def refresh(connection: Connection, integration: Integration, entity_type: EntityType, *, only_if_old: bool) -> None:
    """Looks at what landed in the stream since it was looked at last; not at all where that is fresh and `only_if_old`.

    The first look after a list was fetched to its end is the baseline: what is seen first after it is new.
    """
    stream = integration.stream(entity_type)
    if only_if_old and connection.execute(SELECT_IF_FRESH, {**stream.parameters, "fresh": FRESH}).rowcount:
        return
    until = _settled(connection)
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
                    "coded": CODED,
                    "other_name": OTHER_NAME,
                    "deepest": DEEPEST,
                    "most_fields": MOST_FIELDS,
                    "most_values": MOST_VALUES,
                },
            )


def _settled(connection: Connection) -> datetime | None:
    """A moment, now, before which everything has landed, so that nothing is passed over that is on its way: records
    carry the time at which their transaction began. None where one goes on and on."""
    now = queries.now(connection)
    time.sleep(SETTLE_SECONDS)
    deadline = time.monotonic() + LANDING_TIMEOUT_SECONDS
    landing = _landing(connection)
    while landing := landing & _landing(connection):
        if time.monotonic() > deadline:
            return None
        time.sleep(SETTLE_SECONDS)
    return now


def _landing(connection: Connection) -> set[str]:
    """The transactions that write records now."""
    return {row["name"] for row in connection.execute(SELECT_LANDING).fetchall()}
