"""SoftPro's ids are compared byte by byte: no language has rules for them, and those of an operating system change.

What a run has staged is found by the run alone.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

OF_ANY = {
    "raw.records": ["entity_id"],
    "raw.pending": ["entity_id"],
    "staging.transactions": ["softpro_order_id"],
    "staging.contacts": ["softpro_contact_id"],
    "staging.rejects": ["entity_id"],
    "softpro.quarantine": ["record_key", "entity_id"],
    "softpro.conflicts": ["entity_id"],
    "softpro.outbox": ["entity_id"],
    "softpro.sync_logs": ["entity_id"],
    "softpro.webhook_events": ["entity_id"],
    "softpro.cursors": ["last_id"],
    "softpro.audit_seen": ["entity_id"],
    "softpro.audit_differences": ["entity_id"],
}
OF_ROI = {
    "transactions": ["softpro_order_id"],
    "contacts": ["softpro_contact_id"],
    "transaction_parties": ["softpro_order_id", "softpro_party_id", "softpro_contact_id"],
    "properties": ["softpro_order_id", "softpro_property_id"],
    "documents": ["softpro_document_id", "softpro_order_id"],
}
RUN = ("transactions", "contacts")

# As they were made, on the columns as they are now.
VERSIONS = """
create view roi.{table}_versions as
    select h.* from roi.{table}_history h
    union all
    select t.*, t.updated_at, 'infinity'::timestamptz, '{{}}'::text[] from roi.{table} t;
comment on view roi.{table}_versions is
    'every version of every row: it stood from valid_from (inclusive) to valid_to; changed_fields is what replaced it';
"""
RUN_VIEW = """
create view staging.run_{table} as
    select * from staging.{table} where log_id = current_setting('softpro.log_id')::uuid;
comment on view staging.run_{table} is 'what the run staged whose log id the session has in softpro.log_id';
"""

# A run's rows are read as a whole, one after the other: with the key, the index cost more than it saved.
STAGED = """
drop index staging.{table}_log_id_{key}_idx;
create index on staging.{table} (log_id);
"""


# What was granted on the views, as statements that grant it again.
GRANTS = """
select 'grant ' || a.privilege_type || ' on ' || c.oid::regclass || ' to '
           || case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
           || case when a.is_grantable then ' with grant option' else '' end
from pg_class c
cross join aclexplode(c.relacl) a
where c.relkind = 'v' and c.relnamespace in ('roi'::regnamespace, 'staging'::regnamespace)
"""

FILLED = "select exists (select from {table})"


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    grants = execute(GRANTS).scalars().all()
    for table in OF_ROI:
        execute(f"drop view roi.{table}_versions")
    for table in RUN:
        execute(f"drop view staging.run_{table}")
    of_roi = {f"roi.{table}{suffix}": ids for table, ids in OF_ROI.items() for suffix in ("", "_history")}
    for table, ids in (OF_ANY | of_roi).items():
        changes = ", ".join(f'alter column {column} type text collate "C"' for column in ids)
        execute(f"alter table {table} {changes}")
    for table in RUN:
        execute(STAGED.format(table=table, key=OF_ANY[f"staging.{table}"][0]))
    for table in OF_ROI:
        execute(VERSIONS.format(table=table))
    for table in RUN:
        execute(RUN_VIEW.format(table=table))
    for grant in grants:
        execute(grant)
    for table in OF_ANY | of_roi:
        # What was known of the columns went with their former types. Of an empty table too much would be known.
        if execute(FILLED.format(table=table)).scalar():
            execute(f"analyze {table}")
