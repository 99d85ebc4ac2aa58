"""Test generated records: reproducible, realistic, of any size."""

import json
import time
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from softpro_sandbox.clock import iso, parse_ms
from softpro_sandbox.records.cities import CITIES
from softpro_sandbox.state import EntityType, Setup, create_state

from .conftest import Clock


def bodies(entity: EntityType, **setup: Any) -> list[bytes]:
    state = create_state(Setup(**setup), Clock())
    return [body for each in state.organizations.values() for body in each.stores[entity].latest_bodies()]


@pytest.fixture(scope="module")
def orders() -> list[dict[str, Any]]:
    records = bodies(EntityType.TRANSACTION, transactions=3000, contacts=300)
    return [json.loads(body, parse_float=Decimal) for body in records]


def test_the_same_seed_and_sizes_give_equal_bytes() -> None:
    for entity in EntityType:
        assert bodies(entity, seed=5, organizations=2) == bodies(entity, seed=5, organizations=2)
        assert bodies(entity, seed=5) != bodies(entity, seed=6)


def test_a_sandbox_can_be_empty() -> None:
    assert bodies(EntityType.TRANSACTION, transactions=0, contacts=0) == []
    assert len(bodies(EntityType.TRANSACTION, transactions=20, contacts=0)) == 20


def test_what_must_be_there_is_and_the_rest_has_gaps(orders: list[dict[str, Any]]) -> None:
    assert all({"orderId", "orderType", "createdAt", "updatedAt"} <= order.keys() for order in orders)
    for name in ("status", "purchasePrice", "propertyAddress", "buyer", "openedDate"):
        assert any(name not in order for order in orders), name
        assert any(name in order and order[name] is None for order in orders), name


def test_dates_follow_each_other_and_agree_with_the_status(orders: list[dict[str, Any]]) -> None:
    for order in orders:
        dates = [order["createdAt"], order.get("openedDate"), order.get("actualClosingDate"), order["updatedAt"]]
        dates_present = [date for date in dates if date]
        assert all(earlier <= later for earlier, later in pairwise(dates_present)), order
        assert all(iso(parse_ms(date)) == date for date in dates_present)
        if order.get("actualClosingDate"):
            assert order.get("status") in ("CLOSED", "FUNDED", None)
        assert "2023-10" < order["updatedAt"] <= "2025-11-01T00:00:00.000Z"


def test_money_has_two_decimals_at_most_and_adds_up(orders: list[dict[str, Any]]) -> None:
    for order in orders:
        amounts = {name: order.get(name) for name in ("purchasePrice", "loanAmount", "downPayment", "closingCost")}
        for amount in amounts.values():
            assert amount is None or amount == round(Decimal(amount), 2) >= 0
        price, loan, down, _ = amounts.values()
        if price is not None and loan is not None and down is not None:
            assert loan + down == price


def test_addresses_name_one_place(orders: list[dict[str, Any]]) -> None:
    known = {(city.name, city.state, city.county, code) for city in CITIES for code in city.zip_codes}
    addresses = [order["propertyAddress"] for order in orders if order.get("propertyAddress")]
    assert all((a["city"], a["state"], a["county"], a["zipCode"][:5]) in known for a in addresses)


def test_parties_are_contacts_of_the_organization(orders: list[dict[str, Any]]) -> None:
    parties = [party for order in orders for party in (order.get("buyer") or []) + (order.get("seller") or [])]
    named = [party["contactId"] for party in parties if "contactId" in party]
    assert len(named) > 1000
    assert all(1 <= int(contact_id.removeprefix("con-")) <= 300 for contact_id in named)


def test_some_changes_share_a_moment_and_some_text_is_not_latin(orders: list[dict[str, Any]]) -> None:
    moments = [order["updatedAt"] for order in orders]
    assert max(map(moments.count, set(moments))) >= 20
    text = json.dumps(orders, default=str, ensure_ascii=False)
    for sample in ("José", "王", "محمد", "🎉", "n\u0303"):
        assert sample in text


def test_thousands_of_records_are_made_in_a_moment() -> None:
    started = time.process_time()
    bodies(EntityType.TRANSACTION, transactions=5000, contacts=100)
    assert time.process_time() - started < 3
