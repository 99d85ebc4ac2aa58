"""Both ways: what people change in `roi`, what waits to be sent to SoftPro, and conflicts."""

from alembic import op

revision = "0014"
down_revision = "0013"

TABLES = r"""
-- Nothing has ever been written to either.
drop table softpro.outbox;
drop table softpro.conflicts;

create table softpro.outbox (
    id              bigint generated always as identity primary key,
    integration_id  uuid not null references softpro.integrations,
    organization_id softpro.organization not null,
    entity_type     text not null,
    roi_entity_id   uuid not null,
    entity_id       text collate "C",
    operation       text not null check (operation in ('CREATE', 'UPDATE', 'DELETE')),
    field           text,
    old_value       jsonb,
    new_value       jsonb,
    changed_by      text not null,
    changed_at      timestamptz not null default clock_timestamp(),
    approved_by     text,
    settled_at      timestamptz,
    outcome         text check (outcome in ('SENT', 'AGREED', 'OVERRULED', 'REPLACED', 'WITHDRAWN', 'RESTORED')),
    log_id          uuid,
    check ((settled_at is null) = (outcome is null)),
    check ((operation = 'UPDATE') = (field is not null))
);
comment on table softpro.outbox is
    'what somebody other than the sync changed in roi, field by field; open until both sides agree';
comment on column softpro.outbox.entity_id is 'SoftPro''s id; null: SoftPro did not know the record yet';
comment on column softpro.outbox.field is 'a column, or custom.<name>';
comment on column softpro.outbox.old_value is
    'null: custom.<name> was not there. The first one that is open is what both sides last agreed on. DELETE: the row';
comment on column softpro.outbox.approved_by is 'who let a delete pass that is one of too many';
comment on column softpro.outbox.outcome is
    'SENT to SoftPro; AGREED: it holds the same; OVERRULED: its value stands; REPLACED by a later entry; WITHDRAWN by a
person; RESTORED: deletes are not sent, and the row is back';
comment on column softpro.outbox.log_id is 'the sync log of the run that settled it';
create index outbox_open on softpro.outbox (integration_id, entity_type, roi_entity_id, id) where settled_at is null;
create index outbox_recent on softpro.outbox (integration_id, changed_at desc, id);
create index outbox_deleted on softpro.outbox (integration_id, entity_type, entity_id)
    where settled_at is null and operation = 'DELETE';
create index outbox_settled on softpro.outbox (settled_at) where settled_at is not null;

create table softpro.pushes (
    integration_id  uuid not null references softpro.integrations,
    organization_id softpro.organization not null,
    entity_type     text not null,
    roi_entity_id   uuid not null,
    attempts        integer not null default 0,
    next_attempt_at timestamptz,
    missing_at      timestamptz,
    error           text not null,
    last_id         bigint not null,
    updated_at      timestamptz not null default now(),
    primary key (integration_id, entity_type, roi_entity_id)
);
comment on table softpro.pushes is 'records that could not be sent to SoftPro, until they are';
comment on column softpro.pushes.next_attempt_at is 'null: not before it is edited again, or a person asks for it';
comment on column softpro.pushes.missing_at is 'when SoftPro first answered 404 for it; a second 404 confirms it';
comment on column softpro.pushes.last_id is 'the last entry of the outbox that was tried';

create table softpro.conflicts (
    id                 uuid primary key default gen_random_uuid(),
    integration_id     uuid not null references softpro.integrations,
    organization_id    softpro.organization not null,
    entity_type        text not null,
    entity_id          text collate "C" not null,
    roi_entity_id      uuid not null,
    kind               text not null check (kind in ('FIELDS', 'DELETED_IN_SOFTPRO', 'DELETED_IN_ROI')),
    base               jsonb not null,
    softpro            jsonb not null,
    roi                jsonb not null,
    result             jsonb,
    decisions          jsonb not null default '{}',
    status             text not null default 'OPEN' check (status in ('OPEN', 'RESOLVED')),
    softpro_updated_at timestamptz,
    roi_changed_at     timestamptz,
    roi_changed_by     text,
    resolved_by        text,
    resolved_at        timestamptz,
    reason             text,
    reversed_by        text,
    reversed_at        timestamptz,
    log_id             uuid,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    check ((status = 'RESOLVED') = (resolved_at is not null))
);
comment on table softpro.conflicts is 'records that both sides changed: OPEN until a person decides, else how it was';
comment on column softpro.conflicts.base is 'by field, what both sides last agreed on; a custom.<name> may be missing';
comment on column softpro.conflicts.result is 'by field, what stands now on both sides, or is about to';
comment on column softpro.conflicts.decisions is 'by field: strategy, winner (SOFTPRO, ROI, MERGED), why';
comment on column softpro.conflicts.resolved_by is 'a person; null: the strategy';
create unique index conflicts_one_open on softpro.conflicts (integration_id, entity_type, roi_entity_id)
    where status = 'OPEN';
create index conflicts_recent on softpro.conflicts (integration_id, created_at desc, id);

alter table softpro.integrations
    add column conflict_overrides jsonb not null default '{}',
    add column push_deletes boolean not null default false;
comment on column softpro.integrations.conflict_overrides is
    'strategies of single entity types and fields, e.g. {"transactions": "ROI_WINS", "transactions.notes": "MERGE"}';
comment on column softpro.integrations.push_deletes is 'what is deleted in roi.transactions is deleted at SoftPro';

alter table softpro.capabilities add column clock_ahead_seconds double precision;
comment on column softpro.capabilities.clock_ahead_seconds is 'how far SoftPro''s clock is ahead of the database''s';

alter table raw.records add column etag text;
comment on column raw.records.etag is 'the version''s ETag, where SoftPro told it with this very payload';

alter table softpro.sync_logs drop constraint sync_logs_mode_check,
    add constraint sync_logs_mode_check
        check (mode in ('incremental', 'delta', 'full', 'remap', 'replay', 'records', 'push'));
"""

