"""What the checks found, kept for analysts; batches that wait for a person; what a full sweep should come to."""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"

ANALYTICS = Path(__file__).resolve().parents[2] / "analytics"

# A column is null for what is judged as a whole; two of those are the same all the same.
RESULTS = """
create table softpro.check_results (
    organization_id softpro.organization not null,
    integration_id  uuid not null,
    entity_type     text not null,
    log_id          uuid not null,
    expectation     text not null,
    column_name     text,
    severity        text not null check (severity in ('critical', 'warning')),
    level           text not null check (level in ('row', 'batch')),
    kwargs          jsonb not null,
    records         bigint not null,
    unexpected      bigint not null,
    success         boolean not null,
    checked_at      timestamptz not null default now()
);
create unique index check_results_once on softpro.check_results
    (log_id, expectation, column_name, severity, level, md5(kwargs::text)) nulls not distinct;
create index check_results_by_day on softpro.check_results (organization_id, expectation, column_name, checked_at);
create index check_results_by_age on softpro.check_results (checked_at);
comment on table softpro.check_results is 'what each run''s checks found; the parts of a run are added up';
comment on column softpro.check_results.records is 'that were judged';
comment on column softpro.check_results.unexpected is 'of these: that break the expectation; 0 where it was kept';

create unlogged table staging.check_results (
    log_id          uuid not null,
    organization_id softpro.organization not null,
    expectation     text not null,
    column_name     text,
    severity        text not null,
    level           text not null,
    kwargs          jsonb not null,
    records         bigint not null,
    unexpected      bigint not null,
    success         boolean not null
);
create index on staging.check_results (log_id);
comment on table staging.check_results is 'of the batch that a run has staged; added up once that is loaded, or held';
"""

HOLDS = """
create table softpro.holds (
    id              uuid primary key default gen_random_uuid(),
    integration_id  uuid not null references softpro.integrations,
    organization_id softpro.organization not null,
    entity_type     text not null,
    log_id          uuid not null,
    status          text not null default 'WAITING'
        check (status in ('WAITING', 'APPROVED', 'REJECTED', 'LOADED', 'CLEARED')),
    findings        jsonb not null,
    records         bigint not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    decided_by      text,
    decided_at      timestamptz,
    reason          text,
    asked_in        text,
    asked_at        timestamptz
);
create unique index holds_one_open on softpro.holds (integration_id, entity_type)
    where status in ('WAITING', 'APPROVED');
create index holds_recent on softpro.holds (integration_id, created_at desc, id);
comment on table softpro.holds is 'batches that were not loaded because of what was found in them as a whole';
comment on column softpro.holds.log_id is 'of the run that found it last';
comment on column softpro.holds.findings is 'a list of {column, rule, message}';
comment on column softpro.holds.records is 'in the batch';
comment on column softpro.holds.asked_in is 'the Airflow run that asks a person about it, since asked_at';
"""

SWEEP = """
alter table softpro.cursors add column sweep_total bigint;
comment on column softpro.cursors.sweep_total is
    'records that the list held when a full sweep began; null once all that it brought is loaded';
"""


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    for statements in (RESULTS, HOLDS, SWEEP):
        execute(statements)
    for view in ("quality_daily", "quarantine_reasons"):
        execute((ANALYTICS / f"{view}.sql").read_text(encoding="utf-8"))
