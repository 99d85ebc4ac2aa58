"""Record which user changed what."""

from alembic import op

revision = "0017"
down_revision = "0016"

SQL = r"""
create table softpro.audit_log (
    id              bigint generated always as identity primary key,
    at              timestamptz not null default clock_timestamp(),
    user_name       text not null,
    source          text not null check (source in ('HTTP', 'COMMAND_LINE', 'AIRFLOW')),
    address         text,
    login           text not null default session_user,
    action          text not null,
    organization_id softpro.organization,
    subject         text,
    before          jsonb,
    after           jsonb
);
comment on table softpro.audit_log is 'Who changed what, from where. Rows are only added, and purged by age.';
comment on column softpro.audit_log.address is
    'The client''s network address over HTTP, the machine''s name at the command line.';
comment on column softpro.audit_log.login is 'The database login.';
comment on column softpro.audit_log.action is 'The change, as noun.verb.';
comment on column softpro.audit_log.organization_id is 'Null for a change of the whole installation.';
comment on column softpro.audit_log.subject is 'The id of the changed resource.';
comment on column softpro.audit_log.before is 'The changed values before, without secrets.';
comment on column softpro.audit_log.after is 'The changed values after, without secrets.';
create index audit_log_of_organization on softpro.audit_log (organization_id, id desc);
create index audit_log_at on softpro.audit_log (at);

create function softpro.keep_audit_log() returns trigger
    language plpgsql
as $$
begin
    if tg_op = 'DELETE' and old.at < now() - interval '30 days' then
        return old;
    end if;
    raise insufficient_privilege using message = 'entries of the audit log can''t be changed, nor deleted for 30 days';
end
$$;
comment on function softpro.keep_audit_log is 'Refuses changes of the audit log, and deletes of its recent entries.';
create trigger keep_rows before update or delete on softpro.audit_log
    for each row execute function softpro.keep_audit_log();
create trigger keep_table before truncate on softpro.audit_log
    for each statement execute function softpro.keep_audit_log();
revoke update, delete on softpro.audit_log from softpro_web;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
