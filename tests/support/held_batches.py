"""Create held batches and decide about them."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, SyncType
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.quality import holds
from softpro.quality.holds import Hold
from softpro.runs import sync
from softpro.services import Services

from .product import quality_settings

CONTACT = EntityType.CONTACT
NULL = "expect_column_proportion_of_non_null_values_to_be_between"
ROW_COUNT = "expect_table_row_count_to_be_between"
PENDING = "select count(*) from raw.pending"
OPEN_CASES = "select count(*) from softpro.quarantine where resolved_at is null"
LATEST = "2030-01-01T00:00:00.000Z"
SWEEP_TOTAL = "select sweep_total from softpro.cursors"


class Interrupted(RuntimeError):
    """An error that ends a run in a test."""


def map_contacts(services: Services, acme: Integration, **fields: str) -> None:
    """Set the default mappings of contacts, with these columns filled from other fields."""
    mappings = [
        replace(mapping, softpro_field=fields.get(mapping.roi_systems_field, mapping.softpro_field))
        for mapping in default_mappings(CONTACT)
    ]
    with services.database.connect() as connection:
        repository.replace(connection, acme.id, "acme", mappings, "the test")


def remap(services: Services, acme: Integration) -> SyncLog:
    return sync.remap(
        services.database,
        acme,
        CONTACT,
        sync_type=SyncType.MANUAL,
        run_id=f"test__{uuid4()}",
        quality=quality_settings(),
    )


def replay(services: Services, acme: Integration) -> SyncLog:
    return sync.replay(
        services.database,
        acme,
        CONTACT,
        sync_type=SyncType.MANUAL,
        run_id=f"test__{uuid4()}",
        quality=quality_settings(),
    )


def list_holds(services: Services, acme: Integration) -> list[Hold]:
    """Return all holds, newest first."""
    with services.database.connect() as connection:
        return holds.page(connection, acme.id, list(holds.HoldStatus), 100, 0)[0]


def approve(services: Services, acme: Integration, hold: Hold, reason: str | None = None) -> Hold:
    with services.database.connect() as connection:
        return holds.approve(connection, acme.id, hold.id, "Ann", reason)


def reject(services: Services, acme: Integration, hold: Hold, reason: str | None = None) -> Hold:
    with services.database.connect() as connection:
        return holds.reject(connection, acme.id, hold.id, "Ann", reason)
