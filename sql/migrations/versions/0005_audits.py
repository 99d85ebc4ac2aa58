"""Deletes and audits: raw records marked as deleted, what a sweep saw, and where the two sides differ."""

from alembic import op

revision = "0005"
down_revision = "0004"

DELETED = """
alter table raw.records add column deleted_at timestamptz;
comment on column raw.records.deleted_at is
    'SoftPro has it no more; it is not mapped and never pending until SoftPro sends it again, which clears this';
"""

AUDITS = """
create table softpro.audits (
    id                uuid primary key default gen_random_uuid(),
    integration_id    uuid not null references softpro.integrations,
    organization_id   softpro.organization not null,
    entity_type       text not null,
    run_id            text not null,
    log_id            uuid not null,
    status            text not null default 'SWEEPING'
        check (status in
            ('SWEEPING', 'SWEPT', 'CONFIRMING', 'WAITING', 'DELETING', 'COMPLETED', 'FAILED', 'SUPERSEDED')),
    started_at        timestamptz not null default now(),
    swept_at          timestamptz,
    completed_at      timestamptz,
    synced_until      timestamptz,
    in_flux_from      timestamptz,
    vendor_count      bigint,
    vendor_hash       bit(128),
    our_count_before  bigint,
    our_hash_before   bit(128),
    our_count_after   bigint,
    our_hash_after    bit(128),
    in_flux           bigint not null default 0,
    missing_here      bigint not null default 0,
    differing         bigint not null default 0,
    missing_there     bigint not null default 0,
    not_loaded        bigint not null default 0,
    unreadable        bigint not null default 0,
    found             bigint not null default 0,
    unanswered        bigint not null default 0,
    deleted           bigint not null default 0,
    waiting           bigint not null default 0,
    limit_percent     double precision,
    limit_records     integer,
    decision          text check (decision in ('APPROVED', 'REJECTED', 'NO_ANSWER')),
    decided_by        text,
    decided_at        timestamptz,
    error_message     text
);
create unique index audits_open on softpro.audits (integration_id, entity_type)
    where status not in ('COMPLETED', 'FAILED', 'SUPERSEDED');
create index audits_by_run on softpro.audits (run_id);
create index audits_recent on softpro.audits (integration_id, entity_type, started_at desc);
comment on table softpro.audits is 'one complete sweep of a stream, and what became of the differences it found';
comment on column softpro.audits.run_id is 'the run that works on it now: a later one may take over what one left';
comment on column softpro.audits.synced_until is
    'the vendor''s clock: what changed after it had not been asked for when the sweep began; null: nothing had';
comment on column softpro.audits.in_flux_from is
    'the vendor''s clock when the sweep began, less what may surface late: what changed after it is in flux';
comment on column softpro.audits.vendor_hash is 'bit_xor of softpro.record_digest over what is counted';

create table softpro.audit_differences (
    audit_id        uuid not null references softpro.audits,
    organization_id softpro.organization not null,
    entity_id       text not null,
    kind            text not null check (kind in ('MISSING_HERE', 'DIFFERS', 'MISSING_THERE', 'NOT_LOADED')),
    vendor_hash     bytea,
    our_hash        bytea,
    outcome         text not null default 'OPEN'
        check (outcome in
            ('OPEN', 'HEALED', 'QUARANTINED', 'KEPT', 'FOUND', 'UNANSWERED', 'CONFIRMED', 'DELETED', 'SPARED')),
    missing_at      timestamptz,
    confirmed_at    timestamptz,
    error_message   text,
    primary key (audit_id, entity_id)
);
create index audit_differences_by_outcome on softpro.audit_differences (audit_id, outcome, entity_id);
comment on column softpro.audit_differences.missing_at is 'when the vendor first answered 404 to it';
comment on column softpro.audit_differences.confirmed_at is 'when it last did, the lag or more after the first';
"""

# Disposable, and written for every record of a sweep. A crash of the database empties it, which is noticed: the row
# with the empty id, which every audit begins with, is gone, and then nothing of that sweep is believed.
SEEN = """
create unlogged table softpro.audit_seen (
    audit_id           uuid not null,
    organization_id    softpro.organization not null,
    entity_id          text not null,
    payload_hash       bytea,
    softpro_updated_at timestamptz,
    held_hash          bytea,
    readable           boolean not null default true,
    primary key (audit_id, entity_id)
);
comment on table softpro.audit_seen is 'what an audit that is under way has seen at the vendor';
comment on column softpro.audit_seen.held_hash is 'of our version, just before this one was landed; null: we had none';
"""

DIGEST = """
create function softpro.record_digest(entity_id text, payload_hash bytea) returns bit
    language sql immutable strict parallel safe
    return ('x' || md5(entity_id || ' ' || encode(payload_hash, 'hex')))::bit(128);
comment on function softpro.record_digest is
    'a record''s part in the hash of a side: their bit_xor does not depend on any order';
"""


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    for statements in (DELETED, AUDITS, SEEN, DIGEST):
        execute(statements)
