"""What talking to the vendor from many processes takes: budget, circuit breaker, creates under way, capabilities."""

from alembic import op

revision = "0003"
down_revision = "0002"

GRANTS = """
alter table softpro.integrations add column refresh_token_issued_at timestamptz;
comment on column softpro.integrations.refresh_token_issued_at is
    'when the vendor last gave a refresh token: its 30 days run from here';
update softpro.integrations set refresh_token_issued_at = token_issued_at where refresh_token is not null;

alter table softpro.oauth_states add column redirect_path text;
comment on column softpro.oauth_states.redirect_path is 'where in the frontend the browser goes afterwards';
"""

# The requests are unlogged: each is written twice or thrice, and a crash empties the table, which is how a crash is
# noticed: the row of the integration's own id is gone. `budgets` is logged: it tells a crash from one that never asked.
BUDGETS = """
create table softpro.budgets (
    integration_id  uuid primary key references softpro.integrations,
    organization_id softpro.organization not null,
    announced_limit integer,
    not_before      timestamptz,
    in_transfer     timestamptz
);
comment on column softpro.budgets.announced_limit is 'requests a minute, as the vendor''s X-RateLimit-Limit last said';
comment on column softpro.budgets.not_before is 'nothing is sent until then: Retry-After, or the database crashed';
comment on column softpro.budgets.in_transfer is 'the last moment at which a long transfer may still be counted';

create unlogged table softpro.budget_requests (
    ticket          uuid primary key,
    integration_id  uuid not null,
    organization_id softpro.organization not null,
    place           bigint generated always as identity,
    bulk            boolean not null,
    waiting         boolean not null,
    sent_at         timestamptz not null,
    free_at         timestamptz not null
);
comment on column softpro.budget_requests.place is 'in the queue';
comment on column softpro.budget_requests.sent_at is 'of one that waits: when it may be sent at the earliest';
comment on column softpro.budget_requests.free_at is
    'a window after the answer arrived; until it does, a window after the last moment it could';
create index budget_requests_free on softpro.budget_requests (integration_id, free_at);
"""

# When a request can be sent. It counts who is in the window, and who of its like waits before it. One that is out is
# taken to be answered now at the earliest: so nobody sleeps too long, and who wakes too early looks again.
NEXT_FREE = """
create function softpro.next_free(
    budget softpro.budgets, before bigint, configured integer, reserve double precision, is_bulk boolean,
    span interval, moment timestamptz, out start timestamptz, out left_over integer)
language plpgsql stable as $$
declare
    most      integer := least(configured, budget.announced_limit);
    most_bulk integer := most;
    busy      integer;
    busy_bulk integer;
begin
    if is_bulk and most > 1 then
        most_bulk := greatest(most - ceil(round((most * reserve)::numeric, 6))::integer, 1);
    end if;
    select count(*), count(*) filter (where r.bulk)
    into busy, busy_bulk
    from softpro.budget_requests r
    where r.integration_id = budget.integration_id and r.free_at > moment
      and (not r.waiting or (r.place < before and (is_bulk or not r.bulk)));
    start := greatest(moment, budget.not_before);
    left_over := greatest(most - busy - 1, 0);
    if busy < most and (not is_bulk or busy_bulk < most_bulk) then
        return;
    end if;
    with taken as (
        select r.bulk, r.waiting,
               case when r.waiting then greatest(r.sent_at, moment) + span
                    when r.free_at > moment + span then moment + span
                    else r.free_at end as free_at
        from softpro.budget_requests r
        where r.integration_id = budget.integration_id and r.free_at > moment
          and (not r.waiting or (r.place < before and (is_bulk or not r.bulk)))
    ), ranked as (
        select free_at, bulk,
               row_number() over (order by free_at desc) as rank,
               row_number() over (partition by bulk order by free_at desc) as rank_of_kind
        from taken
    )
    select greatest(start, max(free_at) filter (where rank >= most),
                    max(free_at) filter (where is_bulk and bulk and rank_of_kind >= most_bulk))
    into start
    from ranked;
end $$;
comment on function softpro.next_free is 'when a request at this place in the queue can be sent at the earliest';
"""

