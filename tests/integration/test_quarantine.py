"""Quarantine bad records without blocking the others (promise 4)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from softpro.services import Services

from ..support.databases import one, rows
from ..support.fixture_types import Connected
from ..support.product import sync
from ..support.sandbox import Sandbox

HEAD = '"orderType": "SALE", "createdAt": "2025-06-01T00:00:00.000Z", "updatedAt": "2025-06-01T00:00:00.000Z"'

# Name, the record, and its reasons: rule and column.
BAD: dict[str, tuple[str, list[tuple[str, str | None]]]] = {
    "money-that-is-none": ('"purchasePrice": "a lot"', [("type", "purchase_price")]),
    "three-decimals": ('"purchasePrice": 1.005', [("type", "purchase_price")]),
    "negative": ('"loanAmount": -0.01', [("expect_column_values_to_be_between", "loan_amount")]),
    "overflow": ('"downPayment": 1000000000000', [("expect_column_values_to_be_between", "down_payment")]),
    "huge": (
        '"closingCost": 123456789012345678901234567890.5',
        [("expect_column_values_to_be_between", "closing_cost")],
    ),
    "twice-wrong": (
        '"purchasePrice": -1, "loanAmount": -2',
        [
            ("expect_column_values_to_be_between", "purchase_price"),
            ("expect_column_values_to_be_between", "loan_amount"),
        ],
    ),
    "bad-date": ('"openedDate": "2025-02-30"', [("type", "opened_at")]),
    "date-and-money": (
        '"openedDate": "soon", "closingCost": []',
        [("type", "closing_cost"), ("type", "opened_at")],
    ),
    "date-and-negative": (
        '"openedDate": "soon", "loanAmount": -1',
        [("type", "opened_at"), ("expect_column_values_to_be_between", "loan_amount")],
    ),
    "nul": ('"notes": "a\\u0000b"', [("readable", None)]),
    "lone-surrogate": ('"notes": "half \\ud83c"', [("readable", None)]),
}
NOWHERE = {
    "without-id": b'{"orderType": "SALE", "updatedAt": "2025-06-01T00:00:00.000Z"}',
    "numeric-id": b'{"orderId": 7, "orderType": "SALE", "updatedAt": "2025-06-01T00:00:00.000Z"}',
}


def record(order_id: str, fields: str) -> bytes:
    return f'{{"orderId": "{order_id}", {HEAD}, {fields}}}'.encode()


def exactly(payload: bytes) -> Any:
    return msgspec.json.Decoder(float_hook=Decimal).decode(payload)


def test_each_bad_record_is_in_quarantine_with_its_reasons_and_payload_and_the_rest_is_loaded(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    for name, (fields, _) in BAD.items():
        sandbox.put(vendor_organization, record(name, fields))
    for payload in NOWHERE.values():
        sandbox.put(vendor_organization, payload)
    sandbox.put(vendor_organization, record("good", '"purchasePrice": 999999999999.99, "loanAmount": 0'))
    sandbox.put(vendor_organization, b'{"orderId": "undated", "orderType": "SALE", "updatedAt": "yesterday"}')
    log = sync(services, integration)
    bad = len(BAD) + len(NOWHERE) + 1
    assert (log.status, log.records_processed, log.records_failed) == ("PARTIAL_SUCCESS", 46 + bad, bad)
    assert log.records_fetched == 46 + bad
    assert one(services.database, "select count(*) from roi.transactions") == 46

    cases = {
        row["record_key"]: row
        for row in rows(services.database, "select * from softpro.quarantine where resolved_at is null")
    }
    assert len(cases) == bad
    for name, (fields, reasons) in BAD.items():
        case = cases[name]
        found = [(reason["rule"], reason["column"]) for reason in case["reasons"]]
        assert sorted(found, key=str) == sorted(reasons, key=str), name
        assert all(reason["message"] for reason in case["reasons"])
        if reasons[0][0] != "readable":
            assert exactly(case["payload"]) == exactly(record(name, fields))
        else:
            assert case["payload"] == record(name, fields)
    nameless = [row["payload"] for row in cases.values() if row["entity_id"] is None]
    assert sorted(nameless) == sorted(NOWHERE.values())
    assert cases["undated"]["reasons"][0]["message"] == "updatedAt is missing or is not a timestamp"

    again = sync(services, integration)
    assert (again.status, again.records_processed, again.records_failed) == ("COMPLETED", 0, 0)


@pytest.mark.parametrize("was", ['"purchasePrice": -1', '"purchasePrice": "a lot"', '"notes": "half \\ud83c"'])
def test_a_record_that_becomes_good_closes_its_case(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str, was: str
) -> None:
    integration = connected("acme")
    sandbox.put(vendor_organization, record("mended", was))
    assert sync(services, integration).records_failed == 1
    corrected = record("mended", '"purchasePrice": 1').replace(b'"updatedAt": "2025-06', b'"updatedAt": "2030-06')
    sandbox.put(vendor_organization, corrected)
    log = sync(services, integration)
    assert (log.records_processed, log.records_failed, log.records_inserted) == (1, 0, 1)
    assert one(services.database, "select count(*) from softpro.quarantine where resolved_at is null") == 0


def test_a_good_version_is_kept_while_a_bad_one_is_in_quarantine(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    sandbox.put(vendor_organization, record("o", '"purchasePrice": 1'))
    sync(services, integration)
    worse = record("o", '"purchasePrice": -1').replace(b'"updatedAt": "2025-06', b'"updatedAt": "2030-06')
    sandbox.put(vendor_organization, worse)
    assert sync(services, integration).records_failed == 1
    assert one(services.database, "select purchase_price from roi.transactions where softpro_order_id = 'o'") == 1


def test_the_merely_unlikely_loads_and_is_counted(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    sync(services, integration)
    unlikely = [
        {"status": "ON_THE_MOON", "orderType": "SWAP", "propertyType": "CASTLE"},
        {"status": "ON_THE_MOON"},
        {"propertyAddress": {"state": "Arizona"}},
        {"purchasePrice": 1, "loanAmount": 2},
        {"purchasePrice": 2, "loanAmount": 2},
        {"loanAmount": 2},
        {"status": None, "orderType": "SALE", "notes": ""},
    ]
    for number, fields in enumerate(unlikely):
        body = json.loads(record(f"odd-{number}", '"x": 1')) | fields | {"updatedAt": "2030-01-01T00:00:00.000Z"}
        sandbox.put(vendor_organization, body)
    log = sync(services, integration)
    assert (log.status, log.records_processed, log.records_failed) == ("COMPLETED", 7, 0)
    assert log.warnings == {
        "status be_in_set": 2,
        "transaction_type be_in_set": 1,
        "property_type be_in_set": 1,
        "property_state match_regex": 1,
        "purchase_price pair_values_a_to_be_greater_than_b": 1,
    }
    assert one(services.database, "select count(*) from roi.transactions where status = 'ON_THE_MOON'") == 2
