"""Receive webhooks in a real Airflow: acceptance, refusal, and settlement of an event end to end."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import requests

from softpro.timestamps import format_milliseconds
from softpro_demo import webhook
from softpro_demo.api_client import ApiClient

from ..support.forked_process import AIRFLOW, run_code
from .conftest import Airflow
from .test_sync import until

ORGANIZATION = "webhook-org"
REFUSED = {"success": False, "error": {"code": "NOT_FOUND", "message": "No such receiver", "details": None}}
FORGED = {
    "success": False,
    "error": {"code": "AUTHENTICATION_ERROR", "message": "The signature is missing or wrong", "details": None},
}
LIVE = """
import asyncio
from fastapi import FastAPI
from airflow.api_fastapi.app import lifespan
from softpro_web.app import create_app
from softpro_web.paths import URL_PREFIX
from softpro_web.routes import webhooks

async def main():
    airflow = FastAPI()
    airflow.mount(URL_PREFIX, create_app())
    async with lifespan(airflow):
        writer = webhooks._writers.here()
        connection = await writer._connected()
    print("closed:", connection.closed)

asyncio.run(main())
"""
STORED, KNOWN = "The event is stored", "The event was stored before"


@dataclass(frozen=True)
class Receiver:
    """A connected organization that takes webhooks, with helpers to sign and send them."""

    airflow: Airflow
    api: ApiClient
    integration_id: str
    vendor: str

    def event(self, event_id: str, **changes: Any) -> bytes:
        now = format_milliseconds(datetime.now(UTC))
        sent = {
            "id": event_id,
            "type": "transaction.updated",
            "timestamp": now,
            "organizationId": self.vendor,
            "entityType": "TRANSACTION",
            "entityId": "ord-unknown",
            "data": {"orderId": "ord-unknown"},
        }
        return json.dumps(sent | changes).encode()

    def signature(self, body: bytes, secret: str | None = None) -> str:
        return hmac.new((secret or self.airflow.stack.webhook_secret).encode(), body, hashlib.sha256).hexdigest()

    def send(self, body: bytes, to: str | None = None, **headers: str | None) -> requests.Response:
        """Deliver the body with a valid signature, unless the headers override it."""
        whole = {
            "Content-Type": "application/json",
            "X-SoftPro-Signature": self.signature(body),
            "X-SoftPro-Delivery": "d",
        }
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.post(
            f"{self.airflow.url}/webhooks/{to or self.integration_id}",
            data=body,
            headers={**whole, **named},
            timeout=60,
        )

    def stored(self) -> dict[str, int]:
        """Return the stored events and how often each was delivered."""
        rows = self.airflow.query(
            "select event_id, deliveries from softpro.webhook_events where integration_id = %s", self.integration_id
        )
        return {row["event_id"]: row["deliveries"] for row in rows}


@pytest.fixture(scope="module")
def receiver(airflow: Airflow) -> Receiver:
    api, vendor = airflow.as_user(), airflow.vendor_organization()
    integration_id = api.connect(ORGANIZATION, organization=vendor)["id"]
    airflow.load(ORGANIZATION)
    airflow.query(
        "update softpro.integrations set sync_enabled = true, sync_frequency = 86400 where id = %s", integration_id
    )
    webhook.register(api, airflow.stack.sandbox["url"], integration_id, vendor, airflow.stack.webhook_secret)
    return Receiver(airflow, api, integration_id, vendor)


def test_a_change_at_softpro_comes_by_webhook_and_its_event_shows_how(receiver: Receiver) -> None:
    airflow, sandbox = receiver.airflow, receiver.airflow.stack.sandbox["url"]
    webhook.measure_delay(airflow.stack.database, sandbox, ORGANIZATION, receiver.vendor)

    def page() -> list[dict[str, Any]]:
        answer = receiver.api.session.get(
            f"{airflow.url}/webhooks/events", params={"integrationId": receiver.integration_id, "status": "PROCESSED"}
        )
        return list(answer.json()["data"])

    until(120, page)
    event = page()[-1]
    assert (event["organizationId"], event["outcome"], event["deliveries"]) == (ORGANIZATION, "FETCHED", 1)
    whole = receiver.api.session.get(
        f"{airflow.url}/webhooks/events/{event['id']}", params={"integrationId": receiver.integration_id}
    ).json()["data"]
    assert whole["payload"]["entityId"] == event["entityId"]
    assert set(whole["headers"]) == {"content-type", "user-agent", "x-softpro-delivery"}
    logs = [log for log in receiver.api.logs(receiver.integration_id) if log["id"] == event["logId"]]
    assert [(log["syncType"], log["status"]) for log in logs] == [("WEBHOOK", "COMPLETED")]


def test_an_event_that_comes_again_is_one_row(receiver: Receiver) -> None:
    body = receiver.event("evt-again")

    first, second = receiver.send(body), receiver.send(body)
    old = format_milliseconds(datetime.now(UTC) - timedelta(hours=2))
    late = receiver.send(receiver.event("evt-again", timestamp=old))

    assert [(answer.status_code, answer.json()["message"]) for answer in (first, second, late)] == [
        (202, STORED),
        (200, KNOWN),
        (200, KNOWN),
    ]
    assert receiver.stored()["evt-again"] == 3


@pytest.mark.parametrize("to", [None, "4c6f3f0e-8d0a-4b51-9a43-7e0c2f1d5a60", "nobody", "config"])
def test_unsigned_deliveries_get_one_answer_for_every_integration(receiver: Receiver, to: str | None) -> None:
    body = receiver.event("evt-forged")
    for forged in (
        receiver.send(body, to, X_SoftPro_Signature=None),
        receiver.send(body, to, X_SoftPro_Signature=""),
        receiver.send(body, to, X_SoftPro_Signature=receiver.signature(body, "another secret")),
        receiver.send(body + b" ", to, X_SoftPro_Signature=receiver.signature(body)),
        receiver.send(b"no JSON", to, X_SoftPro_Signature="cafe"),
    ):
        assert (forged.status_code, forged.json()) == (401, FORGED)
    assert "evt-forged" not in receiver.stored()


def test_signed_deliveries_for_unknown_integrations_get_one_answer(receiver: Receiver) -> None:
    airflow = receiver.airflow
    other = receiver.api.connect("webhook-other", organization=airflow.vendor_organization())["id"]
    receiver.api.enable_webhooks(other)

    def answer(to: str) -> tuple[int, Any]:
        sent = receiver.send(receiver.event("evt-unknown"), to)
        return sent.status_code, sent.json()

    assert answer(str(uuid4())) == answer("nobody") == answer(other) == (404, REFUSED)
    switched = {"integrationId": receiver.integration_id, "webhooksEnabled": False}
    receiver.api.session.patch(f"{airflow.url}/webhooks/config", json=switched).raise_for_status()
    assert answer(receiver.integration_id) == (404, REFUSED)
    receiver.api.enable_webhooks(receiver.integration_id)
    receiver.api.session.delete(f"{airflow.url}/disconnect/{other}").raise_for_status()
    assert answer(other) == (404, REFUSED)
    assert "evt-unknown" not in receiver.stored()


def test_old_large_and_malformed_deliveries_are_refused(receiver: Receiver) -> None:
    def status_code(body: bytes) -> int:
        return receiver.send(body).status_code

    for minutes in (-6, 6):
        moment = format_milliseconds(datetime.now(UTC) + timedelta(minutes=minutes))
        assert status_code(receiver.event("evt-stale", timestamp=moment)) == 401
    assert status_code(receiver.event("evt-large", data="x" * 1_000_000)) == 413
    assert status_code(b'{"id": ') == 400
    assert status_code(receiver.event("evt-shape", entityType="PARTY")) == 400
    assert status_code(receiver.event("evt-odd", data="\ud800\0")) == 202
    assert receiver.stored().keys() & {"evt-stale", "evt-large", "evt-shape", "evt-odd"} == {"evt-odd"}


def test_a_body_without_a_length_is_cut_off(receiver: Receiver) -> None:
    parts = (b"x" * 100_000 for _ in range(20))
    answer = requests.post(f"{receiver.airflow.url}/webhooks/{receiver.integration_id}", data=parts, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "TOO_LARGE")


def test_the_receivers_connection_ends_with_the_lifespan_of_a_mounted_app(
    receiver: Receiver,
) -> None:
    environment = {**os.environ, **receiver.airflow.stack.environment}
    finished = run_code(LIVE, environment=environment, preloaded=AIRFLOW)
    assert finished.stdout.splitlines()[-1:] == ["closed: True"], finished.stderr


def test_a_failed_event_is_retried_by_a_user_and_counted(receiver: Receiver) -> None:
    airflow, session = receiver.airflow, receiver.api.session
    receiver.send(receiver.event("evt-failed", entityType="DOCUMENT", entityId="doc-1"))
    named = "where event_id = 'evt-failed'"

    def row() -> dict[str, Any]:
        return airflow.query(f"select id::text, status, outcome, decisions from softpro.webhook_events {named}")[0]

    until(120, lambda: row()["status"] == "PROCESSED")
    assert row()["outcome"] == "IGNORED"
    airflow.query(
        f"""
        update softpro.webhook_events
        set processed = false, processed_at = null, outcome = null, attempts = 5, processing_error = 'a test'
        {named}
        """
    )
    params = {"integrationId": receiver.integration_id}
    stats = session.get(f"{airflow.url}/webhooks/stats", params=params).json()["data"]
    assert stats["byStatus"]["FAILED"] == 1
    assert stats["repeatedDeliveries"] >= 2
    assert stats["secondsToSettle"]["p95"] > 0

    path = f"{airflow.url}/webhooks/events/{row()['id']}/retry"
    refused = airflow.as_user("reader").session.post(path, json=params)
    retried = session.post(path, json=params)

    assert (refused.status_code, retried.status_code, retried.json()["data"]["status"]) == (403, 200, "PENDING")
    assert [(each["decision"], each["by"]) for each in retried.json()["data"]["decisions"]] == [("RETRY", "admin")]
    until(120, lambda: row()["status"] == "PROCESSED")
    again = session.post(path, json=params)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "CONFLICT")
    batch = session.post(f"{airflow.url}/webhooks/events/retry", json=params)
    assert batch.json() == {"success": True, "data": {"retried": 0}}


def test_the_configuration_names_the_receiver_and_no_secret(receiver: Receiver) -> None:
    answer = receiver.airflow.as_user("reader").session.get(
        f"{receiver.airflow.url}/webhooks/config", params={"integrationId": receiver.integration_id}
    )
    assert answer.json()["data"] == {
        "webhooksEnabled": True,
        "receiverUrl": f"{receiver.airflow.url}/webhooks/{receiver.integration_id}",
        "secrets": 1,
        "replayWindowSeconds": 300,
        "largestBodyBytes": 1_000_000,
        "maxAttempts": 5,
    }
