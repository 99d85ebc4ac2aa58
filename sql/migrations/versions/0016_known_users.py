"""Keep the teams and rights of users for tasks, which can't ask Airflow's auth manager."""

from alembic import op

revision = "0016"
down_revision = "0015"

SQL = r"""
create table softpro.known_users (
    user_name     text primary key,
    teams         text[] not null,
    may_configure boolean not null,
    seen_at       timestamptz not null default now()
);
comment on table softpro.known_users is
    'Teams and rights of users who started runs or answered questions through Airflow''s API.';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
