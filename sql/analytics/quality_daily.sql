create view analytics.quality_daily as
select organization_id, entity_type, (checked_at at time zone 'UTC')::date as day, expectation, column_name, severity,
       level, count(distinct log_id) as runs, sum(records)::bigint as records, sum(unexpected)::bigint as unexpected,
       sum(unexpected) / nullif(sum(records), 0) as unexpected_share
from softpro.check_results
group by organization_id, entity_type, (checked_at at time zone 'UTC')::date, expectation, column_name, severity, level;

comment on view analytics.quality_daily is
    'what the checks found, by organization, day (UTC), expectation and column; unexpected_share is of 1';
