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

# The slots are unlogged: they are written twice for every request, and a crash empties them, which is how a crash is
# noticed. The row in `budgets` is logged: it tells a crash from an integration that never asked.
BUDGETS = """
create table softpro.budgets (
    integration_id  uuid primary key references softpro.integrations,
    organization_id softpro.organization not null,
    announced_limit integer,
    not_before      timestamptz
);
comment on column softpro.budgets.announced_limit is 'requests a minute, as the vendor''s X-RateLimit-Limit last said';
comment on column softpro.budgets.not_before is 'nothing is sent until then: Retry-After, or the database crashed';

create unlogged table softpro.budget_slots (
    integration_id  uuid not null,
    slot            integer not null,
    organization_id softpro.organization not null,
    ticket          uuid not null,
    bulk            boolean not null,
    sent_at         timestamptz not null,
    free_at         timestamptz not null,
    primary key (integration_id, slot)
);
comment on column softpro.budget_slots.ticket is 'the request that took it last';
comment on column softpro.budget_slots.free_at is
    'a window after the answer arrived; until it does, a window after the last moment it could';
create index budget_slots_free on softpro.budget_slots (integration_id, free_at);
"""

TAKE_SLOT = """
create function softpro.take_slot(
    wanted uuid, new_ticket uuid, configured integer, reserve double precision, is_bulk boolean,
    hold interval, span interval, patience interval,
    out taken boolean, out wait interval, out left_over integer)
language plpgsql as $$
declare
    budget     softpro.budgets;
    most       integer;
    most_bulk  integer;
    busy       integer;
    busy_bulk  integer;
    chosen     integer;
    start      timestamptz;
    moment     timestamptz;
begin
    perform set_config('synchronous_commit', 'off', true);  -- a crash that loses this empties the slots as well
    select * into budget from softpro.budgets where integration_id = wanted for update;
    if not found then
        perform set_config('synchronous_commit', 'on', true);  -- but not this row
        insert into softpro.budgets (integration_id, organization_id)
        select id, organization_id from softpro.integrations where id = wanted
        on conflict do nothing;
        select * into strict budget from softpro.budgets where integration_id = wanted for update;
        moment := clock_timestamp();
    else
        moment := clock_timestamp();
        if not exists (select from softpro.budget_slots where integration_id = wanted) then
            -- The database crashed: the window counts as full, and what was on its way then may be counted late.
            update softpro.budgets set not_before = greatest(not_before, moment + hold + span)
            where integration_id = wanted
            returning not_before into budget.not_before;
            insert into softpro.budget_slots
            values (wanted, 1, budget.organization_id, new_ticket, is_bulk, moment, moment);
        end if;
    end if;

    most := least(configured, budget.announced_limit);
    most_bulk := greatest(most - floor(most * reserve)::integer, 1);
    select count(*), count(*) filter (where bulk)
    into busy, busy_bulk
    from softpro.budget_slots
    where integration_id = wanted and free_at > moment;

    if is_bulk and busy_bulk >= most_bulk then
        select slot, free_at into chosen, start
        from softpro.budget_slots
        where integration_id = wanted and free_at > moment and bulk
        order by free_at offset busy_bulk - most_bulk limit 1;
    end if;
    if busy >= most then
        select case when start >= free_at then chosen else slot end, greatest(start, free_at)
        into chosen, start
        from softpro.budget_slots
        where integration_id = wanted and free_at > moment
        order by free_at offset busy - most limit 1;
    end if;
    if chosen is null then
        select slot into chosen
        from softpro.budget_slots
        where integration_id = wanted and free_at <= moment
        order by free_at limit 1;
    end if;

    start := greatest(moment, start, budget.not_before);
    wait := start - moment;
    left_over := greatest(most - busy - 1, 0);
    taken := patience is null or wait <= patience;
    if not taken then
        return;
    end if;
    if chosen is null then
        select coalesce(max(slot), 0) + 1 into chosen from softpro.budget_slots where integration_id = wanted;
    end if;
    insert into softpro.budget_slots
    values (wanted, chosen, budget.organization_id, new_ticket, is_bulk, start, start + hold + span)
    on conflict (integration_id, slot) do update
    set ticket = excluded.ticket, bulk = excluded.bulk, sent_at = excluded.sent_at, free_at = excluded.free_at;
end $$;
comment on function softpro.take_slot is
    'reserves the slot that is free first, and says how long until then; nothing where that is beyond the patience';
"""

CONFIRM_SLOT = """
create function softpro.confirm_slot(wanted uuid, held uuid, hold interval, span interval) returns interval
language plpgsql as $$
declare
    start  timestamptz;
    moment timestamptz := clock_timestamp();
begin
    perform set_config('synchronous_commit', 'off', true);
    select greatest(s.sent_at, b.not_before) into start
    from softpro.budget_slots s
    join softpro.budgets b using (integration_id)
    where s.integration_id = wanted and s.ticket = held;
    if not found then
        return null;
    end if;
    start := greatest(start, moment);
    update softpro.budget_slots set sent_at = start, free_at = start + hold + span
    where integration_id = wanted and ticket = held;
    return start - moment;
end $$;
comment on function softpro.confirm_slot is
    'after the wait: how much longer, as Retry-After may have come meanwhile; null where the slot is gone (a crash)';
"""

SETTLE_SLOT = """
create function softpro.settle_slot(
    wanted uuid, held uuid, configured integer, span interval,
    announced integer, remaining integer, retry_after interval)
returns void language plpgsql as $$
declare
    moment  timestamptz := clock_timestamp();
    owner   softpro.organization;
    sent    timestamptz;
    surplus integer;
begin
    perform set_config('synchronous_commit', 'off', true);
    update softpro.budget_slots set free_at = moment + span
    where integration_id = wanted and ticket = held
    returning sent_at, organization_id into sent, owner;
    update softpro.budgets
    set announced_limit = coalesce(announced, announced_limit),
        not_before = greatest(not_before, moment + retry_after)
    where integration_id = wanted and (announced is distinct from announced_limit or retry_after is not null);
    if sent is null or remaining is null then
        return;
    end if;
    -- Slots that were free all the while that this request was out: the vendor counted nothing of ours for them. Where
    -- it has fewer left, somebody else uses the grant, or the limit fell: they are taken for a window.
    select least(configured, announced) - count(*) filter (where free_at > sent) - remaining
    into surplus
    from softpro.budget_slots
    where integration_id = wanted;
    if surplus > 0 then
        perform from softpro.budgets where integration_id = wanted for update;
        insert into softpro.budget_slots
        select wanted, slot, owner, gen_random_uuid(), false, moment, moment + span
        from (
            select slot from softpro.budget_slots where integration_id = wanted and free_at <= sent
            union all
            select highest + n
            from (select coalesce(max(slot), 0) as highest from softpro.budget_slots where integration_id = wanted) h,
                 generate_series(1, least(surplus, 10000)) n
            limit surplus
        ) free
        on conflict (integration_id, slot) do update
        set ticket = excluded.ticket, bulk = excluded.bulk, sent_at = excluded.sent_at, free_at = excluded.free_at
        where budget_slots.free_at <= moment;
    end if;
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
    for statements in (GRANTS, BUDGETS, TAKE_SLOT, CONFIRM_SLOT, SETTLE_SLOT, BREAKERS, CREATES, CAPABILITIES):
        execute(statements)
