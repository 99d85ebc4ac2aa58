"""Let sync logs say that an edit started a push."""

from alembic import op

revision = "0018"
down_revision = "0017"

SQL = """
alter table softpro.sync_logs drop constraint sync_logs_sync_type_check;
alter table softpro.sync_logs
    add constraint sync_logs_sync_type_check check (sync_type in ('MANUAL', 'SCHEDULED', 'WEBHOOK', 'EDIT')) not valid;
comment on column softpro.sync_logs.sync_type is
    'MANUAL: a user. SCHEDULED: the schedule. WEBHOOK: an event of SoftPro. EDIT: an edit of roi.';
comment on column softpro.sync_logs.roi_entity_id is 'The row of roi, if the run is about a single record.';
comment on column softpro.integrations.metadata is 'Unused. The specification names it and gives it no meaning.';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