TAKE_SLOT = """
create function softpro.take_slot(
    wanted uuid, new_ticket uuid, configured integer, reserve double precision, is_bulk boolean,
    hold interval, span interval, patience interval,
    out taken boolean, out wait interval, out left_over integer)
language plpgsql as $$
declare
    budget softpro.budgets;
    start  timestamptz;
    moment timestamptz;
begin
    perform set_config('synchronous_commit', 'off', true);  -- a crash that loses this empties the requests as well
    select * into budget from softpro.budgets where integration_id = wanted for update;
    if not found then
        perform set_config('synchronous_commit', 'on', true);  -- but not this row
        insert into softpro.budgets (integration_id, organization_id)
        select id, organization_id from softpro.integrations where id = wanted
        on conflict do nothing;
        select * into strict budget from softpro.budgets where integration_id = wanted for update;
        moment := clock_timestamp();
        insert into softpro.budget_requests
        values (wanted, wanted, budget.organization_id, default, false, false, '-infinity', '-infinity')
        on conflict do nothing;
    end if;
    moment := clock_timestamp();
    if not exists (select from softpro.budget_requests where ticket = wanted) then
        -- The database crashed: the window counts as full, and what was on its way then may be counted late.
        update softpro.budgets set not_before = greatest(not_before, moment + hold + span, in_transfer + span)
        where integration_id = wanted
        returning not_before into budget.not_before;
        insert into softpro.budget_requests
        values (wanted, wanted, budget.organization_id, default, false, false, '-infinity', '-infinity');
    end if;
    delete from softpro.budget_requests  -- what is free is kept while a request can be out that was sent before
    where integration_id = wanted and free_at <= moment - hold and ticket <> wanted;

    select * into start, left_over
    from softpro.next_free(budget, 9223372036854775807, configured, reserve, is_bulk, span, moment);
    wait := start - moment;
    taken := patience is null or wait <= patience;
    if not taken then
        return;
    end if;
    insert into softpro.budget_requests
    values (new_ticket, wanted, budget.organization_id, default, is_bulk, wait > interval '0', start,
            start + hold + span);
    if hold > interval '3 minutes' then
        perform set_config('synchronous_commit', 'on', true);
        update softpro.budgets set in_transfer = greatest(in_transfer, start + hold) where integration_id = wanted;
    end if;
end $$;
comment on function softpro.take_slot is
    'queues a request and says how long it waits, or nothing where that is beyond the patience';
"""

CONFIRM_SLOT = """
create function softpro.confirm_slot(
    wanted uuid, held uuid, configured integer, reserve double precision, hold interval, span interval)
returns interval language plpgsql as $$
declare
    budget softpro.budgets;
    queued softpro.budget_requests;
    start  timestamptz;
    moment timestamptz;
begin
    perform set_config('synchronous_commit', 'off', true);
    select * into strict budget from softpro.budgets where integration_id = wanted for update;
    moment := clock_timestamp();
    select * into queued from softpro.budget_requests where ticket = held;
    if not found then
        return null;
    end if;
    select n.start into start
    from softpro.next_free(budget, queued.place, configured, reserve, queued.bulk, span, moment) n;
    update softpro.budget_requests set waiting = start > moment, sent_at = start, free_at = start + hold + span
    where ticket = held;
    return start - moment;
end $$;
comment on function softpro.confirm_slot is
    'after the wait: how much longer, as of what is known by now; null where the request is gone (a crash)';
"""