# A record that was made in ROI has no id of SoftPro's before SoftPro has it.
KEYLESS = """
alter table roi.{table}
    alter column {key} drop not null,
    alter column softpro_updated_at drop not null;
alter table roi.{table}_history
    alter column {key} drop not null,
    alter column softpro_updated_at drop not null;
create index {table}_created_here on roi.{table} (organization_id) where {key} is null;
"""

# The loader marks itself: `set_config('softpro.loading', 'on', true)`. Rows may be written by roles that may not write
# the outbox, so the functions that do are their owner's.
FUNCTIONS = r"""
create function softpro.fields_of(record jsonb, key text) returns table (field text, value jsonb)
    language sql immutable
begin atomic
    select each.key, each.value
    from jsonb_each(record) each
    where each.key <> all (array['id', 'organization_id', 'softpro_created_at', 'softpro_updated_at', 'mapping_version',
                                 'created_at', 'updated_at', 'deleted_at', fields_of.key])
      and (each.key <> 'custom' or jsonb_typeof(each.value) not in ('object', 'null'))
    union all
    select 'custom.' || each.key, each.value
    from jsonb_each(case jsonb_typeof(record -> 'custom') when 'object' then record -> 'custom' else '{}' end) each
    where each.key <> 'roiSystemsId';
end;
comment on function softpro.fields_of is
    'a roi row''s fields as mappings name them; not the id of ours that SoftPro holds for us';
"""


