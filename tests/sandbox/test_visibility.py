"""Test replica lag: a change surfaces up to `lag` seconds after its `updatedAt`, each record by its own delay."""

import json

from .conftest import Sandbox


def test_until_a_change_surfaces_lists_and_reads_show_the_version_before(sandbox: Sandbox) -> None:
    before, order = sandbox.get("/transactions/ord-000001"), sandbox.ids(limit=200)
    sandbox.switch(lag=5)
    written = sandbox.patch("ord-000001", {"notes": "late"}).json()
    assert sandbox.get("/transactions/ord-000001").content == before.content
    assert sandbox.ids(limit=200) == order
    sandbox.clock.advance(5)
    assert sandbox.get("/transactions/ord-000001").json() == written
    assert sandbox.ids(limit=200)[-1] == "ord-000001"


def test_a_new_record_is_nowhere_until_it_surfaces(sandbox: Sandbox) -> None:
    sandbox.switch(lag=5)
    created = sandbox.create(customFields={"roiSystemsId": "roi-9"})
    assert sandbox.get(f"/transactions/{created['orderId']}").status_code == 404
    assert sandbox.ids(search="roi-9") == []
    sandbox.clock.advance(5)
    assert sandbox.ids(search="roi-9") == [created["orderId"]]


def test_a_new_contact_is_found_by_its_roi_id_once_it_has_surfaced(sandbox: Sandbox) -> None:
    sandbox.switch(lag=5)
    body = {"contactType": "INDIVIDUAL", "customFields": {"roiSystemsId": "roi-9"}}
    created = sandbox.http.post("/api/v1/contacts", json=body).json()
    assert sandbox.ids("/contacts", search="roi-9") == []
    sandbox.clock.advance(5)
    assert sandbox.ids("/contacts", search="roi-9") == [created["contactId"]]
    assert sandbox.ids("/contacts", search="roi-") == []


def test_records_surface_in_no_order(sandbox: Sandbox) -> None:
    sandbox.switch(lag=5)
    ids = []
    for _ in range(20):
        ids.append(sandbox.create()["orderId"])
        sandbox.clock.advance(0.001)
    seen = []
    for _ in range(60):
        seen += [order_id for order_id in sandbox.ids(limit=200) if order_id in ids and order_id not in seen]
        sandbox.clock.advance(0.1)
    assert sorted(seen) == ids != seen


def test_an_older_version_never_comes_back(sandbox: Sandbox) -> None:
    sandbox.switch(lag=5)
    for round_number in range(30):
        sandbox.patch("ord-000001", {"notes": f"{round_number:03d}"})
        sandbox.clock.advance(0.05)
    shown = []
    for _ in range(60):
        shown.append(sandbox.get("/transactions/ord-000001").json()["updatedAt"])
        sandbox.clock.advance(0.1)
    assert shown == sorted(shown)
    assert sandbox.get("/transactions/ord-000001").json()["notes"] == "029"


def test_if_match_is_held_against_the_true_version_not_the_shown_one(sandbox: Sandbox) -> None:
    stale = sandbox.get("/transactions/ord-000001").headers["etag"]
    sandbox.switch(lag=5)
    fresh = sandbox.patch("ord-000001", {"notes": "late"}).headers["etag"]
    assert sandbox.get("/transactions/ord-000001").headers["etag"] == stale
    assert sandbox.patch("ord-000001", {"notes": "later"}, stale).status_code == 409
    assert sandbox.patch("ord-000001", {"notes": "later"}, fresh).status_code == 200


def test_the_export_is_the_truth_whatever_the_lag(sandbox: Sandbox) -> None:
    sandbox.switch(lag=5)
    changed = sandbox.http.post("/sandbox/changes", json={"count": 7}).json()["ids"]
    lines = sandbox.http.get("/sandbox/export?entityType=TRANSACTION").text.splitlines()
    truth = {record["orderId"]: record for record in map(json.loads, lines)}
    assert len(truth) == 30
    assert {i for i, record in truth.items() if record["updatedAt"] == "2025-11-03T12:00:00.000Z"} == set(changed)
    assert all(record["updatedAt"] < "2025-11-02" for record in sandbox.get("/transactions").json()["data"])
    sandbox.clock.advance(5)
    assert {r["orderId"]: r for r in sandbox.get("/transactions", limit=200).json()["data"]} == truth
