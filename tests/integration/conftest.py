"""Fixtures that several files here share; a file that needs another organization has its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.services import Services

from ..support.conflict_review import TRANSACTION, Both
from ..support.databases import execute, rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import between, sync
from ..support.quarantine_cases import as_bytes
from ..support.sandbox import Sandbox
from ..support.writeback import Office


@pytest.fixture
def acme(connected: Connected) -> Integration:
    return connected("acme")


@pytest.fixture
def put(sandbox: Sandbox, vendor_organization: str) -> Callable[[object], str]:
    """Puts a record into the vendor's list."""

    def into(record: object) -> str:
        return sandbox.put(vendor_organization, record if isinstance(record, bytes) else as_bytes(record))

    return into


@pytest.fixture
def loaded(start_sandbox: StartSandbox, database: Database) -> tuple[Services, Integration, Sandbox]:
    """150 contacts, loaded once."""
    sandbox = start_sandbox(transactions=0, contacts=150)
    services, acme = between(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200")
    assert sync(services, acme, EntityType.CONTACT).records_inserted == 150
    return services, acme, sandbox


@pytest.fixture
def office(services: Services, acme: Integration, sandbox: Sandbox, vendor_organization: str) -> Office:
    return Office(services, acme, sandbox, vendor_organization)


@pytest.fixture
def both(services: Services, connected: Connected, sandbox: Sandbox, vendor_organization: str) -> Both:
    acme = connected("acme")
    sync(services, acme, TRANSACTION)
    execute(
        services.database, "update softpro.integrations set conflict_strategy = 'MANUAL_REVIEW', push_deletes = true"
    )
    [first] = rows(
        services.database, "select id, softpro_order_id from roi.transactions order by softpro_order_id limit 1"
    )
    made = Both(services, acme, sandbox, vendor_organization, first["id"], first["softpro_order_id"])
    made.change(notes="as it was", purchasePrice=400_000, loanAmount=200_000)
    made.sync()
    return made


@pytest.fixture
def in_review(both: Both) -> Both:
    """Both changed `notes`; ROI the price, too, and SoftPro the loan."""
    both.edit(notes="ours", purchase_price=500_000)
    both.change(notes="theirs", loanAmount=300_000)
    both.sync()
    return both
