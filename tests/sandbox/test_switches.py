"""Test the switches for unknown vendor behaviour (page sizes, clock, feed of deletes), and the list of calls."""

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import START, Sandbox


def deletions(sandbox: Sandbox, **params: Any) -> list[tuple[str, str]]:
    response = sandbox.get("/deletions", **params)
    assert response.status_code == 200, response.text
    return [(each["entityType"], each["entityId"]) for each in response.json()["data"]]


def test_the_largest_page_can_be_smaller_or_larger(start: Callable[..., Sandbox]) -> None:
    sandbox = start(transactions=60).connect()
    sandbox.switch(maxPageSize=20)
    assert len(sandbox.ids(limit=20)) == len(sandbox.ids()) == 20
    for path in ("/transactions", "/contacts"):
        refused = sandbox.get(path, limit=21)
        assert refused.status_code == 400
        assert [item["field"] for item in refused.json()["error"]["details"]["fields"]] == ["limit"]
    sandbox.switch(maxPageSize=1000)
    assert len(sandbox.ids(limit=1000)) == 60
    assert len(sandbox.ids()) == 50


def test_the_vendors_clock_can_be_wrong(sandbox: Sandbox) -> None:
    for skew, date, stamp in (
        (90, "Mon, 03 Nov 2025 12:01:30 GMT", "2025-11-03T12:01:30.000Z"),
        (-3600.5, "Mon, 03 Nov 2025 10:59:59 GMT", "2025-11-03T10:59:59.500Z"),
    ):
        sandbox.switch(clockSkewSeconds=skew)
        created = sandbox.http.post("/api/v1/contacts", json={"contactType": "OTHER"})
        assert created.headers["date"] == date
        assert created.json()["updatedAt"] == stamp
        assert sandbox.get("/nowhere").json()["meta"]["timestamp"] == stamp


def test_a_wrong_clock_leaves_tokens_limits_and_lag_alone(start: Callable[..., Sandbox]) -> None:
    sandbox = start(rate_limit=3).connect()
    sandbox.switch(clockSkewSeconds=7200, lag=5)
    created = sandbox.create()
    sandbox.switch(clockSkewSeconds=-7200)
    sandbox.clock.advance(5)
    assert sandbox.get(f"/transactions/{created['orderId']}").json() == created
    assert sandbox.get("/user/profile").status_code == 200
    assert sandbox.get("/user/profile").status_code == 429
    sandbox.clock.advance(60)
    assert sandbox.get("/user/profile").status_code == 200


def test_there_is_no_feed_of_deletes_unless_switched_on(sandbox: Sandbox) -> None:
    sandbox.http.delete("/api/v1/transactions/ord-000003")
    unknown = sandbox.get("/deletions")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "NOT_FOUND")
    sandbox.switch(deletesFeed=True)
    assert deletions(sandbox) == [("TRANSACTION", "ord-000003")]


def test_the_feed_lists_every_delete_by_its_time(sandbox: Sandbox) -> None:
    sandbox.switch(deletesFeed=True)
    document = sandbox.get("/transactions/ord-000001/documents").json()[0]["documentId"]
    for url in (
        "/api/v1/transactions/ord-000003",
        f"/api/v1/transactions/ord-000001/documents/{document}",
        "/sandbox/records/con-000002?entityType=CONTACT",
    ):
        assert sandbox.http.delete(url).status_code == 204
        sandbox.clock.advance(1)
    assert sandbox.http.delete("/api/v1/transactions/ord-000003").status_code == 404
    everything = [("TRANSACTION", "ord-000003"), ("DOCUMENT", document), ("CONTACT", "con-000002")]
    assert deletions(sandbox) == everything
    assert deletions(sandbox, deletedFrom="2025-11-03T12:00:01.000Z") == everything[1:]
    page = sandbox.get("/deletions", limit=1, offset=1).json()
    assert page == {
        "data": [{"entityType": "DOCUMENT", "entityId": document, "deletedAt": "2025-11-03T12:00:01.000Z"}],
        "pagination": {"total": 3, "limit": 1, "offset": 1, "hasMore": True},
    }
    assert sandbox.get("/deletions", deletedFrom="soon").status_code == 400


def test_every_call_is_on_the_list_of_arrivals_with_its_kind_and_status(sandbox: Sandbox) -> None:
    document = sandbox.get("/transactions/ord-000001/documents").json()[0]["documentId"]
    sandbox.clock.advance(10)
    sandbox.get(f"/transactions/ord-000001/documents/{document}/download")
    sandbox.get("/transactions/ord-000001/parties")
    sandbox.http.patch("/api/v1/transactions/ord-000001/parties/none", json={})
    sandbox.http.patch("/api/v1/transactions/ord-000001/status", json={"statusId": "?"})
    sandbox.get("/transactions/ord-000001/property")
    sandbox.get("/statuses")
    sandbox.get("/deletions")
    sandbox.http.get("/api/v1/user/profile", headers={"authorization": "Bearer other"})
    sandbox.switch(resetConnection=1)
    with pytest.raises(ConnectionResetError):
        sandbox.get("/contacts/con-000001")
    [organization] = sandbox.organization_ids
    calls = sandbox.http.get("/sandbox/calls", params={"since": START + 10}).json()
    assert [(call["organizationId"], call["call"], call["status"]) for call in calls] == [
        (organization, "GET /transactions/{id}/documents/{id}/download", 200),
        (organization, "GET /transactions/{id}/parties", 200),
        (organization, "PATCH /transactions/{id}/parties/{id}", 404),
        (organization, "PATCH /transactions/{id}/status", 400),
        (organization, "GET /transactions/{id}/property", 200),
        (organization, "GET /statuses", 200),
        (organization, "GET /deletions", 404),
        (None, "GET /user/profile", 401),
        (organization, "GET /contacts/{id}", None),
    ]
    assert {call["at"] for call in calls} == {START + 10}
    assert len(sandbox.http.get("/sandbox/calls").json()) == len(calls) + 1
