"""Test statuses, parties and the property of an order: parts of the order that move its `updatedAt`."""

from typing import Any

import pytest

from .conftest import Sandbox

ORDER = "/api/v1/transactions/ord-000001"
LATER = "2025-11-03T12:00:09.000Z"


def add(sandbox: Sandbox, kind: str, order_id: str = "ord-000001", **fields: Any) -> dict[str, Any]:
    response = sandbox.http.post(f"/api/v1/transactions/{order_id}/parties", json={"partyType": kind} | fields)
    assert response.status_code == 201, response.text
    party: dict[str, Any] = response.json()
    return party


def parties(sandbox: Sandbox, order_id: str = "ord-000001") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.get(f"/transactions/{order_id}/parties").json()
    return found


def test_the_six_statuses_are_listed_in_order(sandbox: Sandbox) -> None:
    statuses = sandbox.get("/statuses").json()
    codes = [status["statusCode"] for status in statuses]
    assert codes == ["OPENED", "IN_PROGRESS", "PENDING_CLOSING", "CLOSED", "CANCELLED", "ON_HOLD"]
    assert set(statuses[0]) == {"statusId", "statusName", "statusCode", "category", "isActive", "sortOrder"}
    assert len({status["statusId"] for status in statuses}) == 6


def test_an_order_is_given_a_status_by_its_id(sandbox: Sandbox) -> None:
    created = sandbox.create(status="OPENED")
    held = next(status for status in sandbox.get("/statuses").json() if status["statusCode"] == "ON_HOLD")
    sandbox.clock.advance(9)
    url = f"/api/v1/transactions/{created['orderId']}/status"
    response = sandbox.http.patch(url, json={"statusId": held["statusId"]})
    assert response.json() == created | {"status": "ON_HOLD", "updatedAt": LATER}
    assert response.headers["etag"] == sandbox.get(f"/transactions/{created['orderId']}").headers["etag"]
    sandbox.clock.advance(1)
    assert sandbox.http.patch(url, json={"statusId": held["statusId"]}).json()["updatedAt"] == LATER


@pytest.mark.parametrize("body", [{"statusId": "sts-99"}, {"statusId": "CLOSED"}, {"statusId": None}, {}])
def test_an_unknown_status_is_refused_with_the_field_named(sandbox: Sandbox, body: dict[str, Any]) -> None:
    before = sandbox.order()
    response = sandbox.http.patch(f"{ORDER}/status", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["details"]["fields"][0]["field"] == "statusId"
    assert sandbox.order() == before


def test_the_parties_of_an_order_are_those_its_record_shows(sandbox: Sandbox) -> None:
    for order_id in sandbox.ids(limit=200):
        order = sandbox.order(order_id)
        shown = [party for field in ("buyer", "seller", "lender") for party in order.get(field) or []]
        assert parties(sandbox, order_id) == [*shown, *filter(None, [order.get("titleCompany")])]


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("BUYER", "buyer"),
        ("BORROWER", "buyer"),
        ("SELLER", "seller"),
        ("LENDER", "lender"),
        ("TITLE_COMPANY", "titleCompany"),
        ("ATTORNEY", "otherParties"),
    ],
)
def test_a_new_party_stands_where_its_type_says_and_moves_the_order(sandbox: Sandbox, kind: str, field: str) -> None:
    created = sandbox.create()
    sandbox.clock.advance(9)
    party = add(sandbox, kind, created["orderId"], entityName="Zoë", customFields={"roiSystemsId": "roi-1"})
    order = sandbox.order(created["orderId"])
    assert order == created | {field: party if field == "titleCompany" else [party], "updatedAt": LATER}
    assert party == {
        "partyId": f"pty-31-{kind.lower()}-1",
        "partyType": kind,
        "entityName": "Zoë",
        "customFields": {"roiSystemsId": "roi-1"},
    }


def test_a_second_title_company_does_not_push_out_the_first(sandbox: Sandbox) -> None:
    created = sandbox.create()
    first, second = (add(sandbox, "TITLE_COMPANY", created["orderId"]) for _ in range(2))
    assert sandbox.order(created["orderId"])["titleCompany"] == first
    assert parties(sandbox, created["orderId"]) == [first, second]
    assert first["partyId"] != second["partyId"]


