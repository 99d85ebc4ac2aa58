"""Test single records: reads, ETags, creates, changes, deletes."""

import json
from decimal import Decimal

import pytest

from .conftest import Sandbox


def test_a_read_carries_a_strong_etag_that_changes_with_the_record(sandbox: Sandbox) -> None:
    before = sandbox.get("/transactions/ord-000001")
    assert before.headers["etag"].startswith('"')
    assert sandbox.get("/transactions/ord-000001").headers["etag"] == before.headers["etag"]
    changed = sandbox.patch("ord-000001", {"notes": "x"})
    after = sandbox.get("/transactions/ord-000001")
    assert after.headers["etag"] == changed.headers["etag"] != before.headers["etag"]


def test_a_patch_changes_only_the_fields_sent_and_null_clears(sandbox: Sandbox) -> None:
    created = sandbox.create(notes="n", loanAmount=5, propertyAddress={"city": "Reno", "state": "NV"})
    sandbox.clock.advance(1.5)
    patched = sandbox.patch(
        created["orderId"], {"notes": None, "status": "CLOSED", "propertyAddress": {"city": "Sparks"}}
    ).json()
    assert patched == created | {
        "notes": None,
        "status": "CLOSED",
        "propertyAddress": {"city": "Sparks", "state": "NV"},
        "updatedAt": "2025-11-03T12:00:01.500Z",
    }


def test_if_match_of_another_version_is_a_conflict_that_shows_the_record_as_it_stands(sandbox: Sandbox) -> None:
    etag = sandbox.get("/transactions/ord-000001").headers["etag"]
    current = sandbox.patch("ord-000001", {"notes": "first"}, etag).json()
    response = sandbox.patch("ord-000001", {"notes": "second"}, etag)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (409, "CONFLICT_ERROR")
    assert error["details"]["current"] == current
    assert sandbox.patch("ord-000001", {"notes": "third"}, "*").status_code == 200


def test_without_etags_nothing_conflicts(sandbox: Sandbox) -> None:
    sandbox.switch(etags=False)
    assert "etag" not in sandbox.get("/transactions/ord-000001").headers
    assert sandbox.patch("ord-000001", {"notes": "x"}, '"other"').status_code == 200


def test_a_patch_that_changes_nothing_does_not_move_updated_at(sandbox: Sandbox) -> None:
    created = sandbox.create(notes="n")
    sandbox.clock.advance(5)
    assert sandbox.patch(created["orderId"], {"notes": "n"}).json() == created
    assert sandbox.patch(created["orderId"], {}).json() == created


def test_a_created_order_has_a_number_and_the_vendors_time(sandbox: Sandbox) -> None:
    created = sandbox.create(purchasePrice=450000.10)
    assert created["orderId"] == "ord-000031"
    assert created["orderNumber"] == "2025-000031"
    assert created["createdAt"] == created["updatedAt"] == "2025-11-03T12:00:00.000Z"
    assert sandbox.ids(limit=200)[-1] == "ord-000031"
    assert sandbox.create(orderNumber="MINE")["orderNumber"] == "MINE"


@pytest.mark.parametrize("amount", ["0.1", "0.29", "450000.1", "1234567.89", "999999999999.99", "12345678901.01"])
def test_money_comes_back_digit_for_digit(sandbox: Sandbox, amount: str) -> None:
    body = f'{{"orderType": "SALE", "purchasePrice": {amount}}}'
    headers = {"content-type": "application/json"}
    order_id = sandbox.http.post("/api/v1/transactions", content=body, headers=headers).json()["orderId"]
    sandbox.patch(order_id, {"notes": "once more through the mill"})
    text = sandbox.get(f"/transactions/{order_id}").text
    assert json.loads(text, parse_float=Decimal)["purchasePrice"] == Decimal(amount)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "orderType"),
        ({"orderType": None}, "orderType"),
        ({"orderType": "GIFT"}, "orderType"),
        ({"orderType": "SALE", "purchasePrice": 1.005}, "purchasePrice"),
        ({"orderType": "SALE", "purchasePrice": -1}, "purchasePrice"),
        ({"orderType": "SALE", "purchasePrice": "12"}, "purchasePrice"),
        ({"orderType": "SALE", "openedDate": "soon"}, "openedDate"),
        ({"orderType": "SALE", "propertyAddress": "here"}, "propertyAddress"),
        ([], "body"),
    ],
)
def test_a_bad_create_is_refused_with_the_field_named(sandbox: Sandbox, body: object, field: str) -> None:
    response = sandbox.http.post("/api/v1/transactions", json=body)
    assert response.status_code == 400
    assert [item["field"] for item in response.json()["error"]["details"]["fields"]] == [field]
    assert sandbox.get("/transactions").json()["pagination"]["total"] == 30


