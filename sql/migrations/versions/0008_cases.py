"""How a quarantine case was closed, by whom and why; corrections of records by hand; runs that replay."""

from alembic import op

revision = "0008"
down_revision = "0007"

SQL = r"""
alter table softpro.quarantine
    add column resolution text check (resolution in ('LOADED', 'EDITED', 'DISCARDED')),
    add column resolved_by text,
    add column resolution_reason text,
    add column edited_payload bytea,
    add column edited_hash bytea,
    add column edited_by text,
    add column edited_at timestamptz,
    add column decisions jsonb not null default '[]';
update softpro.quarantine set resolution = 'LOADED' where resolved_at is not null;
comment on column softpro.quarantine.resolution is
    'null while open; LOADED: a good version loaded; EDITED: a person''s correction did; DISCARDED: not to be loaded';
comment on column softpro.quarantine.edited_payload is
    'a person''s correction of payload, which landed in raw in its place';
comment on column softpro.quarantine.decisions is
    'what people decided about the record, in order: decision (EDIT, DISCARD), by, at, reason';
-- Records without an id that a person gave one. Of the open ones there is no index: PostgreSQL, which may know nothing
-- of the table yet, would look each record up in it.
create index quarantine_named on softpro.quarantine (integration_id, entity_type, entity_id)
    where record_key <> entity_id;

create function softpro.is_decided(q softpro.quarantine, payload_hash bytea) returns boolean
    language sql immutable parallel safe
    return coalesce(
        q.resolved_at is not null and q.resolved_by is not null
        and (payload_hash = q.payload_hash or (q.resolution = 'DISCARDED' and payload_hash = q.edited_hash)),
        false);
comment on function softpro.is_decided is
    'a person closed the case knowing this payload: it stays closed when the same fails again';

create function softpro.decision(decision text, decided_by text, reason text) returns jsonb
    language sql stable
    return jsonb_build_object(
        'decision', decision, 'by', decided_by, 'reason', reason,
        'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
comment on function softpro.decision is 'what a person decides about a case now, as an entry of decisions';

alter table raw.records add column corrects bytea;
comment on column raw.records.corrects is
    'the hash of SoftPro''s version that a person''s correction stands in for; null: the payload is what SoftPro sent';

alter table softpro.sync_logs
    drop constraint sync_logs_mode_check,
    add constraint sync_logs_mode_check check (mode in ('incremental', 'delta', 'full', 'remap', 'replay'));
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)  # as written: no bind parameters are looked for
