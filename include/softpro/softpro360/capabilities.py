"""Store where a vendor deviates from its contract, as learned by a probe or a sync."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from psycopg import sql

from softpro.db.database import Connection


@dataclass(frozen=True)
class Capabilities:
    """The vendor's behavior; the defaults are those of the contract.

    Attributes:
        page_limit: the most records that the vendor returns in a page.
        clock_ahead_seconds: how far the vendor's clock is ahead of the database's.
    """

    filters_updated_from: bool = True
    sorts_by_updated_at: bool = True
    sends_etags: bool = True
    page_limit: int = 200
    clock_ahead_seconds: float = 0.0


COLUMNS = sql.SQL(", ").join(sql.Identifier(each.name) for each in fields(Capabilities))


def read(connection: Connection, integration_id: UUID) -> Capabilities:
    """Return the known capabilities of the integration's vendor. Unknown ones default to the contract."""
    row = connection.execute(
        sql.SQL("select {} from softpro.capabilities where integration_id = %s").format(COLUMNS), [integration_id]
    ).fetchone()
    known = {name: value for name, value in (row or {}).items() if value is not None}
    return Capabilities(**known)


CLOCKS_DIFFER_SECONDS = 1.5
"""A `Date` has whole seconds, and the response takes some time to arrive."""


def measure_clock(
    connection: Connection, integration_id: UUID, known: Capabilities, asked_at: datetime, answered_at: datetime
) -> None:
    """Store how far the vendor's clock is ahead if that differs from what is `known`.

    The difference is that of a response's `Date` and the database's time of the request.
    """
    ahead = (answered_at - asked_at).total_seconds() + 0.5
    if abs(ahead - known.clock_ahead_seconds) > CLOCKS_DIFFER_SECONDS:
        note(connection, integration_id, clock_ahead_seconds=ahead if abs(ahead) > CLOCKS_DIFFER_SECONDS else 0.0)


def note(connection: Connection, integration_id: UUID, **facts: object) -> None:
    """Store facts by column, e.g. `note(connection, id, sorts_by_updated_at=False)`. Other columns do not change."""
    columns = [sql.Identifier(name) for name in facts]
    connection.execute(
        sql.SQL(
            """
            insert into softpro.capabilities (integration_id, organization_id, {columns})
            select id, organization_id, {values} from softpro.integrations where id = %(integration_id)s
            on conflict (integration_id) do update
            set {changes}, updated_at = now()
            """
        ).format(
            columns=sql.SQL(", ").join(columns),
            values=sql.SQL(", ").join(sql.Placeholder(name) for name in facts),
            changes=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(column) for column in columns),
        ),
        {**facts, "integration_id": integration_id},
    )
