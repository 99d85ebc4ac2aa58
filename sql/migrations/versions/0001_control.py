"""The control schema: integrations, mappings, logs, cursors, leases, quarantine, conflicts, outbox."""

from alembic import op

revision = "0001"
down_revision = None

SQL = r"""
create domain softpro.organization as text
    check (char_length(value) between 1 and 128);

create table softpro.integrations (
    id                      uuid primary key,
    organization_id         softpro.organization not null unique,
    softpro_organization_id text,
    client_id               text not null,
    client_secret           text not null,
    environment             text not null default 'SANDBOX' check (environment in ('SANDBOX', 'PRODUCTION')),
    access_token            text,
    refresh_token           text,
    token_issued_at         timestamptz,
    token_expires_at        timestamptz,
    token_version           bigint not null default 0,
    refresh_uncertain       boolean not null default false,
    status                  text not null default 'PENDING'
        check (status in ('PENDING', 'AUTHENTICATING', 'CONNECTED', 'EXPIRED', 'ERROR', 'DISCONNECTED')),
    last_sync_at            timestamptz,
    last_error_at           timestamptz,
    last_error_message      text,
    sync_enabled            boolean not null default true,
    sync_frequency          integer not null check (sync_frequency > 0),
    sync_transactions       boolean not null default true,
    sync_documents          boolean not null default false,
    sync_contacts           boolean not null default true,
    webhooks_enabled        boolean not null default false,
    conflict_strategy       text not null default 'SOFTPRO_WINS'
        check (conflict_strategy in ('SOFTPRO_WINS', 'ROI_WINS', 'NEWEST_WINS', 'MERGE', 'MANUAL_REVIEW')),
    consecutive_failures    integer not null default 0,
    next_attempt_at         timestamptz,
    metadata                jsonb,
    created_at              timestamptz not null default now(),
    updated_at              timestamptz not null default now(),
    deleted_at              timestamptz
);
comment on column softpro.integrations.client_secret is 'AES-256-GCM, bound to this row and column';
comment on column softpro.integrations.access_token is 'AES-256-GCM, bound to this row and column';
comment on column softpro.integrations.refresh_token is 'AES-256-GCM, bound to this row and column';
comment on column softpro.integrations.refresh_uncertain is
    'a refresh was sent and its answer lost: the access token is used to its end before another one is tried';
comment on column softpro.integrations.sync_frequency is 'seconds';

create table softpro.oauth_states (
    state_hash      bytea primary key,
    integration_id  uuid not null references softpro.integrations,
    organization_id softpro.organization not null,
    client_id       text not null,
    client_secret   text not null,
    environment     text not null,
    code_verifier   text not null,
    browser_hash    bytea,
    user_name       text,
    created_at      timestamptz not null default now(),
    expires_at      timestamptz not null,
    used_at         timestamptz
);
comment on column softpro.oauth_states.browser_hash is
    'SHA-256 of the cookie of the browser that began; null: begun on the command line';

create table softpro.mappings (
    id                  uuid primary key default gen_random_uuid(),
    integration_id      uuid not null references softpro.integrations,
    organization_id     softpro.organization not null,
    entity_type         text not null check (entity_type in ('TRANSACTION', 'CONTACT', 'DOCUMENT')),
    softpro_field       text not null,
    roi_systems_field   text not null,
    direction           text not null check (direction in ('SOFTPRO_TO_ROI', 'ROI_TO_SOFTPRO', 'BIDIRECTIONAL')),
    transformation_rule jsonb,
    required            boolean not null default false,
    default_value       text,
    enabled             boolean not null default true,
    position            integer not null,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now()
);
create index mappings_set on softpro.mappings (integration_id, entity_type, position);
create unique index mappings_one_per_target on softpro.mappings (integration_id, entity_type, roi_systems_field)
    where enabled and direction <> 'ROI_TO_SOFTPRO';

create table softpro.mapping_versions (
    integration_id  uuid not null references softpro.integrations,
    entity_type     text not null,
    version         integer not null,
    organization_id softpro.organization not null,
    author          text not null,
    mappings        jsonb not null,
    created_at      timestamptz not null default now(),
    primary key (integration_id, entity_type, version)
);

create table softpro.sync_logs (
    id                uuid primary key,
    integration_id    uuid not null references softpro.integrations,
    organization_id   softpro.organization not null,
    run_id            text not null,
    sync_type         text not null check (sync_type in ('MANUAL', 'SCHEDULED', 'WEBHOOK')),
    entity_type       text not null check (entity_type in ('TRANSACTION', 'CONTACT', 'DOCUMENT')),
    entity_id         text,
    roi_entity_id     text,
    operation         text not null default 'SYNC' check (operation in ('CREATE', 'UPDATE', 'DELETE', 'SYNC')),
    direction         text not null default 'SOFTPRO_TO_ROI'
        check (direction in ('SOFTPRO_TO_ROI', 'ROI_TO_SOFTPRO', 'BIDIRECTIONAL')),
    mode              text not null check (mode in ('incremental', 'delta', 'full')),
    status            text not null
        check (status in ('PENDING', 'IN_PROGRESS', 'COMPLETED', 'PARTIAL_SUCCESS', 'FAILED', 'CANCELLED')),
    records_fetched   bigint not null default 0,
    records_processed bigint not null default 0,
    records_failed    bigint not null default 0,
    records_inserted  bigint not null default 0,
    records_updated   bigint not null default 0,
    api_requests      bigint not null default 0,
    warnings          jsonb not null default '{}',
    request_payload   jsonb,
    response_payload  jsonb,
    error_message     text,
    stack_trace       text,
    started_at        timestamptz not null default now(),
    completed_at      timestamptz,
    duration          integer,
    attempts          integer not null default 1,
    max_attempts      integer not null default 1,
    next_retry_at     timestamptz
);
comment on column softpro.sync_logs.duration is 'milliseconds';
comment on column softpro.sync_logs.warnings is 'records that loaded although unlikely: {expectation: count}';
create index sync_logs_recent on softpro.sync_logs (integration_id, started_at desc, id);
create index sync_logs_by_run on softpro.sync_logs (run_id);
create index sync_logs_open on softpro.sync_logs (integration_id, entity_type)
    where status in ('PENDING', 'IN_PROGRESS');

create table softpro.webhook_events (
    id                 uuid primary key default gen_random_uuid(),
    integration_id     uuid not null references softpro.integrations,
    organization_id    softpro.organization not null,
    event_type         text not null,
    event_id           text not null,
    entity_type        text not null,
    entity_id          text not null,
    payload            jsonb not null,
    headers            jsonb,
    signature          text,
    signature_verified boolean not null,
    processed          boolean not null default false,
    processed_at       timestamptz,
    processing_error   text,
    attempts           integer not null default 0,
    max_attempts       integer not null default 5,
    next_retry_at      timestamptz,
    received_at        timestamptz not null default now(),
    created_at         timestamptz not null default now(),
    unique (integration_id, event_id)
);

create table softpro.cursors (
    integration_id  uuid not null references softpro.integrations,
    entity_type     text not null,
    organization_id softpro.organization not null,
    updated_from    timestamptz,
    page_offset     integer not null default 0,
    last_updated_at timestamptz,
    last_id         text,
    sweep_mode      text check (sweep_mode in ('delta', 'full')),
    backlog         boolean not null default false,
    last_synced_at  timestamptz,
    failures        integer not null default 0,
    next_attempt_at timestamptz,
    updated_at      timestamptz not null default now(),
    primary key (integration_id, entity_type)
);
comment on column softpro.cursors.updated_from is 'the next list is asked from here; everything before it is in raw';
comment on column softpro.cursors.page_offset is 'position inside a page-filling group of equal updatedAt';
comment on column softpro.cursors.sweep_mode is 'a delta or full sweep that has not reached the end of the list yet';
comment on column softpro.cursors.backlog is 'the last run stopped before the end of the list';
comment on column softpro.cursors.failures is 'runs in a row that failed';
comment on column softpro.cursors.next_attempt_at is 'after a failure: not before then';
comment on column softpro.integrations.consecutive_failures is 'of its worst stream; the schedule is kept in cursors';
comment on column softpro.integrations.next_attempt_at is 'of its first stream to be tried again';

create table softpro.leases (
    integration_id  uuid not null references softpro.integrations,
    entity_type     text not null,
    organization_id softpro.organization not null,
    epoch           bigint not null default 0,
    log_id          uuid,
    backend_pid     integer,
    backend_start   timestamptz,
    expires_at      timestamptz,
    primary key (integration_id, entity_type)
);
create function softpro.is_free(lease softpro.leases) returns boolean
    language sql stable
    return lease.log_id is null
        or lease.expires_at < clock_timestamp()
        or (lease.backend_pid is not null and not exists (
            select from pg_stat_activity a
            where a.pid = lease.backend_pid
              -- hidden from other roles: then only the missing heartbeat tells
              and coalesce(a.backend_start, lease.backend_start) = lease.backend_start));
comment on function softpro.is_free is
    'nobody holds it: released, expired, or its owner''s database session is gone';
comment on column softpro.leases.backend_pid is 'the owner''s database session; null while a run is between two tasks';

create table softpro.quarantine (
    id              uuid primary key default gen_random_uuid(),
    integration_id  uuid not null references softpro.integrations,
    organization_id softpro.organization not null,
    entity_type     text not null,
    record_key      text not null,
    entity_id       text,
    payload         bytea not null,
    payload_hash    bytea not null,
    reasons         jsonb not null,
    log_id          uuid not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    resolved_at     timestamptz,
    unique (integration_id, entity_type, record_key)
);
comment on column softpro.quarantine.payload is
    'the record''s JSON, byte for byte as it was sent where jsonb can''t hold it';
comment on column softpro.quarantine.record_key is 'the entity id; for a record without one, the hash of its payload';

create table softpro.conflicts (
    id              uuid primary key default gen_random_uuid(),
    integration_id  uuid not null references softpro.integrations,
    organization_id softpro.organization not null,
    entity_type     text not null,
    entity_id       text not null,
    base            jsonb,
    softpro         jsonb,
    roi             jsonb,
    result          jsonb,
    strategy        text,
    status          text not null default 'OPEN' check (status in ('OPEN', 'RESOLVED')),
    resolved_by     text,
    resolved_at     timestamptz,
    created_at      timestamptz not null default now()
);

create table softpro.outbox (
    id              bigint generated always as identity primary key,
    integration_id  uuid not null references softpro.integrations,
    organization_id softpro.organization not null,
    entity_type     text not null,
    entity_id       text,
    roi_entity_id   uuid not null,
    operation       text not null check (operation in ('CREATE', 'UPDATE', 'DELETE')),
    old_values      jsonb,
    new_values      jsonb,
    changed_by      text not null,
    changed_at      timestamptz not null default now(),
    pushed_at       timestamptz
);
"""


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    execute(SQL)