SETTLE_SLOT = """
create function softpro.settle_slot(
    wanted uuid, held uuid, configured integer, span interval,
    announced integer, remaining integer, retry_after interval)
returns void language plpgsql as $$
declare
    owner   softpro.organization;
    sent    timestamptz;
    moment  timestamptz;
    surplus integer;
begin
    perform set_config('synchronous_commit', 'off', true);
    select organization_id into owner from softpro.budgets where integration_id = wanted for update;
    moment := clock_timestamp();
    update softpro.budget_requests set free_at = moment + span
    where ticket = held
    returning sent_at into sent;
    update softpro.budgets
    set announced_limit = coalesce(announced, announced_limit),
        not_before = greatest(not_before, moment + retry_after)
    where integration_id = wanted and (announced <> coalesce(announced_limit, 0) or retry_after is not null);
    if sent is null or remaining is null then
        return;
    end if;
    -- What was free all the while that this request was out: the vendor counted nothing of ours for it. Where it has
    -- fewer left, somebody else uses the grant, or the limit fell: as much is taken for a window.
    select least(configured, announced) - count(*) filter (where free_at > sent and not waiting) - remaining
    into surplus
    from softpro.budget_requests
    where integration_id = wanted;
    insert into softpro.budget_requests
        (ticket, integration_id, organization_id, bulk, waiting, sent_at, free_at)
    select gen_random_uuid(), wanted, owner, false, false, moment, moment + span
    from generate_series(1, least(surplus, 10000));
end $$;
comment on function softpro.settle_slot is
    'the answer is there: its slot is free a window from now; and what the answer says of limit and window is heeded';
"""

BREAKERS = """
create table softpro.breakers (
    integration_id  uuid primary key references softpro.integrations,
    organization_id softpro.organization not null,
    failures        integer not null default 0,
    opened_at       timestamptz,
    openings        integer not null default 0,
    next_try_at     timestamptz,
    reason          text
);
comment on column softpro.breakers.failures is 'calls in a row that failed after all their retries';
comment on column softpro.breakers.openings is 'cool-downs in a row; each is twice as long as the one before';
"""

CREATES = """
create table softpro.creates (
    id              uuid primary key default gen_random_uuid(),
    integration_id  uuid not null references softpro.integrations,
    entity_type     text not null check (entity_type in ('TRANSACTION', 'CONTACT', 'PARTY', 'DOCUMENT')),
    roi_systems_id  text not null,
    organization_id softpro.organization not null,
    order_id        text,
    softpro_id      text,
    lookups         integer not null default 0,
    due_at          timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    unique (integration_id, entity_type, roi_systems_id)
);
comment on column softpro.creates.roi_systems_id is 'customFields.roiSystemsId of the record: it is found again by it';
comment on column softpro.creates.order_id is 'the order of a party or document';
comment on column softpro.creates.softpro_id is 'the vendor''s id, once it is known that the record is there';
comment on column softpro.creates.lookups is 'times it was looked for since it was last sent, and not found';
comment on column softpro.creates.due_at is 'its fate is unknown: not to be looked for, or sent, before then';
create index creates_due on softpro.creates (integration_id, due_at) where softpro_id is null;
"""

CAPABILITIES = """
create table softpro.capabilities (
    integration_id       uuid primary key references softpro.integrations,
    organization_id      softpro.organization not null,
    filters_updated_from boolean,
    sorts_by_updated_at  boolean,
    sends_etags          boolean,
    page_limit           integer,
    report               jsonb,
    probed_at            timestamptz,
    updated_at           timestamptz not null default now()
);
comment on table softpro.capabilities is
    'what the vendor turned out to do, by a probe or by the sync itself; null: not known, the contract is believed';

create table softpro.statuses (
    integration_id  uuid primary key references softpro.integrations,
    organization_id softpro.organization not null,
    statuses        json not null,
    fetched_at      timestamptz not null default now()
);

alter table softpro.cursors add column sweep_visible_until timestamptz;
comment on column softpro.cursors.sweep_visible_until is
    'of a sweep by offset under way, where lists can''t be paged by time: changes up to then are in once it ends';
"""


def upgrade() -> None:
    execute = op.get_bind().exec_driver_sql  # as written: no bind parameters are looked for
    for statements in (GRANTS, BUDGETS, NEXT_FREE, TAKE_SLOT, CONFIRM_SLOT, SETTLE_SLOT):
        execute(statements)
    for statements in (BREAKERS, CREATES, CAPABILITIES):
        execute(statements)
