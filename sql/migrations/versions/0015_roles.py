"""Close the database to logins without rights: functions, triggers, views and locks."""

from alembic import op

revision = "0015"
down_revision = "0014"

# Roles and owners come before any migration: softpro/db/roles.py.
RIGHTS = r"""
revoke execute on all routines in schema softpro, raw, staging, roi, analytics from public;
alter default privileges revoke execute on routines from public;

grant usage on schema softpro, raw, staging, roi, analytics to softpro_web;
grant select, insert, update, delete on all tables in schema softpro, raw, staging, roi to softpro_web;
grant select on all tables in schema analytics to softpro_web;
grant usage on all sequences in schema softpro, raw, staging, roi to softpro_web;
grant execute on all routines in schema softpro to softpro_web;
alter default privileges in schema softpro, raw, staging, roi
    grant select, insert, update, delete on tables to softpro_web;
alter default privileges in schema softpro, raw, staging, roi grant usage on sequences to softpro_web;
alter default privileges in schema softpro grant execute on routines to softpro_web;
alter default privileges in schema analytics grant select on tables to softpro_web;
"""

LOCKS = r"""
create table softpro.locks (
    lock          text not null,
    subject       text not null,
    backend_pid   integer,
    backend_start timestamptz,
    used_at       timestamptz not null default clock_timestamp(),
    primary key (lock, subject)
);
comment on table softpro.locks is
    'Locks of resources. A row is held by a transaction that updates it, or by the session that it names.';
comment on column softpro.locks.subject is 'The id of the locked resource. Empty for a lock of the whole installation.';

create function softpro.is_alive(pid integer, started timestamptz) returns boolean
    language sql stable
    return exists (
        select from pg_stat_activity a
        -- The start of another login's session is hidden without pg_read_all_stats.
        where a.pid = is_alive.pid and coalesce(a.backend_start, is_alive.started) = is_alive.started);
comment on function softpro.is_alive is 'Whether this database session still exists.';

create function softpro.try_lock(wanted text, subject text, former_key bigint) returns boolean
    language plpgsql
as $$
begin
    insert into softpro.locks as l (lock, subject, backend_pid, backend_start)
    select wanted, try_lock.subject, a.pid, a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid()
    on conflict on constraint locks_pkey do update
    set backend_pid = excluded.backend_pid, backend_start = excluded.backend_start, used_at = clock_timestamp()
    where not softpro.is_alive(l.backend_pid, l.backend_start);
    if not found then
        return false;
    end if;
    if not pg_try_advisory_lock(former_key) and exists (
        select from pg_locks h
        join pg_stat_activity a on a.pid = h.pid
        where h.locktype = 'advisory' and h.objsubid = 1 and h.granted
          and ((h.classid::bigint << 32) | h.objid::bigint) = former_key
          and h.database = (select oid from pg_database where datname = current_database())
          and pg_has_role(a.usesysid, 'softpro_web', 'member'))
    then
        delete from softpro.locks l where l.lock = wanted and l.subject = try_lock.subject;
        return false;
    end if;
    return true;
end
$$;
comment on function softpro.try_lock is
    'Takes a lock for this session. Also takes the advisory lock of earlier releases, unless another login holds it.';

create function softpro.unlock(wanted text, subject text, former_key bigint) returns void
    language plpgsql
as $$
begin
    perform pg_advisory_unlock(former_key);
    delete from softpro.locks l
    where l.lock = wanted and l.subject = unlock.subject and l.backend_pid = pg_backend_pid();
end
$$;
comment on function softpro.unlock is 'Releases a lock of this session.';
"""

VERSIONS = "alter view roi.{table}_versions set (security_invoker = true)"

# Who could read a view with its owner's rights keeps that, now by rights of their own.
READERS_OF_VERSIONS = """
select distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
from pg_class c
cross join aclexplode(c.relacl) a
where c.oid = 'roi.{table}_versions'::regclass and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
"""

# Session settings are open to every login, so they count only for members of these roles.
IS_LOADING = """
coalesce(current_setting('softpro.loading', true), '') = 'on' and pg_has_role(session_user, 'softpro_web', 'member')
"""

FUNCTIONS = r"""
alter table softpro.outbox add column login text not null default session_user;
update softpro.outbox set login = changed_by;
comment on column softpro.outbox.login is 'The database login that made the change.';
comment on column softpro.outbox.changed_by is
    'The user whom a trusted login named by the setting softpro.user, else the login.';

create function softpro.editor() returns text
    language sql stable
    return case
        when pg_has_role(session_user, 'softpro_web', 'member')
             or pg_has_role(session_user, 'softpro_application', 'member')
        then coalesce(nullif(current_setting('softpro.user', true), ''), session_user)
        else session_user
    end;
comment on function softpro.editor is 'The user who edits roi.';
"""

