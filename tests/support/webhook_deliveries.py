"""Create deliveries of webhook events as the receiver passes them to the writer, and store them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from softpro.db.database import Database
from softpro.webhooks.batch_writer import BatchWriter
from softpro.webhooks.deliveries import Delivery, Verdict

from .databases import execute


def create_integration(database: Database, organization: str = "acme", **columns: object) -> UUID:
    """Create an integration that takes webhooks of the vendor's organization `at-<organization>`."""
    made = uuid4()
    execute(
        database,
        """
        insert into softpro.integrations
            (id, organization_id, softpro_organization_id, client_id, client_secret, sync_frequency, status,
             webhooks_enabled, deleted_at)
        values (%s, %s, %s, 'client', 'sealed', 300, %s, %s, %s)
        """,
        made,
        organization,
        f"at-{organization}",
        columns.get("status", "CONNECTED"),
        columns.get("webhooks_enabled", True),
        columns.get("deleted_at"),
    )
    return made


def delivery(integration_id: UUID, event_id: str = "evt-1", **changes: Any) -> Delivery:
    made = Delivery(
        integration_id=integration_id,
        organization="at-acme",
        event_id=event_id,
        event_type="TRANSACTION_UPDATED",
        entity_type="TRANSACTION",
        entity_id="ord-1",
        priority=1,
        record_updated_at=None,
        payload=json.dumps({"id": event_id, "data": {"price": 1.10}}),
        bare=json.dumps({"id": event_id}),
        headers='{"user-agent": "SoftPro"}',
        signature="cafe",
        timely=True,
    )
    return replace(made, **changes)


async def put_concurrently(writer: BatchWriter, arrivals: Sequence[Delivery]) -> list[Verdict | BaseException]:
    """Put all deliveries at once and return their verdicts or the exceptions."""
    return await asyncio.gather(*map(writer.put, arrivals), return_exceptions=True)


def store_deliveries(database: Database, *arrivals: Delivery) -> list[Verdict | BaseException]:
    """Store deliveries that arrive at once, and return their verdicts or the exceptions."""

    async def work() -> list[Verdict | BaseException]:
        writer = BatchWriter(lambda: database)
        try:
            return await put_concurrently(writer, arrivals)
        finally:
            await writer.close()

    return asyncio.run(work())