def test_a_party_whose_answer_was_lost_is_found_by_its_roi_id(sandbox: Sandbox) -> None:
    sandbox.switch(lostWrite=1)
    with pytest.raises(ConnectionResetError):
        add(sandbox, "BUYER_AGENT", customFields={"roiSystemsId": "roi-7"})
    sandbox.switch(lostWrite=0)
    ids = [(party.get("customFields") or {}).get("roiSystemsId") for party in parties(sandbox)]
    assert ids.count("roi-7") == 1


def test_a_party_changes_by_the_fields_sent_and_null_clears(sandbox: Sandbox) -> None:
    party = add(sandbox, "SELLER", entityName="A", notes="n", customFields={"a": 1})
    sandbox.clock.advance(9)
    url = f"{ORDER}/parties/{party['partyId']}"
    changed = sandbox.http.patch(url, json={"notes": None, "customFields": {"b": 2}, "partyId": "x"}).json()
    assert changed == party | {"notes": None, "customFields": {"a": 1, "b": 2}}
    assert changed in parties(sandbox)
    assert sandbox.order()["updatedAt"] == LATER
    sandbox.clock.advance(9)
    assert sandbox.http.patch(url, json={"notes": None}).json() == changed
    assert sandbox.order()["updatedAt"] == LATER


def test_a_party_with_another_type_moves_to_its_place(sandbox: Sandbox) -> None:
    created = sandbox.create()
    buyer, company = add(sandbox, "BUYER", created["orderId"]), add(sandbox, "TITLE_COMPANY", created["orderId"])
    for party, kind in ((buyer, "ATTORNEY"), (company, "LENDER")):
        url = f"/api/v1/transactions/{created['orderId']}/parties/{party['partyId']}"
        assert sandbox.http.patch(url, json={"partyType": kind}).json() == party | {"partyType": kind}
    order = sandbox.order(created["orderId"])
    assert (order["buyer"], order["titleCompany"]) == ([], None)
    assert [party["partyId"] for party in parties(sandbox, created["orderId"])] == [
        company["partyId"],
        buyer["partyId"],
    ]


def test_a_partys_if_match_takes_its_own_etag_or_the_orders(sandbox: Sandbox) -> None:
    party = add(sandbox, "SELLER", entityName="A")
    url = f"{ORDER}/parties/{party['partyId']}"
    order_etag = sandbox.get("/transactions/ord-000001").headers["etag"]
    first = sandbox.http.patch(url, json={"notes": "1"}, headers={"If-Match": order_etag})
    assert first.status_code == 200
    refused = sandbox.http.patch(url, json={"notes": "2"}, headers={"If-Match": order_etag})
    assert refused.status_code == 409
    assert refused.json()["error"]["details"]["current"] == first.json()
    again = sandbox.http.patch(url, json={"notes": "3"}, headers={"If-Match": first.headers["etag"]})
    assert again.status_code == 200


def test_parties_that_come_inside_an_order_get_ids(sandbox: Sandbox) -> None:
    created = sandbox.create(buyer=[{"partyType": "BUYER"}, {"partyType": "BUYER"}], titleCompany={"entityName": "T"})
    assert [party["partyId"] for party in created["buyer"]] == ["pty-31-buyer-1", "pty-31-buyer-2"]
    assert created["titleCompany"]["partyId"] == "pty-31-party-1"
    patched = sandbox.patch(created["orderId"], {"buyer": [*created["buyer"], {"partyType": "BUYER"}]}).json()
    assert [party["partyId"] for party in patched["buyer"]] == [f"pty-31-buyer-{n}" for n in (1, 2, 3)]


def test_bad_parties_and_unknown_ones_are_refused(sandbox: Sandbox) -> None:
    for body in ({}, {"partyType": "FRIEND"}, {"partyType": "BUYER", "ownershipPercentage": 101}):
        assert sandbox.http.post(f"{ORDER}/parties", json=body).status_code == 400
    assert sandbox.http.patch(f"{ORDER}/parties/none", json={}).status_code == 404
    assert sandbox.get("/transactions/none/parties").status_code == 404
    assert sandbox.http.post("/api/v1/transactions/none/parties", json={"partyType": "BUYER"}).status_code == 404


