"""What is pending in a table of its own; the reason of each run; runs that map all again."""

from alembic import op

revision = "0004"
down_revision = "0003"

# To mark a record as pending, or to clear that, rewrites its payload no longer.
PENDING = """
create table raw.pending (
    integration_id  uuid not null,
    organization_id softpro.organization not null,
    entity_type     text not null,
    entity_id       text not null,
    payload_hash    bytea not null,
    primary key (integration_id, entity_type, entity_id)
);
comment on table raw.pending is
    'records whose payload changed since they were last mapped and loaded; the hash is that of raw.records';

insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
select integration_id, organization_id, entity_type, entity_id, payload_hash
from raw.records
where pending;

drop index raw.records_pending;
alter table raw.records
    drop column pending,
    -- It was asked for every record that lands, and never broken: integrations are not deleted.
    drop constraint records_integration_id_fkey,
    -- Else the records of more than 2 kB, a part of them all, are compressed one by one.
    set (toast_tuple_target = 8160);
"""


# Of a view Great Expectations finds the columns in the catalog; to find those of a query it fetches all its rows.
RUN = """
create view staging.run_{table} as
    select * from staging.{table} where log_id = current_setting('softpro.log_id')::uuid;
comment on view staging.run_{table} is 'what the run staged whose log id the session has in softpro.log_id';
"""

LOGS = """
alter table softpro.sync_logs
    add column reason text,
    drop constraint sync_logs_mode_check,
    add constraint sync_logs_mode_check check (mode in ('incremental', 'delta', 'full', 'remap'));
comment on column softpro.sync_logs.reason is 'why the run fetched, or did not fetch, what it did';
comment on column softpro.sync_logs.request_payload is
    'of a failed run: the call that failed, without personal data and secrets';
comment on column softpro.sync_logs.response_payload is
    'of a failed run: what the vendor answered, without personal data and secrets';
"""


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    execute(PENDING)
    for table in ("transactions", "contacts"):
        execute(RUN.format(table=table))
    execute(LOGS)
