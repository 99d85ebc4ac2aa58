"""List, show, retry and process events with `python -m softpro webhooks`."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from softpro.db import locks
from softpro.db.database import Database
from softpro.db.locks import Lock
from softpro.services import Services

from ..support.databases import execute, one
from ..support.fixture_types import Connected
from ..support.product import command
from ..support.webhook_events import add_event, outcomes


def test_the_command_line_lists_shows_retries_counts_and_processes(
    connected: Connected, services: Services, database: Database, settings: dict[str, str]
) -> None:
    acme = connected("acme")
    first = add_event(database, acme, "doc-1", "DOCUMENT_UPLOADED", entity_type="DOCUMENT")
    second = add_event(database, acme, "doc-2", "ORDER_CLOSED", entity_type="DOCUMENT")
    execute(
        database,
        "update softpro.webhook_events set attempts = 5, processing_error = 'SoftPro is away' where event_id = %s",
        second,
    )

    def webhooks(*arguments: str) -> Any:
        return command(settings, "webhooks", *arguments)

    listed = [json.loads(line) for line in webhooks("list", "acme", "--json").out.splitlines()]
    assert [(event["eventId"], event["status"]) for event in listed] == [(second, "FAILED"), (first, "PENDING")]
    failed = webhooks("list", "acme", "--status", "FAILED")
    assert (failed.err, failed.out.endswith("FAILED, 5 of 5 tries: SoftPro is away\n")) == ("1 of 1\n", True)
    assert webhooks("list", "acme", "--type", "ORDER_REOPENED").err == "0 of 0\n"
    assert webhooks("list", "acme", "--entity", "contacts").err == "0 of 0\n"
    assert "--status must be one of" in webhooks("list", "acme", "--status", "OPEN").err
    event_id = listed[0]["id"]
    assert "SoftPro sent:\n{}" in webhooks("show", "acme", event_id).out
    assert json.loads(webhooks("show", "acme", event_id, "--json").out)["payload"] == {}
    assert webhooks("show", "acme", str(UUID(int=1))).code == 2

    assert webhooks("retry", "acme", "--entity", "contacts").out == "0 events are retried now\n"
    assert json.loads(webhooks("retry", "acme", "--event", event_id, "--json").out) == {"retried": 1}
    assert one(database, "select decisions -> 0 ->> 'decision' from softpro.webhook_events where id = %s", event_id)

    processed = webhooks("process", "acme", "--json")
    assert json.loads(processed.out) == {"settled": 2, "left": 0, "failed": 0, "requests": 0, "busy": False}
    assert outcomes(database) == {first: "IGNORED", second: "IGNORED"}
    counted = webhooks("stats", "acme")
    assert counted.out.startswith(
        "0 PENDING, 0 RETRYING, 2 PROCESSED, 0 FAILED\nsettled in the last 24 h: half within "
    )
    assert json.loads(webhooks("stats", "acme", "--json").out)["byStatus"]["PROCESSED"] == 2
    with database.connect() as worker:
        assert locks.try_lock(worker, Lock.INBOX)
        assert webhooks("process").err == "Another process is already processing events; nothing was done\n"
