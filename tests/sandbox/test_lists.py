"""Test lists: order, paging, filters, and the live behaviour that the contract keeps on purpose."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Sandbox

Start = Callable[..., Sandbox]
EXPORT = "/sandbox/export?entityType=TRANSACTION"


def listed(sandbox: Sandbox, path: str = "/transactions", **params: Any) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = sandbox.get(path, limit=200, **params).json()["data"]
    return records


def test_a_list_is_ordered_by_updated_at_and_ties_by_id(start: Start) -> None:
    sandbox = start(transactions=150).connect()
    sandbox.http.post("/sandbox/changes", json={"count": 60, "sameTimestamp": True})
    records = listed(sandbox, sortBy="updatedAt", sortOrder="asc")
    keys = [(record["updatedAt"], record["orderId"]) for record in records]
    assert len(keys) == 150
    assert keys == sorted(keys)
    assert len({updated for updated, _ in keys[-60:]}) == 1


def test_descending_order_keeps_ids_ascending_within_a_tie(sandbox: Sandbox) -> None:
    sandbox.http.post("/sandbox/changes", json={"count": 5, "sameTimestamp": True})
    ids = sandbox.ids(sortBy="updatedAt", sortOrder="desc", limit=5)
    assert ids == sorted(ids)
    assert sandbox.ids(sortBy="updatedAt", sortOrder="desc", limit=200)[5:] == sandbox.ids(limit=200)[24::-1]


def test_pages_of_a_quiet_list_add_up_to_it(sandbox: Sandbox) -> None:
    pages = [sandbox.get("/transactions", limit=12, offset=offset).json() for offset in (0, 12, 24, 36)]
    assert [page["pagination"] for page in pages] == [
        {"total": 30, "limit": 12, "offset": 0, "hasMore": True},
        {"total": 30, "limit": 12, "offset": 12, "hasMore": True},
        {"total": 30, "limit": 12, "offset": 24, "hasMore": False},
        {"total": 30, "limit": 12, "offset": 36, "hasMore": False},
    ]
    ids = [record["orderId"] for page in pages for record in page["data"]]
    assert ids == sandbox.ids(limit=200)
    assert len(set(ids)) == 30


def test_a_record_that_changes_while_paging_shifts_the_later_ones_forward(sandbox: Sandbox) -> None:
    first = sandbox.ids(limit=10)
    unseen = sandbox.ids(limit=1, offset=10)
    sandbox.patch(first[0], {"notes": "moved"})
    second = sandbox.ids(limit=200, offset=10)
    assert second[-1] == first[0]
    assert unseen[0] not in first + second


def test_change_while_paging_makes_that_happen_by_itself(start: Start) -> None:
    sandbox = start(transactions=200).connect()
    sandbox.switch(changeWhilePaging=20)
    before = {json.loads(line)["orderId"] for line in sandbox.http.get(EXPORT).text.splitlines()}
    seen = {order_id for offset in range(0, 200, 20) for order_id in sandbox.ids(limit=20, offset=offset)}
    assert seen < before


def test_updated_from_is_inclusive_to_the_millisecond(sandbox: Sandbox) -> None:
    records = listed(sandbox)
    updated = records[20]["updatedAt"]
    assert listed(sandbox, updatedFrom=updated) == records[20:]
    assert listed(sandbox, updatedFrom=updated[:-1] + "001Z") == records[21:]
    assert listed(sandbox, updatedFrom=updated[:-1] + "+00:00") == records[20:]


def test_the_switches_can_take_updated_from_and_sorting_away(sandbox: Sandbox) -> None:
    sandbox.switch(honourUpdatedFrom=False, honourSort=False)
    ids = sandbox.ids(updatedFrom="2030-01-01T00:00:00Z", sortBy="updatedAt", limit=200)
    assert ids == [f"ord-{number:06d}" for number in range(1, 31)]


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 201},
        {"limit": "many"},
        {"offset": -1},
        {"updatedFrom": "yesterday"},
        {"updatedFrom": "2025-02-30"},
        {"openedDateFrom": "9999-12-31T23:59:59-12:00"},
        {"openedDateTo": "2025-13-01"},
        {"closingDateFrom": ""},
    ],
)
def test_bad_parameters_are_validation_errors_that_name_the_field(sandbox: Sandbox, params: dict[str, Any]) -> None:
    response = sandbox.get("/transactions", **params)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "VALIDATION_ERROR")
    assert [item["field"] for item in error["details"]["fields"]] == list(params)


def test_unknown_filters_and_sorts_are_ignored(sandbox: Sandbox) -> None:
    assert sandbox.ids(colour="red", sortBy="mood", sortOrder="sideways") == sandbox.ids()


def test_the_limit_is_fifty_when_left_out(start: Start) -> None:
    assert len(start(transactions=60).connect().ids()) == 50


@pytest.mark.parametrize(
    ("params", "holds"),
    [
        ({"status": "CLOSED,CANCELLED"}, lambda r: r.get("status") in ("CLOSED", "CANCELLED")),
        ({"orderType": "REFINANCE"}, lambda r: r["orderType"] == "REFINANCE"),
        ({"propertyState": "tx"}, lambda r: (r.get("propertyAddress") or {}).get("state") == "TX"),
        ({"propertyCity": "san josé"}, lambda r: (r.get("propertyAddress") or {}).get("city") == "San José"),
        ({"openedDateFrom": "2025-06-10"}, lambda r: (r.get("openedDate") or "") >= "2025-06-10"),
        ({"openedDateTo": "2025-06-10"}, lambda r: "" < (r.get("openedDate") or "") < "2025-06-11"),
        (
            {"closingDateFrom": "2025-01-01", "closingDateTo": "2025-06-30"},
            lambda r: (
                "2025-01-01" <= (r.get("actualClosingDate") or r.get("estimatedClosingDate") or "") < "2025-07-01"
            ),
        ),
        ({"status": "CLOSED", "orderType": "SALE"}, lambda r: (r.get("status"), r["orderType"]) == ("CLOSED", "SALE")),
        (
            {"escrowOfficerId": "con-000001"},
            lambda r: (r.get("escrowOfficer") or {}).get("contactId") == "con-000001",
        ),
    ],
)
def test_transaction_filters_hold_exactly_their_records(
    start: Start, params: dict[str, str], holds: Callable[[dict[str, Any]], bool]
) -> None:
    sandbox = start(transactions=200).connect()
    everything = listed(sandbox)
    kept = listed(sandbox, **params)
    assert kept == [record for record in everything if holds(record)]
    assert 0 < len(kept) < 200


def test_search_finds_number_address_party_and_the_exact_roi_id(sandbox: Sandbox) -> None:
    created = sandbox.create(
        orderNumber="ZX-77",
        propertyAddress={"streetAddress": "12 Écluse Quay", "city": "Portland"},
        buyer=[{"partyType": "BUYER", "entityName": "Zsófia Quill"}],
        customFields={"roiSystemsId": "roi-1"},
    )
    for text in ("zx-7", "écluse quay port", "zsófia", "roi-1"):
        assert sandbox.ids(search=text) == [created["orderId"]], text
    assert sandbox.ids(search="roi-") == []


@pytest.mark.parametrize("name", ["openedDate", "closingDate", "orderNumber"])
def test_transactions_sort_by_a_field_with_gaps_last(start: Start, name: str) -> None:
    sandbox = start(transactions=200).connect()

    def values(order: str) -> list[str]:
        records = listed(sandbox, sortBy=name, sortOrder=order)
        if name == "closingDate":
            return [r.get("actualClosingDate") or r.get("estimatedClosingDate") or "" for r in records]
        return [r.get(name) or "" for r in records]

    rising, falling = values("asc"), values("desc")
    filled = [value for value in rising if value]
    gaps = [""] * (len(rising) - len(filled))
    assert rising == sorted(filled) + gaps
    assert falling == sorted(filled, reverse=True) + gaps


def test_contacts_have_their_own_filters_and_sorts(start: Start) -> None:
    sandbox = start(contacts=200).connect()
    everything = listed(sandbox, "/contacts")
    filters: list[tuple[dict[str, str], Callable[[dict[str, Any]], bool]]] = [
        ({"contactType": "LENDER,ATTORNEY"}, lambda r: r["contactType"] in ("LENDER", "ATTORNEY")),
        ({"state": "CA"}, lambda r: (r.get("address") or {}).get("state") == "CA"),
        ({"city": "denver"}, lambda r: (r.get("address") or {}).get("city") == "Denver"),
        ({"company": "title"}, lambda r: "title" in (r.get("company") or "").lower()),
        ({"search": "555-01"}, lambda r: "555-01" in f"{r.get('phone')} {r.get('mobilePhone')}"),
    ]
    for params, holds in filters:
        kept = listed(sandbox, "/contacts", **params)
        assert kept == [record for record in everything if holds(record)]
        assert 0 < len(kept) < 200
    names = [(r.get("lastName") or "").casefold() for r in listed(sandbox, "/contacts", sortBy="lastName")]
    filled = [name for name in names if name]
    assert names == sorted(filled) + [""] * (200 - len(filled))


def test_lists_carry_no_etags(sandbox: Sandbox) -> None:
    assert "etag" not in sandbox.get("/transactions").headers


def test_organizations_share_nothing(start: Start) -> None:
    sandbox = start(organizations=2).connect(organization=0)
    created = sandbox.create()
    sandbox.connect(organization=1)
    assert sandbox.get(f"/transactions/{created['orderId']}").status_code == 404
    assert sandbox.get("/transactions").json()["pagination"]["total"] == 30
