"""Mapping rules for both ways, validation rules, and which version of a set made a row."""

from alembic import op

revision = "0007"
down_revision = "0006"

SQL = r"""
alter table softpro.mappings add column validation_rules jsonb;

alter table softpro.mapping_versions add column restores integer;
comment on column softpro.mapping_versions.restores is 'the earlier version that this one is a copy of';

alter table softpro.sync_logs add column mapping_version integer;
comment on column softpro.sync_logs.mapping_version is 'of the set that the run mapped by';

alter table softpro.quarantine add column mapping_version integer;
comment on column softpro.quarantine.mapping_version is 'of the set that the record failed by; null: none';

-- A rule for one way was only ever used from SoftPro; now the direction says so.
with one_way as (
    update softpro.mappings
    set direction = 'SOFTPRO_TO_ROI', updated_at = now()
    where jsonb_typeof(transformation_rule) = 'string' and direction = 'BIDIRECTIONAL'
    returning integration_id, organization_id, entity_type
),
latest as (
    select distinct on (integration_id, entity_type) *
    from softpro.mapping_versions
    where (integration_id, entity_type) in (select integration_id, entity_type from one_way)
    order by integration_id, entity_type, version desc
)
insert into softpro.mapping_versions (integration_id, organization_id, entity_type, version, author, mappings)
select integration_id, organization_id, entity_type, version + 1, 'migration 0007',
       (
           select jsonb_agg(
               case when jsonb_typeof(mapping -> 'transformation_rule') = 'string'
                         and mapping ->> 'direction' = 'BIDIRECTIONAL'
                    then mapping || '{"direction": "SOFTPRO_TO_ROI"}' else mapping end
               order by position)
           from jsonb_array_elements(mappings) with ordinality as m (mapping, position)
       )
from latest;
"""

# The views stay, and so does what was granted on them, and what was made of them: a column more stands at their end.
MADE_BY = """
alter table roi.{table} add column mapping_version integer;
alter table roi.{table}_history add column mapping_version integer;
alter table staging.{table} add column mapping_version integer;
comment on column roi.{table}.mapping_version is 'of the mapping set that made this version of the row';
create or replace view roi.{table}_versions as
    select {columns}, valid_from, valid_to, changed_fields, mapping_version from roi.{table}_history
    union all
    select {columns}, updated_at, 'infinity'::timestamptz, '{{}}'::text[], mapping_version from roi.{table};
"""
COLUMNS = """
select string_agg(quote_ident(attname), ', ' order by attnum)
from pg_attribute
where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped
"""


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    execute(SQL)
    for table in ("transactions", "contacts"):
        columns = execute(COLUMNS.format(table=f"roi.{table}")).scalar()
        execute(MADE_BY.format(table=table, columns=columns))
