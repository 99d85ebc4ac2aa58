"""Count the requests of strangers that were refused."""

from alembic import op

revision = "0019"
down_revision = "0018"

SQL = r"""
create table softpro.refusals (
    hour           timestamptz not null,
    kind           text not null check (kind in ('WEBHOOK_SIGNATURE', 'WEBHOOK_TIMESTAMP', 'OAUTH_STATE')),
    integration_id uuid references softpro.integrations on delete cascade,
    requests       bigint not null check (requests > 0),
    last_at        timestamptz not null,
    unique nulls not distinct (hour, kind, integration_id)
);
comment on table softpro.refusals is 'Counts of refused requests that nobody logged in for, by hour. Purged by age.';
comment on column softpro.refusals.kind is
    'A webhook with a missing or wrong signature, one with an old timestamp, or an unusable state of an authorization.';
comment on column softpro.refusals.integration_id is
    'The integration in the webhook''s address. Null if the request names none that exists.';
comment on column softpro.refusals.last_at is 'When an API server wrote the last of them, seconds after the request.';
create index refusals_of_integration on softpro.refusals (integration_id, hour);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
