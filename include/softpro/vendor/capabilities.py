"""What a vendor turned out to do of what its contract says, learned by a probe or by the sync itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from uuid import UUID

from psycopg import sql

from softpro.store.database import Connection


@dataclass(frozen=True)
class Capabilities:
    """What the vendor does; by default what the contract says. `page_limit`: the most records it gives a page."""

    filters_updated_from: bool = True
    sorts_by_updated_at: bool = True
    sends_etags: bool = True
    page_limit: int = 200


COLUMNS = sql.SQL(", ").join(sql.Identifier(each.name) for each in fields(Capabilities))


def read(connection: Connection, integration_id: UUID) -> Capabilities:
    """What is known of the integration's vendor; where nothing is, the contract is believed."""
    row = connection.execute(
        sql.SQL("select {} from softpro.capabilities where integration_id = %s").format(COLUMNS), [integration_id]
    ).fetchone()
    known = {name: value for name, value in (row or {}).items() if value is not None}
    return Capabilities(**known)


def note(connection: Connection, integration_id: UUID, **facts: object) -> None:
    """Notes facts by their columns, e.g. `note(connection, id, sorts_by_updated_at=False)`; the others stay."""
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
