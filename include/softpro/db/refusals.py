"""Count refused requests of strangers by hour, kind and integration.

Many refused signatures in a row mean that SoftPro and this installation have different webhook secrets, or that
somebody forges events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from softpro.db import queries
from softpro.db.database import Connection
from softpro.json_codec import camel_case

KEPT_DAYS = 30

# An address can name an integration that does not exist.
ADD = """
insert into softpro.refusals (hour, kind, integration_id, requests, last_at)
select date_trunc('hour', now()), kind, i.id, sum(requests), now()
from unnest(%(kinds)s::text[], %(integrations)s::uuid[], %(requests)s::bigint[]) r (kind, named, requests)
left join softpro.integrations i on i.id = r.named
group by kind, i.id
order by kind, i.id
on conflict (hour, kind, integration_id) do update
    set requests = refusals.requests + excluded.requests, last_at = excluded.last_at
"""
SELECT_LAST_DAY = """
select coalesce(sum(requests) filter (where kind = 'WEBHOOK_SIGNATURE'), 0)::bigint as signatures,
       coalesce(sum(requests) filter (where kind = 'WEBHOOK_TIMESTAMP'), 0)::bigint as timestamps,
       coalesce(sum(requests) filter (where kind = 'OAUTH_STATE'), 0)::bigint as states,
       max(last_at) as last_at
from softpro.refusals r
left join softpro.integrations i on i.id = r.integration_id
where hour > now() - interval '24 hours'
    and (%(integration_id)s::uuid is null or r.integration_id = %(integration_id)s)
    and (%(within)s::text[] is null or i.organization_id = any(%(within)s))
"""


class Refusal(StrEnum):
    """The reason for which a request was refused."""

    WEBHOOK_SIGNATURE = "WEBHOOK_SIGNATURE"
    WEBHOOK_TIMESTAMP = "WEBHOOK_TIMESTAMP"
    OAUTH_STATE = "OAUTH_STATE"


@dataclass(frozen=True)
class Refused:
    """Counts of the requests refused in the last 24 hours.

    Attributes:
        signatures: Webhooks with a missing or wrong signature.
        timestamps: Signed webhooks with an old timestamp.
        states: Redirects from SoftPro, and addresses for a browser, whose state could not be used.
        last_at: When the last of them was counted; None without one.
    """

    signatures: int
    timestamps: int
    states: int
    last_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the counts for HTTP."""
        return camel_case(self)


def add(connection: Connection, counts: Mapping[tuple[Refusal, UUID | None], int]) -> None:
    """Add the counts of an API server, by kind and the integration that the request named."""
    kinds, integrations = zip(*counts, strict=True)
    connection.execute(
        ADD, {"kinds": list(kinds), "integrations": list(integrations), "requests": list(counts.values())}
    )


def last_day(
    connection: Connection, integration_id: UUID | None = None, within: Collection[str] | None = None
) -> Refused:
    """Return the counts of the last 24 hours.

    Args:
        connection: The connection.
        integration_id: Count only requests that named this integration.
        within: Count only requests that named an integration of these organizations. None: all requests.
    """
    parameters = {"integration_id": integration_id, "within": None if within is None else list(within)}
    return Refused(**queries.one(connection, SELECT_LAST_DAY, parameters))


def purge(connection: Connection) -> int:
    """Delete the counts of more than 30 days ago, and return their number."""
    return connection.execute(
        "delete from softpro.refusals where hour < now() - make_interval(days => %s)", [KEPT_DAYS]
    ).rowcount
