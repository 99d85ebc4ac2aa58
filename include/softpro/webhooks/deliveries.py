"""Check deliveries of webhook events against their integration and store them, many in one statement."""

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
"""The number of attempts at an event before it is FAILED."""


class Verdict(StrEnum):
    """The outcome of a delivery.

    KNOWN: the event was stored before. STALE: it is too old to arrive for the first time. REFUSED: the integration does
    not exist, is disconnected, takes no webhooks, or belongs to another organization.
    """

    STORED = "STORED"
    KNOWN = "KNOWN"
    STALE = "STALE"
    REFUSED = "REFUSED"


@dataclass(frozen=True)
class Delivery:
    """A delivery with a valid signature.

    Attributes:
        organization: SoftPro's own id of the organization.
        payload: the body as JSON.
        bare: the JSON that is stored if jsonb refuses the payload.
        timely: the event is recent enough to arrive for the first time.
    """

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
        """Return the event's identity; ids of other integrations and organizations never collide with it."""
        return self.integration_id, self.organization, self.event_id

    @property
    def size(self) -> int:
        """Return the number of characters to send to the database."""
        return len(self.payload) + len(self.bare) + len(self.headers)


# A repeated event is one row, and no delivery waits for its lock. A row that is being settled is KNOWN too, but its
# repetition is not counted. The statement waits for an event that another server is storing now, which is then KNOWN.
# Rows are inserted in id order (prevents deadlocks between servers).
#
# PostgreSQL keeps the plan of this statement, made while the table may be empty, when every plan costs the same. Asking
# for the first id that is not below forces the index on ids, which alone has that order. `any` does the same for the
# updated rows.
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
notified as materialized (
    select pg_notify(%(channel)s, '')
    where exists (select from judged where verdict = 'STORED')
)
select verdict, (select count(*) from notified) as notified
from judged
order by number
"""


def parameters(arrivals: Mapping[Delivery, int]) -> dict[str, Any]:
    """Return the parameters of STORE_DELIVERIES.

    Args:
        arrivals: the deliveries with the number of times each arrived; no two have the same key.
    """
    # One JSON text: adapting fourteen arrays would cost psycopg more than everything else.
    sent = [vars(arrival) | {"deliveries": deliveries} for arrival, deliveries in arrivals.items()]
    return {"arrivals": msgspec.json.encode(sent).decode(), "max_attempts": MAX_ATTEMPTS, "channel": CHANNEL}
