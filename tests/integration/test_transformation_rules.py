"""Apply rules in a sync: results are in the rows, failures go to quarantine, and no record is delayed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from softpro.db.integrations import Integration
from softpro.entities import EntityType, SyncType
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.mapping.rules.account import RUN_SECONDS, STOP_SECONDS
from softpro.mapping.rules.messages import NOT_TRIED
from softpro.runs import sync as runs_sync
from softpro.services import Services

from ..support.databases import one, rows
from ..support.fixture_types import Connected
from ..support.product import quality_settings, sync
from ..support.sandbox import Sandbox

TRANSACTION = EntityType.TRANSACTION
RULES = {
    "status": '$ ? ($ = "OPENED" ? "open" : $lowercase($))',
    "property_zip": "$ ? $substring($, 0, 5)",
    "notes": '$record.orderNumber & ": " & ($ ?: "no notes")',
    "purchase_price": "$ ? $round($ * 1.1, 2)",
    "escrow_officer_id": "$ ? $uppercase($)",
}
MORE = [
    Mapping(TRANSACTION, "buyer[0].contactId", "custom.first_buyer"),
    Mapping(TRANSACTION, "buyer", "custom.buyers", "SOFTPRO_TO_ROI", "$count($)"),
    Mapping(TRANSACTION, "nowhere", "custom.nowhere"),
]


def with_rules(rules: dict[str, str]) -> list[Mapping]:
    return [
        replace(mapping, transformation_rule=rules[mapping.roi_systems_field], direction="SOFTPRO_TO_ROI")
        if mapping.roi_systems_field in rules
        else mapping
        for mapping in default_mappings(TRANSACTION)
    ]


def give(services: Services, integration: Integration, mappings: list[Mapping]) -> None:
    with services.database.connect() as connection:
        repository.replace(connection, integration.id, integration.organization_id, mappings, "a test")


def as_text(value: str | None) -> str:
    """Return the text as the operator `&` writes it."""
    return "null" if value is None else value


def expected_results(record: dict[str, Any]) -> dict[str, Any]:
    """Return the expected results of RULES and MORE for a record."""
    status, price, officer = (
        record.get("status"),
        record.get("purchasePrice"),
        (record.get("escrowOfficer") or {}).get("contactId"),
    )
    buyers = record.get("buyer") or []
    first_buyer = {"first_buyer": buyers[0]["contactId"]} if buyers and "contactId" in buyers[0] else {}
    return {
        "status": status and {"OPENED": "open"}.get(status, status.lower()),
        "property_zip": ((record.get("propertyAddress") or {}).get("zipCode") or "")[:5] or None,
        "notes": f"{as_text(record.get('orderNumber', ''))}: {record.get('notes') or 'no notes'}",
        "purchase_price": None if not price else pytest.approx(float(price) * 1.1, abs=0.0051),
        "escrow_officer_id": officer and officer.upper(),
        "custom": {
            **(record.get("customFields") or {}),
            **first_buyer,
            "buyers": 1 if record.get("buyer", []) is None else len(buyers),  # a null counts as one
        },
    }


def test_results_of_rules_and_custom_names_are_in_the_rows(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    acme = connected("acme")
    give(services, acme, with_rules(RULES) + MORE)
    assert sync(services, acme).status == "COMPLETED"
    columns = "softpro_order_id, status, property_zip, notes, purchase_price, escrow_officer_id, custom"
    found = rows(services.database, f"select {columns} from roi.transactions order by softpro_order_id")
    assert len(found) == 45
    raw = rows(services.database, "select entity_id, payload from raw.records where entity_type = 'TRANSACTION'")
    expected = {row["entity_id"]: expected_results(row["payload"]) for row in raw}
    for row in found:
        assert {**row, "purchase_price": _float(row)} == {
            "softpro_order_id": row["softpro_order_id"],
            **expected[row["softpro_order_id"]],
        }


def _float(row: dict[str, Any]) -> float | None:
    return None if row["purchase_price"] is None else float(row["purchase_price"])


def test_a_record_that_a_rule_fails_on_is_in_quarantine_with_the_rules_name_and_message(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    acme = connected("acme")
    give(services, acme, with_rules({**RULES, "transaction_number": '($assert($not($ = "N-2"), "never this one"); $)'}))
    head = {"orderType": "SALE", "status": "OPENED", "updatedAt": "2030-01-01T00:00:00.000Z"}
    bad = {"orderId": "bad", "orderNumber": "N-2", "purchasePrice": "dear", **head}
    sandbox.put(vendor_organization, json.dumps(bad).encode())
    log = sync(services, acme)
    assert (log.records_processed, log.records_failed) == (46, 1)
    [case] = rows(services.database, "select record_key, reasons, mapping_version from softpro.quarantine")
    assert (case["record_key"], case["mapping_version"]) == ("bad", 2)
    assert {(reason["column"], reason["rule"], reason["message"]) for reason in case["reasons"]} == {
        ("transaction_number", "transformation", "orderNumber: D3141: never this one"),
        (
            "purchase_price",
            "transformation",
            "purchasePrice: T2001: The left side of the * operator must evaluate to a number",
        ),
    }


def test_a_rule_that_has_to_be_stopped_costs_a_run_seconds_not_hours(connected: Connected, services: Services) -> None:
    acme = connected("acme")
    give(services, acme, with_rules({"status": "$distinct([1..99999]).($distinct([1..9999]))"}))
    log = sync(services, acme)
    assert (log.status, log.records_processed, log.records_failed) == ("PARTIAL_SUCCESS", 45, 45)
    messages = "select reasons -> 0 ->> 'message' as message from softpro.quarantine"
    given_up = [row for row in rows(services.database, messages) if NOT_TRIED in row["message"]]
    assert len(given_up) == 45 - RUN_SECONDS / STOP_SECONDS
    assert one(services.database, "select count(*) from raw.pending where entity_type = 'TRANSACTION'") == 0


def test_a_set_of_hundreds_of_names_and_rules_is_mapped(connected: Connected, services: Services) -> None:
    acme = connected("acme")
    names = [Mapping(TRANSACTION, "orderNumber", f"custom.name_{number}", "SOFTPRO_TO_ROI") for number in range(300)]
    ruled = [
        Mapping(TRANSACTION, "orderId", f"custom.rule_{number}", "SOFTPRO_TO_ROI", f"$ & '{number}'")
        for number in range(120)
    ]
    for more in (names, names[:150] + ruled[:40], ruled):
        give(services, acme, default_mappings(TRANSACTION) + more)
        log = (
            runs_sync.remap(
                services.database,
                acme,
                TRANSACTION,
                sync_type=SyncType.MANUAL,
                run_id=f"test__{uuid4()}",
                quality=quality_settings(),
            )
            if one(services.database, "select count(*) from raw.records")
            else sync(services, acme)
        )
        assert (log.status, log.records_processed, log.records_failed) == ("COMPLETED", 45, 0)
        [custom] = rows(services.database, "select softpro_order_id as id, custom from roi.transactions limit 1")
        for mapping in more:
            if mapping.transformation_rule is not None:
                name = mapping.roi_systems_field.removeprefix("custom.")
                assert custom["custom"][name] == custom["id"] + name.removeprefix("rule_")
