"""Test the faults that switches turn on."""

import json
import time
from collections.abc import Callable

import pytest

from softpro_sandbox.faults import Fault, pick_fault

from .conftest import Sandbox


@pytest.mark.parametrize(("switch", "status"), [("error500", 500), ("error503", 503), ("error429", 429)])
def test_an_error_comes_in_the_envelope_and_nothing_is_done(sandbox: Sandbox, switch: str, status: int) -> None:
    sandbox.switch(**{switch: 1})
    response = sandbox.http.post("/api/v1/transactions", json={"orderType": "SALE"})
    sandbox.switch(**{switch: 0})
    assert response.status_code == status
    assert response.json()["error"]["code"] == ("RATE_LIMIT_ERROR" if status == 429 else "SERVER_ERROR")
    assert response.headers.get("retry-after") == ("1" if status == 429 else None)
    assert sandbox.get("/transactions").json()["pagination"]["total"] == 30


def test_a_proxy_answers_html(sandbox: Sandbox) -> None:
    sandbox.switch(proxyHtml=1)
    response = sandbox.get("/transactions")
    assert response.status_code == 502
    assert response.headers["content-type"].startswith("text/html")


def test_a_body_can_be_empty_or_cut_short(sandbox: Sandbox) -> None:
    whole = sandbox.get("/transactions").content
    sandbox.switch(emptyBody=1)
    empty = sandbox.get("/transactions")
    sandbox.switch(emptyBody=0, truncatedBody=1)
    cut = sandbox.get("/transactions")
    assert (empty.status_code, empty.content) == (200, b"")
    assert (cut.status_code, cut.content) == (200, whole[: len(whole) // 2])
    assert cut.headers["content-length"] == str(len(cut.content))


def test_a_reset_connection_means_nothing_was_done_and_a_lost_write_means_it_was(sandbox: Sandbox) -> None:
    for switch, total in (("resetConnection", 30), ("lostWrite", 31)):
        sandbox.switch(**{switch: 1})
        with pytest.raises(ConnectionResetError):
            sandbox.http.post("/api/v1/transactions", json={"orderType": "SALE"})
        sandbox.switch(**{switch: 0})
        assert sandbox.get("/transactions").json()["pagination"]["total"] == total


def test_a_lost_write_leaves_reads_alone(sandbox: Sandbox) -> None:
    sandbox.switch(lostWrite=1)
    assert sandbox.get("/transactions").status_code == 200


def test_slow_answers_take_their_time(sandbox: Sandbox) -> None:
    sandbox.switch(slow=1, slowSeconds=0.05)
    started = time.monotonic()
    assert sandbox.get("/user/profile").status_code == 200
    assert time.monotonic() - started >= 0.05


def test_shares_are_drawn_from_the_seed(sandbox: Sandbox) -> None:
    def statuses() -> list[int]:
        sandbox.switch(error500=0.2, error503=0.1, faultSeed=7)
        return [sandbox.get("/user/profile").status_code for _ in range(200)]

    first = statuses()
    assert first == statuses()
    assert 20 < first.count(500) < 60
    assert 8 < first.count(503) < 35


def test_one_fault_at_most_befalls_a_request() -> None:
    weights: dict[Fault, float] = {"error500": 0.25, "error503": 0.75, "error429": 0.5}
    assert [pick_fault(point, weights) for point in (0, 0.2, 0.25, 0.999)] == [
        "error500",
        "error500",
        "error503",
        "error503",
    ]
    assert pick_fault(0.5, {"error500": 0.5}) is None


def test_faults_spare_oauth_and_the_control_calls(start: Callable[..., Sandbox]) -> None:
    sandbox = start()
    sandbox.switch(error500=1)
    sandbox.connect()
    assert sandbox.get("/user/profile").status_code == 500
    assert sandbox.stats()["faults"] == {"error500": 1}


def test_a_switch_out_of_range_or_unknown_is_refused_whole(sandbox: Sandbox) -> None:
    for changes in ({"error500": 2}, {"lag": -1}, {"lag": 1, "nonsense": 1}, {"rateLimit": 0}):
        assert sandbox.http.patch("/sandbox/settings", json=changes).status_code == 400
    assert sandbox.http.get("/sandbox/settings").json()["lag"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{ "orderId": "ord-x",\n "purchasePrice": 1e3, "orderType": "SALE", "updatedAt": "2025-11-03T00:00:00.000Z" }',
        b'{"orderType":"SALE","notes":"a\\u0000b"}',
        b'{"orderId":7,"status":["odd"],"purchasePrice":"lots","openedDate":"soon","updatedAt":"yesterday"}',
        b'{"orderId":"ord-y","notes":"\\ud800"}',
    ],
)
def test_a_raw_record_is_served_byte_for_byte(sandbox: Sandbox, body: bytes) -> None:
    put = sandbox.http.post("/sandbox/records?entityType=TRANSACTION", content=body)
    assert put.status_code == 201
    assert body in sandbox.get("/transactions", limit=200).content
    assert body in sandbox.get("/transactions", limit=200, sortBy="openedDate", sortOrder="desc").content
    assert body not in sandbox.get("/transactions", limit=200, status="CLOSED", search="a").content
    assert sandbox.get(f"/transactions/{put.json()['recordId']}").content == body
    lines = sandbox.http.get("/sandbox/export?entityType=TRANSACTION").content.splitlines()
    assert json.loads(body) in [json.loads(line) for line in lines]
    assert len(lines) == 31
    assert sandbox.http.post("/sandbox/changes", json={"count": 100}).json()["count"] == 30
    assert body in sandbox.get("/transactions", limit=200).content


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":NaN}', b"\xff"])
def test_a_raw_record_must_be_a_json_object(sandbox: Sandbox, body: bytes) -> None:
    assert sandbox.http.post("/sandbox/records?entityType=CONTACT", content=body).status_code == 400


def test_wrong_json_is_sound_json_of_another_shape_and_the_call_is_carried_out(sandbox: Sandbox) -> None:
    sandbox.switch(wrongJson=1)
    responses = [sandbox.http.post("/api/v1/transactions", json={"orderType": "SALE"}) for _ in range(5)]
    sandbox.switch(wrongJson=0)
    assert {response.status_code for response in responses} == {200}
    assert [response.json() for response in responses] == [[1, 2, 3], "ok", {"result": {"ok": True}}, None, 42]
    assert sandbox.get("/transactions").json()["pagination"]["total"] == 35


def test_a_dripping_body_is_whole_but_takes_its_time(sandbox: Sandbox) -> None:
    whole = sandbox.get("/user/profile")
    sandbox.switch(dripBody=1, dripSeconds=0.002)
    started = time.monotonic()
    response = sandbox.get("/user/profile")
    assert time.monotonic() - started >= 0.002 * len(whole.content)
    assert response.content == whole.content
    assert response.headers["content-length"] == str(len(whole.content))


def test_calls_take_a_while_to_arrive_and_are_not_counted_before(sandbox: Sandbox) -> None:
    sandbox.switch(transitSeconds=600)
    with pytest.raises(TimeoutError):
        sandbox.http.abandon("/api/v1/user/profile", after=0.05)
    assert sandbox.stats()["requests"] == {}
    sandbox.switch(transitSeconds=0.001)
    assert sandbox.get("/user/profile").headers["x-ratelimit-remaining"] == "99999"
    assert sandbox.stats()["requests"] == {"GET /user/profile": 1}


def test_transit_does_not_shift_what_else_is_drawn(sandbox: Sandbox) -> None:
    def statuses(transit: float) -> list[int]:
        sandbox.switch(error500=0.3, transitSeconds=transit, faultSeed=7)
        return [sandbox.get("/user/profile").status_code for _ in range(30)]

    assert statuses(0) == statuses(0.0001)
