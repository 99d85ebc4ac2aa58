"""Helpers of the tests that create records at the vendor."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from softpro.db import create_ledger
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.errors import OutcomeUnknown
from softpro.services import Services
from softpro.softpro360.creates import (
    CreateSpec,
    create,
    record_spec,
)

from .databases import execute
from .product import environment, paused_process
from .sandbox import Sandbox

LAG = 5
CREATE = """
from uuid import UUID
from softpro.services import services
from softpro.settings import DatabaseSettings
from softpro.db import integrations
from softpro.db.database import open_database
from softpro.entities import EntityType
from softpro.softpro360.creates import create, record_spec
found = services(open_database(DatabaseSettings()))
with found.database.connect() as connection:
    integration = integrations.get(connection, UUID("{id}"))
    with found.client(integration) as client:
        fields = {{"orderType": "SALE", "notes": "for roi-1"}}
        create(connection, client, integration.id, record_spec(EntityType.TRANSACTION, "roi-1", fields))
"""


def count_created(own: Sandbox, entity: str = "TRANSACTION") -> Counter[str]:
    """Count the vendor's records by our id."""
    records = own.records(own.organizations[0], entity).values()
    ours = (record.get("customFields", {}).get("roiSystemsId") for record in records)
    return Counter(roi_id for roi_id in ours if roi_id)


def create_once(services: Services, acme: Integration, wanted: CreateSpec) -> str:
    with services.database.connect() as connection, services.client(acme) as client:
        return create(connection, client, acme.id, wanted)


def sale(roi_id: str) -> CreateSpec:
    return record_spec(EntityType.TRANSACTION, roi_id, {"orderType": "SALE", "notes": f"for {roi_id}"})


def create_and_be_killed(acme: Integration, own: Sandbox, database: Database, when: Callable[[], bool]) -> None:
    """Kill a process that creates `sale("roi-1")` as soon as `when` returns True."""
    process = paused_process(environment(database, own), CREATE.format(id=acme.id))
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    deadline = time.monotonic() + 60
    try:
        while not when():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()


def lost_and_looked_for_once(services: Services, acme: Integration, own: Sandbox) -> None:
    """Lose the create of `sale("roi-1")` and look for it once."""
    own.switch(resetConnection=1)
    with pytest.raises(OutcomeUnknown):
        create_once(services, acme, sale("roi-1"))
    own.switch(resetConnection=0)
    now_due(services)
    with pytest.raises(OutcomeUnknown):
        create_once(services, acme, sale("roi-1"))


def due(services: Services, acme: Integration) -> list[create_ledger.Create]:
    with services.database.connect() as connection:
        return create_ledger.due(connection, acme.id)


def now_due(services: Services) -> None:
    """Make all creates due."""
    execute(services.database, "update softpro.creates set due_at = now()")
