"""Webhook events on their way: what each waits for, and how it was settled; runs over single records."""

from alembic import op

revision = "0011"
down_revision = "0010"

SQL = r"""
alter table softpro.webhook_events
    add column priority          smallint not null default 1,
    add column deliveries        integer not null default 1,
    add column record_updated_at timestamptz,
    add column missing_at        timestamptz,
    add column outcome           text check (outcome in ('FETCHED', 'DELETED', 'GONE', 'IGNORED')),
    add column log_id            uuid,
    add column status            text generated always as (
        case when processed then 'PROCESSED' when attempts >= max_attempts then 'FAILED'
             when attempts > 0 then 'RETRYING' else 'PENDING' end) stored;
alter table softpro.webhook_events alter column received_at set default clock_timestamp();
comment on column softpro.webhook_events.priority is '0: of a status, or a closing, and first; 1: any other';
comment on column softpro.webhook_events.deliveries is 'times that it came';
comment on column softpro.webhook_events.record_updated_at is
    'the updatedAt of the record that it carries; null: it carries none';
comment on column softpro.webhook_events.missing_at is
    'when its record was asked for that SoftPro answered 404 for; a second 404 confirms it';
comment on column softpro.webhook_events.outcome is
    'how it was settled: its record was fetched, was deleted here, is neither there nor here, or is not synced';
comment on column softpro.webhook_events.log_id is 'the sync log of the run that settled it, or tried last';

create index webhook_events_recent on softpro.webhook_events (integration_id, received_at desc, id);
create index webhook_events_waiting on softpro.webhook_events (integration_id, entity_type, entity_id)
    where not processed;
create index webhook_events_due on softpro.webhook_events ((coalesce(next_retry_at, received_at)))
    where status in ('PENDING', 'RETRYING');
create index webhook_events_failed on softpro.webhook_events (integration_id) where status = 'FAILED';
create index webhook_events_settled on softpro.webhook_events (processed_at) where processed;
create index webhook_events_deleted on softpro.webhook_events (integration_id, entity_type, processed_at)
    where outcome = 'DELETED';

alter table softpro.cursors add column load_due_at timestamptz;
comment on column softpro.cursors.load_due_at is
    'since when records that webhooks, or a person by name, had fetched may be pending, and are to be loaded';
create index cursors_load_due on softpro.cursors (load_due_at) where load_due_at is not null;

alter table softpro.sync_logs drop constraint sync_logs_mode_check,
    add constraint sync_logs_mode_check
        check (mode in ('incremental', 'delta', 'full', 'remap', 'replay', 'records'));
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)  # as written: no bind parameters are looked for
