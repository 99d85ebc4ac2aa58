"""Webhook events that people try again: who did, and when."""

from alembic import op

revision = "0013"
down_revision = "0012"

SQL = """
alter table softpro.webhook_events add column decisions jsonb not null default '[]';
comment on column softpro.webhook_events.decisions is 'what people decided about it, in order: decision, by, at';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)  # as written: no bind parameters are looked for
