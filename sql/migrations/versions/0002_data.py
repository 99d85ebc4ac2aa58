"""The data schemas: raw, staging, roi with its histories, and the views analysts query."""

from alembic import op

revision = "0002"
down_revision = "0001"

RAW = """
create table raw.records (
    integration_id     uuid not null references softpro.integrations,
    organization_id    softpro.organization not null,
    entity_type        text not null,
    entity_id          text not null,
    payload            jsonb not null,
    payload_hash       bytea not null,
    pending            boolean not null default true,
    softpro_updated_at timestamptz not null,
    first_seen_at      timestamptz not null default now(),
    last_seen_at       timestamptz not null default now(),
    primary key (integration_id, entity_type, entity_id)
);
comment on column raw.records.pending is 'not settled yet: the payload changed since it was last mapped and loaded';
comment on column raw.records.last_seen_at is 'when this version was landed';
create index records_pending on raw.records (integration_id, entity_type, entity_id) where pending;
"""

ROI = """
create table roi.transactions (
    id                   uuid primary key default gen_random_uuid(),
    organization_id      softpro.organization not null,
    softpro_order_id     text not null,
    transaction_number   text,
    transaction_type     text,
    status               text,
    property_street      text,
    property_street2     text,
    property_city        text,
    property_state       text,
    property_zip         text,
    property_county      text,
    property_country     text,
    property_apn         text,
    property_latitude    numeric,
    property_longitude   numeric,
    property_type        text,
    purchase_price       numeric(14, 2),
    loan_amount          numeric(14, 2),
    down_payment         numeric(14, 2),
    closing_cost         numeric(14, 2),
    opened_at            timestamptz,
    estimated_closing_at timestamptz,
    actual_closing_at    timestamptz,
    escrow_officer_id    text,
    notes                text,
    custom               jsonb,
    softpro_created_at   timestamptz,
    softpro_updated_at   timestamptz not null,
    created_at           timestamptz not null default now(),
    updated_at           timestamptz not null default now(),
    deleted_at           timestamptz,
    unique (organization_id, softpro_order_id)
);

create table roi.contacts (
    id                 uuid primary key default gen_random_uuid(),
    organization_id    softpro.organization not null,
    softpro_contact_id text not null,
    contact_type       text,
    first_name         text,
    middle_name        text,
    last_name          text,
    suffix             text,
    email              text,
    phone              text,
    mobile_phone       text,
    fax                text,
    street             text,
    street2            text,
    city               text,
    state              text,
    zip                text,
    county             text,
    country            text,
    company            text,
    job_title          text,
    notes              text,
    custom             jsonb,
    softpro_created_at timestamptz,
    softpro_updated_at timestamptz not null,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    deleted_at         timestamptz,
    unique (organization_id, softpro_contact_id)
);

create table roi.transaction_parties (
    id                   uuid primary key default gen_random_uuid(),
    organization_id      softpro.organization not null,
    softpro_order_id     text not null,
    softpro_party_id     text not null,
    party_type           text,
    softpro_contact_id   text,
    ownership_percentage numeric,
    is_primary           boolean,
    entity_name          text,
    entity_type          text,
    notes                text,
    custom               jsonb,
    softpro_created_at   timestamptz,
    softpro_updated_at   timestamptz not null,
    created_at           timestamptz not null default now(),
    updated_at           timestamptz not null default now(),
    deleted_at           timestamptz,
    unique (organization_id, softpro_order_id, softpro_party_id)
);

create table roi.properties (
    id                  uuid primary key default gen_random_uuid(),
    organization_id     softpro.organization not null,
    softpro_order_id    text not null,
    softpro_property_id text not null,
    street              text,
    street2             text,
    city                text,
    state               text,
    zip                 text,
    county              text,
    country             text,
    apn                 text,
    latitude            numeric,
    longitude           numeric,
    property_type       text,
    legal_description   text,
    parcel_number       text,
    lot_number          text,
    block               text,
    subdivision         text,
    year_built          integer,
    square_footage      numeric,
    bedrooms            numeric,
    bathrooms           numeric,
    zoning              text,
    current_use         text,
    custom              jsonb,
    softpro_created_at  timestamptz,
    softpro_updated_at  timestamptz not null,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    deleted_at          timestamptz,
    unique (organization_id, softpro_order_id, softpro_property_id)
);

create table roi.documents (
    id                  uuid primary key default gen_random_uuid(),
    organization_id     softpro.organization not null,
    softpro_document_id text not null,
    softpro_order_id    text not null,
    document_name       text,
    document_type       text,
    category            text,
    file_name           text,
    file_size           bigint,
    mime_type           text,
    status              text,
    version             text,
    version_notes       text,
    description         text,
    tags                jsonb,
    custom              jsonb,
    uploaded_at         timestamptz,
    softpro_created_at  timestamptz,
    softpro_updated_at  timestamptz not null,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    deleted_at          timestamptz,
    unique (organization_id, softpro_document_id)
);
"""

# A replaced version keeps every column of its row. The view adds the version that stands now.
HISTORY = """
create table roi.{table}_history (
    like roi.{table},
    valid_from     timestamptz not null,
    valid_to       timestamptz not null,
    changed_fields text[] not null
);
create index {table}_history_by_row on roi.{table}_history (id, valid_from);
create view roi.{table}_versions as
    select h.* from roi.{table}_history h
    union all
    select t.*, t.updated_at, 'infinity'::timestamptz, '{{}}'::text[] from roi.{table} t;
comment on view roi.{table}_versions is
    'every version of every row: it stood from valid_from (inclusive) to valid_to; changed_fields is what replaced it';
"""

# Staging is disposable and keyed by log: losing it after a database crash costs one more mapping.
STAGING = """
create unlogged table staging.{table} (
    like roi.{table},
    log_id       uuid not null,
    payload_hash bytea not null
);
alter table staging.{table}
    drop column id,
    drop column created_at,
    drop column updated_at,
    drop column deleted_at;
create index on staging.{table} (log_id, {key});
"""

MONEY = ("purchase_price", "loan_amount", "down_payment", "closing_cost")

REJECTS = """
create unlogged table staging.rejects (
    log_id          uuid not null,
    organization_id softpro.organization not null,
    entity_id       text not null,
    payload_hash    bytea not null,
    reasons         jsonb not null,
    checked         boolean not null default false
);
comment on column staging.rejects.checked is 'rejected by the quality suite, not by the mapping';
create index on staging.rejects (log_id, entity_id);
"""


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    execute(RAW)
    execute(ROI)
    for table in ("transactions", "contacts", "transaction_parties", "properties", "documents"):
        execute(HISTORY.format(table=table))
    for table, key in (("transactions", "softpro_order_id"), ("contacts", "softpro_contact_id")):
        execute(STAGING.format(table=table, key=key))
    # The quality suite judges the range of money, so staging must be able to hold what does not fit.
    execute("alter table staging.transactions " + ", ".join(f"alter column {c} type numeric" for c in MONEY))
    execute(REJECTS)
