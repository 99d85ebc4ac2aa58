"""What is pending stands in a table of its own: to mark a record, or to clear it, no longer rewrites its payload."""

from alembic import op

revision = "0004"
down_revision = "0003"

SQL = """
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
    drop constraint records_integration_id_fkey;
"""


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    execute(SQL)
