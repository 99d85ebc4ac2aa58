"""Define the fixtures that several files here share. A file that needs another organization defines its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.services import Services

from ..support.conflict_review import TRANSACTION, ConflictScenario
from ..support.databases import execute, rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import connect_acme, sync
from ..support.quarantine_cases import as_bytes
from ..support.sandbox import Sandbox


@pytest.fixture
def put(sandbox: Sandbox, vendor_organization: str) -> Callable[[object], str]:
    """Return a function that stores a record in the vendor's list and returns its id."""

    def into(record: object) -> str:
        return sandbox.put(vendor_organization, record if isinstance(record, bytes) else as_bytes(record))

    return into


@pytest.fixture
def loaded(start_sandbox: StartSandbox, database: Database) -> tuple[Services, Integration, Sandbox]:
    """Return an organization with 150 contacts, loaded once."""
    sandbox = start_sandbox(transactions=0, contacts=150)
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200")
    assert sync(services, acme, EntityType.CONTACT).records_inserted == 150
    return services, acme, sandbox


@pytest.fixture
def scenario(services: Services, connected: Connected, sandbox: Sandbox, vendor_organization: str) -> ConflictScenario:
    acme = connected("acme")
    sync(services, acme, TRANSACTION)
    execute(
        services.database, "update softpro.integrations set conflict_strategy = 'MANUAL_REVIEW', push_deletes = true"
    )
    [first] = rows(
        services.database, "select id, softpro_order_id from roi.transactions order by softpro_order_id limit 1"
    )
    made = ConflictScenario(services, acme, sandbox, vendor_organization, first["id"], first["softpro_order_id"])
    made.change_at_softpro(notes="as it was", purchasePrice=400_000, loanAmount=200_000)
    made.sync()
    return made


@pytest.fixture
def in_review(scenario: ConflictScenario) -> ConflictScenario:
    """Return a conflict: both sides changed `notes`, ROI also the price and SoftPro also the loan."""
    scenario.edit(notes="ours", purchase_price=500_000)
    scenario.change_at_softpro(notes="theirs", loanAmount=300_000)
    scenario.sync()
    return scenario
