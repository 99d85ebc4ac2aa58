"""Create quarantine cases, and correct, discard and replay them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, SyncType
from softpro.mapping import repository
from softpro.quality import quarantine_cases
from softpro.quality.quarantine_cases import Case
from softpro.runs import sync
from softpro.services import Services
from softpro.sync.corrections import correct as correct_record

from .bad_transactions import strict_mappings
from .databases import rows
from .product import quality_settings

JUNE, JULY = "2025-06-01T00:00:00.000Z", "2025-07-01T00:00:00.000Z"
LATEST = "2030-01-01T00:00:00.000Z"  # later than all others, so each run's first page contains it
OPEN = "select count(*) from softpro.quarantine where resolved_at is null"
PRICE = "select purchase_price from roi.transactions where softpro_order_id = %s"


def order(order_id: str, price: object, at: str = JUNE, **more: object) -> dict[str, Any]:
    return {
        "orderId": order_id,
        "orderType": "SALE",
        "purchasePrice": price,
        "createdAt": JUNE,
        "updatedAt": at,
        **more,
    }


def as_bytes(record: object) -> bytes:
    return json.dumps(record).encode()


UNREADABLE = {
    "undated": as_bytes({**order("o", 1), "updatedAt": "yesterday"}),
    "NUL": as_bytes(order("o", 1, notes="a\x00b")),
    "half a surrogate pair": as_bytes(order("o", 1, notes="half \ud83c")),
}


def find_case(services: Services, record_key: str | None = None) -> Case:
    """Return the case of the record, or the only case."""
    found = rows(
        services.database,
        "select id from softpro.quarantine where record_key = coalesce(%s, record_key)",
        record_key,
    )
    [row] = found
    with services.database.connect() as connection:
        return quarantine_cases.get(connection, row["id"])


def correct(services: Services, case: Case, record: object, by: str = "ann") -> Case:
    payload = record if isinstance(record, bytes) else as_bytes(record)
    with services.database.connect() as connection:
        return correct_record(connection, case.id, payload, by)


def discard(services: Services, case: Case, reason: str = "a test of the vendor's") -> Case:
    with services.database.connect() as connection:
        return quarantine_cases.discard(connection, case.id, reason, "ben")


def replay(services: Services, integration: Integration, *chosen: UUID) -> SyncLog:
    return sync.replay(
        services.database,
        integration,
        EntityType.TRANSACTION,
        cases=chosen or None,
        sync_type=SyncType.MANUAL,
        run_id=f"test__{uuid4()}",
        quality=quality_settings(),
    )


def remap(services: Services, integration: Integration) -> SyncLog:
    return sync.remap(
        services.database,
        integration,
        EntityType.TRANSACTION,
        sync_type=SyncType.MANUAL,
        run_id=f"test__{uuid4()}",
        quality=quality_settings(),
    )


def set_strict_mappings(services: Services, integration: Integration) -> None:
    with services.database.connect() as connection:
        repository.replace(connection, integration.id, integration.organization_id, strict_mappings(), "a test")


def outcome(log: SyncLog) -> tuple[str, int, int]:
    return log.status, log.records_processed, log.records_failed
