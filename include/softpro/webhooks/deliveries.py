"""Webhook events as they come in: checked against their integration and stored, many in one statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from softpro.db.inbox import CHANNEL

MAX_ATTEMPTS = 5
"""How often an event is tried before it is FAILED."""


class Verdict(StrEnum):
    """What became of a delivery. REFUSED: the integration is not there, disconnected, takes no webhooks, or is
    another organization's. STALE: too old to come for the first time."""

    STORED = "STORED"
    KNOWN = "KNOWN"
    STALE = "STALE"
    REFUSED = "REFUSED"


@dataclass(frozen=True)
class Delivery:
    """A delivery whose signature is good. `organization` is the vendor's id; `payload` and `bare` are JSON: where
    jsonb refuses the first, the second is stored. `timely`: it may come for the first time."""

    integration_id: UUID
    organization: str
    event_id: str
    event_type: str
    entity_type: str
    entity_id: str
    priority: int
    record_updated_at: datetime | None
    payload: str
    bare: str
    headers: str
    signature: str
    timely: bool

    @property
    def key(self) -> tuple[UUID, str, str]:
        """What makes it one event: another integration's ids never matter, and one organization alone is right."""
        return self.integration_id, self.organization, self.event_id

    @property
    def size(self) -> int:
        """Characters to send."""
        return len(self.payload) + len(self.bare) + len(self.headers)


# An event that is repeated is one row, and nobody waits for it: where it is locked, by whoever settles it, it is known
# all the same, and only not counted. One that another server stores at this moment is waited for, to be told KNOWN: in
# the order of ids, so that two servers never wait for each other.
#
# PostgreSQL keeps the plan, and where the table has no rows yet any plan is as good to it as another. So the first id
# that is not below is asked for: only the index of ids has that order. And `any` names the rows that are updated.
STORE_DELIVERIES = """
with arrived as materialized (
    select *
    from rows from (json_to_recordset(%(arrivals)s::json) as (
             integration_id uuid, organization text, event_id text, event_type text, entity_type text, entity_id text,
             priority smallint, record_updated_at timestamptz, payload text, bare text, headers text, signature text,
             timely boolean, deliveries integer))
         with ordinality a (integration_id, organization, event_id, event_type, entity_type, entity_id, priority,
                            record_updated_at, payload, bare, headers, signature, timely, deliveries, number)
),
accepted as materialized (
    select a.*, i.organization_id, k.id as known
    from arrived a
    join softpro.integrations i on i.id = a.integration_id and i.softpro_organization_id = a.organization
    left join lateral (
        select e.id, e.event_id
        from softpro.webhook_events e
        where e.integration_id = a.integration_id and e.event_id >= a.event_id
        order by e.event_id
        limit 1
    ) k on k.event_id = a.event_id
    where i.webhooks_enabled and i.status <> 'DISCONNECTED' and i.deleted_at is null
),
stored as (
    insert into softpro.webhook_events
        (integration_id, organization_id, event_type, event_id, entity_type, entity_id, payload, headers, signature,
         signature_verified, priority, record_updated_at, deliveries, max_attempts, received_at)
    select integration_id, organization_id, event_type, event_id, entity_type, entity_id,
           case when pg_input_is_valid(payload, 'jsonb') then payload::jsonb else bare::jsonb end,
           headers::jsonb, signature, true, priority, record_updated_at, deliveries, %(max_attempts)s,
           clock_timestamp()
    from accepted
    where timely and known is null
    order by integration_id, event_id
    on conflict (integration_id, event_id) do nothing
    returning integration_id, event_id
),
free as materialized (
    select e.id, a.deliveries
    from accepted a
    join softpro.webhook_events e on e.id = a.known
    where e.id = any (array(select known from accepted))
    order by a.integration_id, a.event_id
    for no key update of e skip locked
),
counted as (
    update softpro.webhook_events e
    set deliveries = e.deliveries + f.deliveries
    from free f
    where e.id = f.id and e.id = any (array(select id from free))
),
judged as (
    select a.number,
           case when c.number is null then 'REFUSED'
                when s.event_id is not null then 'STORED'
                when c.timely or c.known is not null then 'KNOWN'
                else 'STALE' end as verdict
    from arrived a
    left join accepted c on c.number = a.number
    left join stored s on s.integration_id = c.integration_id and s.event_id = c.event_id
),
told as materialized (
    select pg_notify(%(channel)s, '')
    where exists (select from judged where verdict = 'STORED')
)
select verdict, (select count(*) from told) as told
from judged
order by number
"""


def parameters(arrivals: Mapping[Delivery, int]) -> dict[str, Any]:
    """Those of STORE, for these arrivals and how often each came; no two of them have the same key."""
    # As one JSON text: psycopg would spend more on fourteen arrays than on all the rest.
    sent = [vars(arrival) | {"deliveries": deliveries} for arrival, deliveries in arrivals.items()]
    return {"arrivals": msgspec.json.encode(sent).decode(), "max_attempts": MAX_ATTEMPTS, "channel": CHANNEL}