TRIGGERS = r"""
create or replace function softpro.before_edit_of_{table}() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_relid <> 'roi.{table}'::regclass then
        raise insufficient_privilege using message = 'this function serves roi.{table} only';
    end if;
    if tg_op = 'INSERT' then
        if new.{key} is not null then
            raise integrity_constraint_violation using message =
                '{key} is SoftPro''s id: leave it empty, and it is filled in once the record was sent there';
        end if;
        new.created_at := now();
        new.updated_at := now();
    elsif (new.{key}, new.organization_id, new.id) is distinct from (old.{key}, old.organization_id, old.id) then
        raise integrity_constraint_violation using message =
            'id, organization_id and {key} identify the record and can''t be changed';
    elsif (new.created_at, new.softpro_created_at, new.softpro_updated_at, new.mapping_version)
          is distinct from (old.created_at, old.softpro_created_at, old.softpro_updated_at, old.mapping_version) then
        raise integrity_constraint_violation using message =
            'created_at, softpro_created_at, softpro_updated_at and mapping_version are kept by the sync '
            'and can''t be changed';
    elsif old.deleted_at is not null and new.deleted_at is null and exists (
        select from raw.records r
        join softpro.integrations i on i.id = r.integration_id
        where i.organization_id = new.organization_id and r.entity_type = '{kind}' and r.entity_id = new.{key}
          and r.deleted_at is not null)
    then
        raise integrity_constraint_violation using message =
            'SoftPro has deleted this record for good: insert a new row';
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
    if tg_op = 'UPDATE' then
        -- Clients that set it mean this very update. Another value could hide the version from the history.
        new.updated_at := old.updated_at;
        if new is distinct from old then
            new.updated_at := greatest(now(), old.updated_at);
        end if;
    end if;
    return new;
end
$$;
comment on function softpro.before_edit_of_{table} is
    'Refuses edits that would turn a row into another record or that SoftPro can''t be sent. Sets updated_at.';

create or replace function softpro.note_edit_of_{table}() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    was jsonb;
    is_now jsonb;
    integration uuid;
    who text := softpro.editor();
    changed text[] := array['deleted_at'];
begin
    if tg_relid <> 'roi.{table}'::regclass then
        raise insufficient_privilege using message = 'this function serves roi.{table} only';
    end if;
    was := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    is_now := case when tg_op <> 'DELETE' then to_jsonb(new) end;
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
    -- A value that existed only within this transaction was no version.
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
            -- Changes of SoftPro since the delete were not loaded.
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
    'Writes an edit of roi: the replaced version to the history, the changed fields to the outbox.';

create or replace function softpro.note_truncate_of_{table}() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
begin
    if tg_relid <> 'roi.{table}'::regclass then
        raise insufficient_privilege using message = 'this function serves roi.{table} only';
    end if;
    insert into roi.{table}_history ({columns}, valid_from, valid_to, changed_fields)
    select {t_columns}, t.updated_at, greatest(now(), t.updated_at), array['deleted_at']
    from roi.{table} t
    where t.deleted_at is null;
    insert into softpro.outbox
        (integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, old_value, changed_by)
    select i.id, t.organization_id, '{kind}', t.id, t.{key}, 'DELETE', to_jsonb(t),
           softpro.editor()
    from roi.{table} t
    join softpro.integrations i on i.organization_id = t.organization_id
    where t.deleted_at is null;
    notify softpro_outbox;
    return null;
end
$$;
comment on function softpro.note_truncate_of_{table} is 'Writes a truncation as a delete of each row.';

drop trigger before_edit on roi.{table};
drop trigger note_edit on roi.{table};
drop trigger note_truncate on roi.{table};
create trigger before_edit before insert or update on roi.{table}
    for each row when (not ({is_loading})) execute function softpro.before_edit_of_{table}();
create trigger note_edit after insert or update or delete on roi.{table}
    for each row when (not ({is_loading})) execute function softpro.note_edit_of_{table}();
create trigger note_truncate before truncate on roi.{table}
    for each statement when (not ({is_loading})) execute function softpro.note_truncate_of_{table}();
revoke execute on function softpro.before_edit_of_{table}, softpro.note_edit_of_{table},
    softpro.note_truncate_of_{table} from softpro_web;
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
    execute(RIGHTS)
    execute(LOCKS)
    execute(FUNCTIONS)
    for kind, table, key in (
        ("TRANSACTION", "transactions", "softpro_order_id"),
        ("CONTACT", "contacts", "softpro_contact_id"),
    ):
        columns = execute(COLUMNS.format(table=table)).scalar_one()
        execute(
            TRIGGERS.format(
                kind=kind,
                table=table,
                key=key,
                columns=", ".join(columns),
                old_columns=", ".join(f"old.{column}" for column in columns),
                t_columns=", ".join(f"t.{column}" for column in columns),
                odd_times=" or ".join(ODD.format(column=column) for column in TIMES[table]) or "false",
                is_loading=IS_LOADING,
            )
        )
    for table in ("transactions", "contacts", "transaction_parties", "properties", "documents"):
        execute(VERSIONS.format(table=table))
        for reader in execute(READERS_OF_VERSIONS.format(table=table)).scalars().all():
            execute(f"grant select on roi.{table}, roi.{table}_history to {reader}")