def test_a_property_is_the_orders_address_and_type_and_always_the_same(sandbox: Sandbox) -> None:
    order = sandbox.order("ord-000002")
    found = sandbox.get("/transactions/ord-000002/property")
    assert found.json()["propertyId"] == "prp-000002"
    assert found.json().get("address") == order.get("propertyAddress")
    assert found.json().get("propertyType") == order.get("propertyType")
    assert found.json()["legalDescription"].startswith("Lot ")
    assert sandbox.get("/transactions/ord-000002/property").content == found.content


def test_a_created_orders_property_is_only_what_the_order_says(sandbox: Sandbox) -> None:
    created = sandbox.create(propertyAddress={"city": "Reno"}, propertyType="CONDO")
    assert sandbox.get(f"/transactions/{created['orderId']}/property").json() == {
        "propertyId": "prp-000031",
        "orderId": created["orderId"],
        "address": {"city": "Reno"},
        "propertyType": "CONDO",
    }


def test_a_property_changes_by_the_fields_sent_and_moves_the_order(sandbox: Sandbox) -> None:
    created = sandbox.create(propertyAddress={"city": "Reno", "state": "NV"})
    url = f"/api/v1/transactions/{created['orderId']}/property"
    sandbox.clock.advance(9)
    changed = sandbox.http.patch(url, json={"yearBuilt": 1961, "address": {"city": "Sparks"}})
    assert changed.json()["address"] == {"city": "Sparks", "state": "NV"}
    assert sandbox.http.get(url).content == changed.content
    order = sandbox.order(created["orderId"])
    assert order == created | {"propertyAddress": {"city": "Sparks", "state": "NV"}, "updatedAt": LATER}
    sandbox.clock.advance(1)
    assert sandbox.http.patch(url, json={"yearBuilt": 1961}).content == changed.content
    assert sandbox.order(created["orderId"])["updatedAt"] == LATER
    stale = sandbox.http.patch(url, json={"yearBuilt": 1}, headers={"If-Match": '"other"'})
    assert (stale.status_code, stale.json()["error"]["details"]["current"]) == (409, changed.json())
    assert sandbox.http.patch(url, json={"yearBuilt": "old"}).status_code == 400


def test_without_etags_no_part_conflicts(sandbox: Sandbox) -> None:
    party = add(sandbox, "SELLER")
    sandbox.switch(etags=False)
    for path, body in (
        ("/status", {"statusId": "sts-04"}),
        (f"/parties/{party['partyId']}", {"notes": "x"}),
        ("/property", {"zoning": "R-9"}),
    ):
        response = sandbox.http.patch(ORDER + path, json=body, headers={"If-Match": '"other"'})
        assert (response.status_code, "etag" in response.headers) == (200, False), path
    sandbox.switch(etags=True)
    for path, body in (("/status", {"statusId": "sts-01"}), ("/property", {"zoning": "R-8"})):
        assert sandbox.http.patch(ORDER + path, json=body, headers={"If-Match": '"other"'}).status_code == 409, path


def test_parts_surface_with_their_order(sandbox: Sandbox) -> None:
    before = sandbox.get("/transactions/ord-000001/property").content
    sandbox.switch(lag=5)
    party = add(sandbox, "SELLER")
    changed = sandbox.http.patch(f"{ORDER}/property", json={"zoning": "R-9"})
    assert party not in parties(sandbox)
    assert sandbox.get("/transactions/ord-000001/property").content == before
    sandbox.clock.advance(5)
    assert party in parties(sandbox)
    assert sandbox.get("/transactions/ord-000001/property").content == changed.content


def test_parts_need_the_scopes_of_transactions(sandbox: Sandbox) -> None:
    sandbox.connect(scope="read:transactions")
    assert sandbox.get("/transactions/ord-000001/parties").status_code == 200
    assert sandbox.http.patch(f"{ORDER}/status", json={"statusId": "sts-04"}).status_code == 403
    sandbox.connect(scope="read:contacts")
    for path in ("/statuses", "/transactions/ord-000001/parties", "/transactions/ord-000001/property"):
        assert sandbox.get(path).status_code == 403, path
