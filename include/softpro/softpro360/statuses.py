"""Cache the statuses that a transaction can have for one day."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from softpro.db.database import Connection
from softpro.softpro360.client import Client
from softpro.softpro360.models import Status, Typed, typed_list

CACHE_MAX_AGE = timedelta(days=1)


def statuses(connection: Connection, client: Client, integration_id: UUID) -> list[Typed[Status]]:
    """Return the vendor's statuses, at most a day old.

    Raises:
        SoftProError: as `ApiTransport.call` does.
    """
    row = connection.execute(
        "select statuses::text from softpro.statuses where integration_id = %s and fetched_at > now() - %s",
        [integration_id, CACHE_MAX_AGE],
    ).fetchone()
    if row is not None:
        return typed_list(row["statuses"].encode(), Status, "the stored statuses")
    fetched = client.statuses()
    connection.execute(
        """
        insert into softpro.statuses (integration_id, organization_id, statuses)
        select id, organization_id, %(statuses)s::json from softpro.integrations where id = %(id)s
        on conflict (integration_id) do update set statuses = excluded.statuses, fetched_at = now()
        """,
        {"id": integration_id, "statuses": "[" + ",".join(each.payload.decode() for each in fetched) + "]"},
    )
    return fetched
