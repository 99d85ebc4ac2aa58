"""Which fields and codes SoftPro's records hold, and since when."""

from alembic import op

revision = "0010"
down_revision = "0009"

SQL = r"""
create table softpro.coverage (
    integration_id  uuid not null references softpro.integrations,
    organization_id softpro.organization not null,
    entity_type     text not null,
    records         bigint not null default 0,
    seen_until      timestamptz,
    baseline_at     timestamptz,
    refreshed_at    timestamptz,
    primary key (integration_id, entity_type)
);
comment on table softpro.coverage is 'how far each stream''s raw records were looked at for their fields';
comment on column softpro.coverage.records is 'versions of records that were looked at';
comment on column softpro.coverage.seen_until is 'what landed before it was looked at';
comment on column softpro.coverage.baseline_at is
    'fields and values that were first seen after it are new; null: no list was fetched to its end yet';

create table softpro.seen_fields (
    integration_id  uuid not null,
    organization_id softpro.organization not null,
    entity_type     text not null,
    path            text collate "C" not null,
    kinds           text[] not null,
    records         bigint not null,
    of_records      bigint not null,
    coded           boolean not null,
    first_seen_at   timestamptz not null,
    last_seen_at    timestamptz not null,
    primary key (integration_id, entity_type, path),
    foreign key (integration_id, entity_type) references softpro.coverage
);
comment on column softpro.seen_fields.path is 'dotted; [] stands for any place in a list';
comment on column softpro.seen_fields.kinds is 'the types of JSON that stood there';
comment on column softpro.seen_fields.records is 'versions of records that held it';
comment on column softpro.seen_fields.of_records is 'versions that had been looked at when it was seen last';
comment on column softpro.seen_fields.coded is 'false: more than 100 different texts stood there, so they are no codes';

create table softpro.seen_values (
    integration_id  uuid not null,
    organization_id softpro.organization not null,
    entity_type     text not null,
    path            text collate "C" not null,
    value           text collate "C" not null,
    records         bigint not null,
    first_seen_at   timestamptz not null,
    primary key (integration_id, entity_type, path, value)
);
comment on table softpro.seen_values is
    'texts that look like codes, of fields with at most 100 of them; never others: they may be personal';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)  # as written: no bind parameters are looked for
