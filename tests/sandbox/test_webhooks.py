"""Test the sending of webhooks: every change is announced, signed, and retried until it is accepted."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from softpro_sandbox.webhooks.delivery import retry_delay

from .conftest import Sandbox

SECRET = "s3cret"


@dataclass
class Receiver:
    """A webhook receiver.

    Attributes:
        statuses: the next statuses to respond with; then 204.
        waits: seconds before each response.
        got: headers and body of each delivery.
    """

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    waits: float = 0
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    def types(self) -> list[str]:
        """Return the event types so far and clear them. They are sorted by name, as no order is guaranteed."""
        types = sorted(event["type"] for event in self.events)
        self.got.clear()
        return types


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = receiver.statuses.pop(0) if receiver.statuses else 204
            time.sleep(receiver.waits)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()


@pytest.fixture
def notifying(sandbox: Sandbox, receiver: Receiver) -> Iterator[Sandbox]:
    """Yield the sandbox with the receiver registered; close its connections afterwards."""
    response = sandbox.http.put("/sandbox/webhooks", json={"url": receiver.url, "secret": SECRET})
    assert response.json() == {"organizationId": sandbox.organization_ids[0], "url": receiver.url, "waiting": 0}
    yield sandbox
    sandbox.http.delete("/sandbox/webhooks")
    sandbox.http.let_run(0.05)


def deliver(sandbox: Sandbox, seconds: float = 5) -> None:
    """Run deliveries until none is pending."""
    deadline = time.monotonic() + seconds
    while any(each["waiting"] for each in sandbox.http.get("/sandbox/webhooks").json()):
        assert time.monotonic() < deadline, "deliveries still wait"
        sandbox.http.let_run(0.01)


def signed(headers: dict[str, str], body: bytes) -> bool:
    return headers["x-softpro-signature"] == hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def test_a_change_is_told_signed_with_the_record(notifying: Sandbox, receiver: Receiver) -> None:
    created = notifying.create(notes="ü")
    deliver(notifying)
    [(headers, body)] = receiver.got
    event = json.loads(body)
    assert event.pop("id").startswith("evt_")
    assert event == {
        "type": "transaction.created",
        "timestamp": "2025-11-03T12:00:00.000Z",
        "organizationId": notifying.organization_ids[0],
        "entityType": "TRANSACTION",
        "entityId": created["orderId"],
        "data": created,
    }
    assert signed(headers, body)
    assert headers["content-type"] == "application/json"
    assert headers["x-softpro-delivery"]


def test_every_kind_of_change_is_told(notifying: Sandbox, receiver: Receiver) -> None:
    order = notifying.create(status="OPENED")["orderId"]
    url = f"/api/v1/transactions/{order}"
    contact = notifying.http.post("/api/v1/contacts", json={"contactType": "OTHER"}).json()["contactId"]
    deliver(notifying)
    assert receiver.types() == ["contact.created", "transaction.created"]

    notifying.patch(order, {"notes": "x"})
    notifying.http.patch(f"/api/v1/contacts/{contact}", json={"lastName": "x"})
    party = notifying.http.post(f"{url}/parties", json={"partyType": "BUYER"}).json()["partyId"]
    notifying.http.patch(f"{url}/parties/{party}", json={"notes": "x"})
    notifying.http.patch(f"{url}/property", json={"zoning": "R-1"})
    files = {"file": ("a.txt", b"a", "text/plain")}
    document = notifying.http.post(f"{url}/documents", files=files, data={"metadata": "{}"}).json()["documentId"]
    notifying.http.delete(f"{url}/documents/{document}")
    deliver(notifying)
    documents = [event for event in receiver.events if event["entityType"] == "DOCUMENT"]
    assert {(event["entityId"], event["data"]["orderId"]) for event in documents} == {(document, order)}
    parts = [event for event in receiver.events if event["type"].startswith(("party", "property"))]
    assert {(event["entityType"], event["entityId"]) for event in parts} == {("TRANSACTION", order)}
    assert receiver.types() == [
        *("contact.updated", "document.deleted", "document.uploaded", "party.added", "party.updated"),
        *("property.updated", "transaction.updated"),
    ]

    notifying.http.delete(url)
    notifying.http.delete(f"/sandbox/records/{contact}?entityType=CONTACT")
    deliver(notifying)
    assert all("updatedAt" not in event["data"] for event in receiver.events)
    assert receiver.types() == ["contact.deleted", "transaction.deleted"]


def test_a_status_is_told_in_its_own_words(notifying: Sandbox, receiver: Receiver) -> None:
    order = notifying.create(status="OPENED")["orderId"]
    deliver(notifying)
    receiver.got.clear()
    notifying.http.patch(f"/api/v1/transactions/{order}/status", json={"statusId": "sts-04"})
    deliver(notifying)
    assert receiver.types() == ["order.closed", "status.changed", "transaction.status_changed"]
    notifying.patch(order, {"status": "IN_PROGRESS", "notes": "again"})
    deliver(notifying)
    assert receiver.types() == ["order.reopened", "transaction.status_changed", "transaction.updated"]


def test_what_changes_nothing_and_what_is_refused_is_not_told(notifying: Sandbox, receiver: Receiver) -> None:
    notifying.patch("ord-000001", {})
    notifying.patch("ord-000001", {"notes": "x"}, '"other"')
    notifying.patch("none", {"notes": "x"})
    notifying.http.patch("/api/v1/transactions/ord-000001/property", json={})
    deliver(notifying)
    assert receiver.got == []


def test_what_the_vendors_staff_do_is_told_too(notifying: Sandbox, receiver: Receiver) -> None:
    changed = notifying.http.post("/sandbox/changes", json={"count": 10, "entityType": "CONTACT"}).json()["ids"]
    notifying.http.post("/sandbox/records?entityType=CONTACT", content=b'{"contactId": "odd", "contactType": 7}')
    notifying.http.post("/sandbox/documents", json={"orderId": "ord-000001"})
    deliver(notifying)
    updated = [event["entityId"] for event in receiver.events if event["type"] == "contact.updated"]
    assert sorted(updated) == sorted(changed)
    assert [event["data"] for event in receiver.events if event["entityId"] == "odd"] == [
        {"contactId": "odd", "contactType": 7}
    ]
    assert receiver.types() == ["contact.created", *["contact.updated"] * 10, "document.uploaded"]
    assert notifying.stats()["webhooks"] == {"events": 12, "deliveries": 12}


def test_without_the_record_a_webhook_carries_ids(notifying: Sandbox, receiver: Receiver) -> None:
    notifying.switch(webhookRecord=False)
    notifying.patch("ord-000001", {"notes": "x"})
    party = notifying.http.post("/api/v1/transactions/ord-000001/parties", json={"partyType": "BUYER"}).json()
    deliver(notifying)
    data = {event["type"]: event["data"] for event in receiver.events}
    assert data == {
        "transaction.updated": {"orderId": "ord-000001"},
        "party.added": {"orderId": "ord-000001", "partyId": party["partyId"]},
    }


def test_an_event_is_told_before_it_may_have_surfaced(notifying: Sandbox, receiver: Receiver) -> None:
    notifying.switch(lag=5)
    created = notifying.create()
    deliver(notifying)
    assert receiver.events[0]["entityId"] == created["orderId"]
    assert notifying.get(f"/transactions/{created['orderId']}").status_code == 404


def test_a_delivery_that_fails_is_repeated_signed_afresh(notifying: Sandbox, receiver: Receiver) -> None:
    receiver.statuses = [500]
    started = time.monotonic()
    notifying.create()
    while len(receiver.got) < 1:
        notifying.http.let_run(0.01)
    notifying.clock.advance(7)
    deliver(notifying)
    assert time.monotonic() - started >= 1
    first, second = receiver.events
    assert first == second | {"timestamp": "2025-11-03T12:00:00.000Z"}
    assert second["timestamp"] == "2025-11-03T12:00:07.000Z"
    assert all(signed(headers, body) for headers, body in receiver.got)
    assert len({headers["x-softpro-delivery"] for headers, _ in receiver.got}) == 2
    assert notifying.stats()["webhooks"] == {"events": 1, "deliveries": 1, "failures": 1}


def test_a_redirect_is_no_success_and_after_a_day_it_gives_up(notifying: Sandbox, receiver: Receiver) -> None:
    receiver.statuses = [302]
    receiver.waits = 0.2
    notifying.create()
    while len(receiver.got) < 1:
        notifying.http.let_run(0.01)
    notifying.clock.advance(86_400)
    deliver(notifying)
    assert notifying.stats()["webhooks"] == {"events": 1, "failures": 1, "givenUp": 1}


def test_the_pause_grows_from_a_second_to_a_quarter_of_an_hour() -> None:
    assert [retry_delay(attempts) for attempts in (1, 2, 3, 10, 11, 400)] == [1, 2, 4, 512, 900, 900]


def test_duplicates_share_an_id_and_forgeries_have_a_bad_signature(notifying: Sandbox, receiver: Receiver) -> None:
    notifying.switch(webhookDuplicates=1, webhookForged=1)
    created = notifying.create()
    deliver(notifying)
    good = [json.loads(body) for headers, body in receiver.got if signed(headers, body)]
    bad = [json.loads(body) for headers, body in receiver.got if not signed(headers, body)]
    assert len(good) == 2
    assert good[0] == good[1]
    [forged] = bad
    assert (forged["entityId"], forged["id"] != good[0]["id"]) == (created["orderId"], True)
    assert notifying.stats()["webhooks"] == {
        "events": 1,
        "duplicates": 1,
        "deliveries": 2,
        "forged": 1,
        "forgedTaken": 1,
    }


def test_shuffled_events_come_in_another_order(notifying: Sandbox, receiver: Receiver) -> None:
    notifying.switch(webhookShuffle=0.3)
    ids = [notifying.create()["orderId"] for _ in range(8)]
    deliver(notifying)
    delivered_ids = [event["entityId"] for event in receiver.events]
    assert sorted(delivered_ids) == ids != delivered_ids


def test_a_slow_receiver_does_not_slow_the_api(notifying: Sandbox, receiver: Receiver) -> None:
    receiver.waits = 0.5
    started = time.monotonic()
    for _ in range(20):
        notifying.create()
    assert time.monotonic() - started < 20 * receiver.waits
    deliver(notifying)
    assert len(receiver.got) == 20


def test_nothing_is_told_when_nobody_is_registered(notifying: Sandbox, receiver: Receiver) -> None:
    assert notifying.http.delete("/sandbox/webhooks").status_code == 204
    notifying.create()
    notifying.http.let_run(0.05)
    assert receiver.got == []
    assert notifying.stats()["webhooks"] == {}
    assert notifying.http.delete("/sandbox/webhooks").status_code == 404
    notifying.http.put("/sandbox/webhooks", json={"url": receiver.url, "secret": SECRET})


def test_a_receiver_must_have_an_address(sandbox: Sandbox) -> None:
    for body in ({"url": "nowhere", "secret": "s"}, {"url": "http://127.0.0.1/"}):
        assert sandbox.http.put("/sandbox/webhooks", json=body).status_code == 400