def test_keys_and_times_cannot_be_written(sandbox: Sandbox) -> None:
    patched = sandbox.patch("ord-000002", {"orderId": "x", "createdAt": "2000-01-01", "notes": "y"}).json()
    assert patched["orderId"] == "ord-000002"
    assert patched["createdAt"] > "2020"
    assert sandbox.patch("ord-000002", {"orderType": None}).status_code == 400


def test_a_deleted_order_is_gone_at_once(sandbox: Sandbox) -> None:
    sandbox.switch(lag=5)
    sandbox.patch("ord-000003", {"notes": "pending"})
    assert sandbox.http.delete("/api/v1/transactions/ord-000003").status_code == 204
    sandbox.clock.advance(6)
    assert sandbox.get("/transactions/ord-000003").status_code == 404
    assert "ord-000003" not in sandbox.ids(limit=200)
    assert sandbox.http.delete("/api/v1/transactions/ord-000003").status_code == 404
    assert sandbox.patch("ord-000003", {"notes": "x"}).status_code == 404


def test_contacts_are_created_read_and_changed_but_never_deleted(sandbox: Sandbox) -> None:
    created = sandbox.http.post("/api/v1/contacts", json={"contactType": "INDIVIDUAL", "lastName": "Nguyễn 🎉"}).json()
    url = f"/api/v1/contacts/{created['contactId']}"
    assert created["contactId"] == "con-000011"
    assert sandbox.http.patch(url, json={"firstName": "An"}).json()["lastName"] == "Nguyễn 🎉"
    assert sandbox.http.get(url).json()["firstName"] == "An"
    assert sandbox.http.post("/api/v1/contacts", json={}).status_code == 400
    refused = sandbox.http.delete(url)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, PATCH")


def test_errors_come_in_the_envelope(sandbox: Sandbox) -> None:
    for response, status, code in (
        (sandbox.get("/transactions/none"), 404, "NOT_FOUND"),
        (sandbox.get("/nowhere"), 404, "NOT_FOUND"),
        (sandbox.http.request("PUT", "/api/v1/transactions"), 405, "VALIDATION_ERROR"),
        (
            sandbox.http.post("/api/v1/contacts", content="{", headers={"content-type": "application/json"}),
            400,
            "VALIDATION_ERROR",
        ),
        (sandbox.http.get("/api/v1/user/profile", headers={"authorization": "Bearer no"}), 401, "AUTHENTICATION_ERROR"),
    ):
        body = response.json()
        assert response.status_code == status
        assert body["success"] is False
        assert body["error"]["code"] == code
        assert set(body["error"]) == {"code", "message", "details"}
        assert body["meta"]["timestamp"] == "2025-11-03T12:00:00.000Z"
        assert body["meta"]["requestId"]


def test_every_answer_carries_the_vendors_date(sandbox: Sandbox) -> None:
    sandbox.clock.advance(0.999)
    for path in ("/api/v1/transactions", "/api/v1/nowhere", "/", "/oauth/authorize"):
        assert sandbox.http.get(path).headers["date"] == "Mon, 03 Nov 2025 12:00:00 GMT"
