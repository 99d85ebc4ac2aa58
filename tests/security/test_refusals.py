"""Count refused webhooks and refused states, and show the counts to operators."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import requests

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.refusals import Refusal
from softpro_web.refusals import MAX_KEYS, WRITE_SECONDS, RefusalCounter

from ..support.databases import execute, one, rows
from ..support.product import command, environment
from .conftest import WEBHOOK_SECRET, Web

SELECT = "select kind, integration_id, requests from softpro.refusals order by kind, requests"


def deliver(web: Web, integration_id: str, body: bytes, signature: str) -> int:
    headers = {"Content-Type": "application/json", "X-SoftPro-Signature": signature}
    return requests.post(f"{web.url}/webhooks/{integration_id}", body, headers=headers, timeout=30).status_code


def shown(web: Web, path: str, **parameters: str) -> dict[str, Any]:
    response = web.as_user().get(f"{web.url}{path}", params=parameters, timeout=30)
    response.raise_for_status()
    counts: dict[str, Any] = response.json()["data"]["refusedLastDay"]
    return counts


def test_refused_webhooks_and_states_are_counted(web: Web) -> None:
    integration_id = web.connected("knocked")
    execute(web.database, "update softpro.integrations set webhooks_enabled = true where id = %s", integration_id)
    other_id = web.connected("quiet")
    event = {
        "id": "evt-1",
        "type": "transaction.updated",
        "timestamp": "2025-01-01T00:00:00Z",
        "organizationId": one(
            web.database, "select softpro_organization_id from softpro.integrations where id = %s", integration_id
        ),
        "entityType": "TRANSACTION",
        "entityId": "ord-1",
    }
    body = json.dumps(event).encode()
    signature = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()

    forged = [deliver(web, integration_id, body, signature[:-1] + "x") for _ in range(3)]
    unknown = [deliver(web, named, body, "forged") for named in (str(uuid4()), str(uuid4()), "no-uuid")]
    old = deliver(web, integration_id, body, signature)
    for state in ("", "made-up"):
        requests.get(f"{web.url}/callback", params={"state": state, "code": "c"}, allow_redirects=False, timeout=30)
    requests.get(f"{web.url}/connect/made-up.secret", allow_redirects=False, timeout=30)
    deadline = time.monotonic() + 60
    while shown(web, "/health/detail")["states"] < 3 or shown(web, "/health/detail")["signatures"] < 6:
        assert time.monotonic() < deadline, rows(web.database, SELECT)
        time.sleep(0.5)

    assert forged + unknown + [old] == [401] * 7
    counts = shown(web, "/health/detail")
    assert counts.pop("lastAt") is not None
    assert counts == {"signatures": 6, "timestamps": 1, "states": 3}
    of_integration = shown(web, "/webhooks/stats", integrationId=integration_id)
    assert (of_integration["signatures"], of_integration["timestamps"]) == (3, 1)
    assert shown(web, "/webhooks/stats", integrationId=other_id) == {"signatures": 0, "timestamps": 0, "lastAt": None}
    printed = command(environment(web.database, web.sandbox), "webhooks", "stats", "knocked").out
    assert "4 deliveries were refused in the last 24 h: 3 by their signature, 1 by their timestamp" in printed


def test_refusals_are_written_together_and_none_is_lost_while_the_database_is_away(
    database: Database, acme: Integration
) -> None:
    available = [Database("postgresql://someone@127.0.0.1:1/none"), database]
    counter = RefusalCounter(lambda: available[0])
    for _ in range(5):
        counter.count(Refusal.WEBHOOK_SIGNATURE, acme.id)
    counter.write()
    counter.count(Refusal.WEBHOOK_SIGNATURE, acme.id)
    assert rows(database, SELECT) == []
    available.pop(0)
    deadline = time.monotonic() + 10 * WRITE_SECONDS
    while not (found := rows(database, SELECT)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert found == [{"kind": "WEBHOOK_SIGNATURE", "integration_id": acme.id, "requests": 6}]
    counter.count(Refusal.WEBHOOK_SIGNATURE, acme.id)
    counter.write()
    assert [row["requests"] for row in rows(database, SELECT)] == [7]


def test_an_outage_of_the_database_does_not_let_the_counts_grow(database: Database) -> None:
    def find() -> Database:
        """Return no working database, and receive more requests during the attempt to connect."""
        for _ in range(MAX_KEYS):
            counter.count(Refusal.WEBHOOK_SIGNATURE, uuid4())
        return Database("postgresql://someone@127.0.0.1:1/none")

    counter = RefusalCounter(lambda: found())
    found: Callable[[], Database] = find
    counter.count(Refusal.WEBHOOK_SIGNATURE, uuid4())
    for _ in range(3):
        counter.write()
    assert len(counter._counts) <= MAX_KEYS + len(Refusal)
    found = lambda: database  # noqa: E731
    counter.write()
    assert [row["requests"] for row in rows(database, SELECT)] == [3 * MAX_KEYS + 1]


def test_only_so_many_integrations_are_counted_apart(database: Database, acme: Integration) -> None:
    counter = RefusalCounter(lambda: database)
    for named in (acme.id, *(uuid4() for _ in range(MAX_KEYS)), acme.id, uuid4()):
        counter.count(Refusal.WEBHOOK_SIGNATURE, named)
    counter.count(Refusal.WEBHOOK_TIMESTAMP, acme.id)  # a further kind of it has no place
    counter.write()
    assert rows(database, SELECT) == [
        {"kind": "WEBHOOK_SIGNATURE", "integration_id": acme.id, "requests": 2},
        {"kind": "WEBHOOK_SIGNATURE", "integration_id": None, "requests": MAX_KEYS + 1},
        {"kind": "WEBHOOK_TIMESTAMP", "integration_id": None, "requests": 1},
    ]
