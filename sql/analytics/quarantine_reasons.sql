create view analytics.quarantine_reasons as
select q.organization_id, q.entity_type, reason ->> 'column' as column_name, reason ->> 'rule' as rule,
       count(distinct q.id) as open_cases, min(q.created_at) as since
from softpro.quarantine q
cross join jsonb_array_elements(q.reasons) reason
where q.resolved_at is null
group by q.organization_id, q.entity_type, reason ->> 'column', reason ->> 'rule';

comment on view analytics.quarantine_reasons is
    'why records are in quarantine now: open cases by organization, column and rule, and when the first was opened';
