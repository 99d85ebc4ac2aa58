"""Summarize the demo: per entity type the counts of its sync, a comparison with the sandbox, and a few rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import requests
from psycopg import sql
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from softpro.db.database import Database
from softpro.entities import EntityType

ROWS = {
    EntityType.TRANSACTION: """
        select transaction_number, status, property_city, property_state, purchase_price::text,
               estimated_closing_at::date as closing
        from roi.transactions
        where organization_id = :organization and deleted_at is null and purchase_price is not null
        order by softpro_updated_at desc
        limit 5
    """,
    EntityType.CONTACT: """
        select first_name, last_name, company, contact_type, email
        from roi.contacts
        where organization_id = :organization and deleted_at is null and email is not null
        order by softpro_updated_at desc
        limit 5
    """,
}


@dataclass(frozen=True)
class Outcome:
    """The sync of an entity type: its log, and the number of records on both sides."""

    entity_type: EntityType
    log: dict[str, Any]
    rows: int
    quarantined: int
    at_vendor: int

    @property
    def complete(self) -> bool:
        """Return whether the run succeeded and every record of the sandbox is in roi or in quarantine."""
        finished = self.log["status"] in ("COMPLETED", "PARTIAL_SUCCESS")
        return finished and self.rows + self.quarantined == self.at_vendor


def count_records(
    database: Database, sandbox_url: str, organization_id: str, entity_type: EntityType, log: dict[str, Any]
) -> Outcome:
    """Count the records in roi, in quarantine and at the sandbox."""
    key = sql.Identifier(entity_type.key)
    table = sql.Identifier("roi", entity_type.table)
    with database.connect() as connection:
        here = connection.execute(
            sql.SQL(
                """
                select count(t.id) as rows, count(*) - count(t.id) as quarantined
                from (select * from {table} where organization_id = %(organization)s and deleted_at is null) t
                full join (
                    select entity_id from softpro.quarantine
                    where organization_id = %(organization)s and entity_type = %(entity_type)s and resolved_at is null
                ) q on q.entity_id = t.{key}
                """
            ).format(table=table, key=key),
            {"organization": organization_id, "entity_type": entity_type.value},
        ).fetchone()
        vendor = connection.execute(
            "select softpro_organization_id as id from softpro.integrations where organization_id = %s",
            [organization_id],
        ).fetchone()
    assert here is not None
    assert vendor is not None
    export = requests.get(
        f"{sandbox_url}/sandbox/export",
        params={"organizationId": vendor["id"], "entityType": entity_type.value},
        timeout=60,
    )
    export.raise_for_status()
    at_vendor = sum(1 for line in export.text.split("\n") if line)
    return Outcome(entity_type, log, here["rows"], here["quarantined"], at_vendor)


def show(console: Console, database: Database, organization_id: str, outcomes: list[Outcome]) -> None:
    """Print the counts, then a few rows of each table as an analyst would query them."""
    counts = Table(title=f"Organization {organization_id}")
    for name in ("entity", "fetched", "loaded", "quarantined", "warnings", "requests", "seconds", "in roi now"):
        counts.add_column(name, justify="left" if name == "entity" else "right")
    counts.add_column("at the sandbox", justify="right")
    for outcome in outcomes:
        log = outcome.log
        counts.add_row(
            outcome.entity_type.table,
            f"{log['recordsFetched']:,}",
            f"{log['recordsProcessed'] - log['recordsFailed']:,}",
            f"{log['recordsFailed']:,}",
            f"{sum(log['warnings'].values()):,}",
            f"{log['apiRequests']:,}",
            f"{(log['duration'] or 0) / 1000:.1f}",
            f"{outcome.rows:,}",
            f"{outcome.at_vendor:,}",
        )
    console.print(counts)
    engine = database.engine()
    with engine.connect() as connection:
        for outcome in outcomes:
            rows = pd.read_sql_query(
                text(ROWS[outcome.entity_type]), connection, params={"organization": organization_id}
            )
            console.print(f"\nselect … from roi.{outcome.entity_type.table}", style="bold")
            console.print(rows.fillna("").to_string(index=False), markup=False, highlight=False)
    engine.dispose()
