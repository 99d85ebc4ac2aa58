"""Who is confined to which organizations, how often each person started a run, and the client that connects next."""

from alembic import op

revision = "0012"
down_revision = "0011"

SQL = r"""
create table softpro.confinements (
    subject_kind    text not null check (subject_kind in ('USER', 'TEAM')),
    subject         text not null check (char_length(subject) between 1 and 256),
    organization_id softpro.organization not null,
    created_at      timestamptz not null default now(),
    created_by      text not null,
    primary key (subject_kind, subject, organization_id)
);
comment on table softpro.confinements is
    'who may see these organizations only; somebody who is named in no row may see all of them';
comment on column softpro.confinements.subject is
    'the name of a user, or of a team or role, as Airflow''s auth manager knows it';

create unlogged table softpro.sync_calls (
    user_name text not null,
    called_at timestamptz not null default clock_timestamp()
);
create index sync_calls_of on softpro.sync_calls (user_name, called_at);
comment on table softpro.sync_calls is 'who asked for a run within the last minute, of whichever organization';

alter table softpro.integrations
    add column next_client_id     text,
    add column next_client_secret text,
    add column next_environment   text check (next_environment in ('SANDBOX', 'PRODUCTION')),
    add constraint integrations_next_client check ((next_client_id is null) = (next_client_secret is null));
comment on column softpro.integrations.next_client_id is
    'the OAuth client that connect asks consent for; null: the one of the environment';
comment on column softpro.integrations.next_client_secret is 'AES-256-GCM, bound to this row and column';
comment on column softpro.integrations.next_environment is 'what connect asks consent for; null: what is in force';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)  # as written: no bind parameters are looked for