# Of one table each: what runs for every row is planned once.
WATCH = r"""
create function softpro.before_edit_of_{table}() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'INSERT' then
        if new.{key} is not null then
            raise integrity_constraint_violation using message =
                '{key} is SoftPro''s id: leave it empty, and it is filled in once the record was sent there';
        end if;
    elsif (new.{key}, new.organization_id, new.id) is distinct from (old.{key}, old.organization_id, old.id) then
        raise integrity_constraint_violation using message =
            'id, organization_id and {key} tell which record it is, and can''t be changed';
    elsif old.deleted_at is not null and new.deleted_at is null and exists (
        select from raw.records r
        join softpro.integrations i on i.id = r.integration_id
        where i.organization_id = new.organization_id and r.entity_type = '{kind}' and r.entity_id = new.{key}
          and r.deleted_at is not null)
    then
        raise integrity_constraint_violation using message =
            'SoftPro has deleted this record, and can''t take that back: insert a new row';
    end if;
    if {odd_times} then
        raise datetime_field_overflow using message = 'a time is infinite, or not in the years 1 to 9999';
    end if;
    if tg_op = 'INSERT' or new.custom is distinct from old.custom then
        if jsonb_typeof(new.custom) not in ('object', 'null') then
            raise invalid_parameter_value using message = 'custom should be a JSON object';
        elsif jsonb_path_exists(new.custom, '$.**{{100 to last}}') then
            raise invalid_parameter_value using message = 'custom nests more than 100 levels';
        elsif jsonb_path_exists(new.custom, '$.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))') then
            raise numeric_value_out_of_range using message = 'custom holds a number beyond 1e300';
        end if;
    end if;
    if tg_op = 'UPDATE' and new is distinct from old and new.updated_at = old.updated_at then
        new.updated_at := greatest(now(), old.updated_at);
    end if;
    return new;
end
$$;
comment on function softpro.before_edit_of_{table} is
    'refuses what would make another record of a row, and what SoftPro can''t be sent; keeps updated_at';

create function softpro.note_edit_of_{table}() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    was jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    is_now jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
    integration uuid;
    who text := coalesce(nullif(current_setting('softpro.user', true), ''), session_user);
    changed text[] := array['deleted_at'];
begin
    if tg_op = 'UPDATE' then
        select array_agg(distinct split_part(coalesce(n.field, o.field), '.', 1))
        into changed
        from softpro.fields_of(was, '{key}') o
        full join softpro.fields_of(is_now, '{key}') n on n.field = o.field
        where n.value is distinct from o.value;
        if old.deleted_at is distinct from new.deleted_at then
            changed := array_append(changed, 'deleted_at');
        end if;
        if changed is null then
            return null;
        end if;
    end if;
    -- What stood inside this very transaction only was no version.
    if tg_op <> 'INSERT' and old.updated_at <> now() then
        insert into roi.{table}_history ({columns}, valid_from, valid_to, changed_fields)
        values ({old_columns}, old.updated_at, greatest(now(), old.updated_at), changed);
    end if;
    select id into integration from softpro.integrations
    where organization_id = case when tg_op = 'DELETE' then old.organization_id else new.organization_id end;
    if integration is null then
        return null;
    end if;
    if tg_op = 'INSERT' or (tg_op = 'UPDATE' and old.deleted_at is not null and new.deleted_at is null) then
        if tg_op = 'UPDATE' then
            update softpro.outbox
            set settled_at = clock_timestamp(), outcome = 'WITHDRAWN'
            where integration_id = integration and entity_type = '{kind}' and roi_entity_id = new.id
              and operation = 'DELETE' and settled_at is null;
            -- What SoftPro changed meanwhile was not loaded.
            insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
            select integration_id, organization_id, entity_type, entity_id, payload_hash
            from raw.records
            where integration_id = integration and entity_type = '{kind}' and entity_id = new.{key}
            on conflict do nothing;
            update softpro.cursors set load_due_at = clock_timestamp()
            where integration_id = integration and entity_type = '{kind}' and new.{key} is not null;
        end if;
        if new.{key} is null and new.deleted_at is null and not exists (
            select from softpro.outbox
            where integration_id = integration and entity_type = '{kind}' and roi_entity_id = new.id
              and operation = 'CREATE' and settled_at is null)
        then
            insert into softpro.outbox
                (integration_id, organization_id, entity_type, roi_entity_id, operation, new_value, changed_by)
            values (integration, new.organization_id, '{kind}', new.id, 'CREATE', is_now, who);
        end if;
    end if;
    if tg_op = 'DELETE' or (tg_op = 'UPDATE' and old.deleted_at is null and new.deleted_at is not null) then
        if old.deleted_at is null then
            insert into softpro.outbox
                (integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, old_value,
                 changed_by)
            values (integration, old.organization_id, '{kind}', old.id, old.{key}, 'DELETE', was, who);
        end if;
    elsif tg_op = 'UPDATE' and new.deleted_at is null then
        insert into softpro.outbox
            (integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, field, old_value,
             new_value, changed_by)
        select integration, new.organization_id, '{kind}', new.id, new.{key}, 'UPDATE', coalesce(n.field, o.field),
               o.value, n.value, who
        from softpro.fields_of(was, '{key}') o
        full join softpro.fields_of(is_now, '{key}') n on n.field = o.field
        where n.value is distinct from o.value;
    end if;
    notify softpro_outbox;
    return null;
end
$$;
comment on function softpro.note_edit_of_{table} is
    'what somebody other than the sync changes in roi: the replaced version to the history, the change to the outbox';

create function softpro.note_truncate_of_{table}() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
begin
    insert into roi.{table}_history ({columns}, valid_from, valid_to, changed_fields)
    select {t_columns}, t.updated_at, greatest(now(), t.updated_at), array['deleted_at']
    from roi.{table} t
    where t.deleted_at is null;
    insert into softpro.outbox
        (integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, old_value, changed_by)
    select i.id, t.organization_id, '{kind}', t.id, t.{key}, 'DELETE', to_jsonb(t),
           coalesce(nullif(current_setting('softpro.user', true), ''), session_user)
    from roi.{table} t
    join softpro.integrations i on i.organization_id = t.organization_id
    where t.deleted_at is null;
    notify softpro_outbox;
    return null;
end
$$;
comment on function softpro.note_truncate_of_{table} is 'a table that is emptied is a delete of each of its rows';

create trigger before_edit before insert or update on roi.{table}
    for each row when (current_setting('softpro.loading', true) is distinct from 'on')
    execute function softpro.before_edit_of_{table}();
create trigger note_edit after insert or update or delete on roi.{table}
    for each row when (current_setting('softpro.loading', true) is distinct from 'on')
    execute function softpro.note_edit_of_{table}();
create trigger note_truncate before truncate on roi.{table}
    for each statement when (current_setting('softpro.loading', true) is distinct from 'on')
    execute function softpro.note_truncate_of_{table}();
"""
COLUMNS = """
select array_agg(quote_ident(attname) order by attnum)
from pg_attribute
where attrelid = 'roi.{table}'::regclass and attnum > 0 and not attisdropped
"""
TIMES = {
    "transactions": ("opened_at", "estimated_closing_at", "actual_closing_at"),
    "contacts": (),
}
ODD = "coalesce(new.{column} not between '0001-01-02' and '9999-12-30', false)"


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    execute(TABLES)
    execute(FUNCTIONS)
    for kind, table, key in (
        ("TRANSACTION", "transactions", "softpro_order_id"),
        ("CONTACT", "contacts", "softpro_contact_id"),
    ):
        execute(KEYLESS.format(table=table, key=key))
        columns = execute(COLUMNS.format(table=table)).scalar_one()
        execute(
            WATCH.format(
                kind=kind,
                table=table,
                key=key,
                columns=", ".join(columns),
                old_columns=", ".join(f"old.{column}" for column in columns),
                t_columns=", ".join(f"t.{column}" for column in columns),
                odd_times=" or ".join(ODD.format(column=column) for column in TIMES[table]) or "false",
            )
        )
