"""Isolate tenants: none sees another, and a failing one blocks no other (promises 5 and 11)."""

from __future__ import annotations

from softpro.services import Services

from ..support.databases import dump, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import Connected
from ..support.product import sync
from ..support.sandbox import Sandbox


def test_two_organizations_each_hold_only_their_own(connected: Connected, services: Services, sandbox: Sandbox) -> None:
    at = {"acme": sandbox.unused_organization(), "globex": sandbox.unused_organization()}
    # Both have the same order id: an id is unique only within its organization.
    shared = b'{"orderId": "shared", "orderType": "SALE", "updatedAt": "2025-06-01T00:00:00.000Z", "notes": "%s"}'
    bad = b'{"orderId": "bad", "orderType": "SALE", "updatedAt": "2025-06-01T00:00:00.000Z", "purchasePrice": -1}'
    sandbox.put(at["acme"], shared % b"acme's")
    sandbox.put(at["globex"], shared % b"globex's")
    sandbox.put(at["globex"], bad)
    integrations = {name: connected(name, at=vendor) for name, vendor in at.items()}
    for name in ("acme", "globex", "acme"):
        sync(services, integrations[name])
    for name, vendor in at.items():
        records = sandbox.records(vendor)
        records.pop("bad", None)
        assert actual_rows(services.database, name) == expected_rows(records)
    found = rows(
        services.database,
        "select organization_id, notes from roi.transactions where softpro_order_id = 'shared' order by 1",
    )
    assert found == [
        {"organization_id": "acme", "notes": "acme's"},
        {"organization_id": "globex", "notes": "globex's"},
    ]
    quarantined = rows(services.database, "select organization_id from softpro.quarantine")
    assert quarantined == [{"organization_id": "globex"}]
    ids = {name: str(integration.id) for name, integration in integrations.items()}
    for table, lines in dump(services.database).items():
        for line in lines:
            assert not (ids["acme"] in line and ids["globex"] in line), table
            assert not (ids["acme"] in line and "globex" in line), table


def test_a_failing_organization_leaves_the_others_alone(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    acme, globex = connected("acme"), connected("globex", at=sandbox.unused_organization())
    sandbox.revoke(vendor_organization)
    assert sync(services, acme).status == "FAILED"
    assert sync(services, globex).status == "COMPLETED"
    states = rows(
        services.database, "select status, consecutive_failures from softpro.integrations order by organization_id"
    )
    assert [tuple(state.values()) for state in states] == [("EXPIRED", 1), ("CONNECTED", 0)]
