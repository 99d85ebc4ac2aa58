"""Remember which streams have slow mapping rules, so that they are synced apart from the others."""

from alembic import op

revision = "0020"
down_revision = "0019"

SQL = """
alter table softpro.cursors add column slow_rules_at timestamptz;
comment on column softpro.cursors.slow_rules_at is
    'When the stream''s mapping rules last used up their time, or one was stopped.';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
