"""Create webhook events in the inbox, as the receiver stores them."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any

from softpro.db.database import Database
from softpro.db.integrations import Integration

from .databases import execute, rows

_numbers = count(1)


def add_event(
    database: Database,
    integration: Integration,
    entity_id: str,
    kind: str = "TRANSACTION_UPDATED",
    *,
    entity_type: str = "TRANSACTION",
    carries: datetime | None = None,
    seconds_ago: float = 0,
) -> str:
    """Store an event of this record and return its id at the vendor.

    Args:
        database: The database of the product.
        integration: The integration that the event is for.
        entity_id: The record's id.
        kind: The event type.
        entity_type: The record's entity type, as the event names it.
        carries: `updatedAt` of the record inside the event; None for an event without its record.
        seconds_ago: Age of the receipt, in seconds.
    """
    event_id = f"evt_{next(_numbers)}"
    execute(
        database,
        """
        insert into softpro.webhook_events
            (integration_id, organization_id, event_type, event_id, entity_type, entity_id, payload,
             signature_verified, record_updated_at, received_at, priority)
        values (%s, %s, %s, %s, %s, %s, '{}', true, %s, clock_timestamp() - make_interval(secs => %s), %s)
        """,
        integration.id,
        integration.organization_id,
        kind,
        event_id,
        entity_type,
        entity_id,
        carries,
        seconds_ago,
        0 if "STATUS" in kind or kind.startswith("ORDER") else 1,
    )
    return event_id


def backdate(database: Database, seconds: float) -> None:
    """Move receipts, first 404s, retries and landed records into the past, so that they become due."""
    execute(
        database,
        """
        update softpro.webhook_events
        set received_at = received_at - %(ago)s, missing_at = missing_at - %(ago)s,
            next_retry_at = next_retry_at - %(ago)s
        where not processed
        """,
        ago=timedelta(seconds=seconds),
    )
    execute(database, "update raw.records set last_seen_at = last_seen_at - %(ago)s", ago=timedelta(seconds=seconds))


def events(database: Database) -> dict[str, dict[str, Any]]:
    """Return all events by their id at the vendor."""
    return {row["event_id"]: row for row in rows(database, "select * from softpro.webhook_events")}


def outcomes(database: Database) -> dict[str, str | None]:
    """Return the outcome of each event by its id at the vendor; None while it is pending."""
    return {event_id: row["outcome"] for event_id, row in events(database).items()}
