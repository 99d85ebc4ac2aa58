"""Lose no webhook (promises 3, 6, 11) while processes are killed and PostgreSQL restarts.

Deliveries are repeated, shuffled, forged and stale. The receiver and the worker are killed.

SOFTPRO_TEST_DELIVERIES is the approximate number of deliveries, at least 600. All of them must be settled within three
minutes, at 100 requests a minute.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import requests

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType

from ..support.databases import Server, execute, lasting_directory, one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.forked_process import ForkedProcess
from ..support.product import connect_acme, environment, sync
from ..support.sandbox import Sandbox, running_sandbox
from ..support.webhook_receiver import SECRET, receiver, signed

SEED = 360
DELIVERIES = int(os.environ.get("SOFTPRO_TEST_DELIVERIES", "400"))
REPEATED, FORGED, STALE = 0.3, 0.07, 0.03
EVENTS = round(DELIVERIES / (1 + REPEATED + FORGED + STALE))
SECONDS_OF_CHANGES = 8 + DELIVERIES / 160
LONGEST_SECONDS = 180
LIMIT = 100
WORKER = """
import sys, time, uuid
import psycopg
from softpro.errors import SoftProError
from softpro.services import services
from softpro.settings import DatabaseSettings, load
from softpro.db.database import open_database
from softpro.webhooks.worker import drain

while True:
    try:
        drain(services(open_database(*load(DatabaseSettings))), run_id=f"test__{uuid.uuid4()}", seconds=30)
    except (SoftProError, psycopg.Error) as failed:
        print(failed, file=sys.stderr)
    time.sleep(0.3)
"""
_MINIMAL = {
    "orderType": "SALE",
    "createdAt": "2025-01-01T00:00:00.000Z",
    "updatedAt": "2025-01-01T00:00:00.000Z",
}
# Records each time that an event becomes settled.
COUNTED = """
create table public.settlements (event_id text);
create function public.note() returns trigger language plpgsql security definer as $$
begin
    insert into public.settlements values (new.event_id);
    return null;
end $$;
create trigger note after update on softpro.webhook_events
    for each row when (new.processed and not old.processed) execute function public.note();
"""
DELETED = "select softpro_order_id as id from roi.transactions where deleted_at is not null"
UNSETTLED = "select count(*) from softpro.webhook_events where not processed"


def test_every_true_event_is_settled_once_no_other_is_stored_and_both_sides_agree() -> None:
    rng = random.Random(SEED)
    server = Server(lasting_directory() / "data")
    sizes = {"transactions": max(60, DELIVERIES // 5), "contacts": max(30, DELIVERIES // 10)}
    with (
        server.fresh() as database,
        running_sandbox(
            organizations=1,
            **sizes,
            webhookDuplicates=REPEATED,
            webhookShuffle=5,
            webhookForged=FORGED,
            rateLimit=LIMIT,
        ) as sandbox,
    ):
        services, acme = connect_acme(
            database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200", SOFTPRO_RATE_LIMIT_PER_MIN=str(LIMIT)
        )
        for entity_type in EntityType:
            assert sync(services, acme, entity_type).status == "COMPLETED"
        execute(database, "update softpro.integrations set webhooks_enabled = true, sync_enabled = true")
        execute(database, COUNTED)
        settings = environment(database, sandbox, SOFTPRO_WEBHOOK_SECRET=SECRET, SOFTPRO_RATE_LIMIT_PER_MIN=str(LIMIT))
        began = time.time()

        stale, restarts = _deliver(rng, server, sandbox, settings, acme, database)

        elapsed, sent = time.time() - began, sandbox.stats()["webhooks"]
        print(f"seed {SEED}: {sent}, {stale} stale, {restarts}; settled after {elapsed:.0f} s")
        statuses = [call["status"] for call in sandbox.calls(began)]
        print(f"{len(statuses)} requests; outcomes {_outcomes(database)}")
        assert elapsed < LONGEST_SECONDS
        assert 429 not in statuses
        stored = {row["event_id"] for row in rows(database, "select event_id from softpro.webhook_events")}
        assert len(stored) == sent["events"] >= EVENTS
        assert sent["forgedTaken"] == 0 < sent["forged"]
        assert not {event for event in stored if event.startswith("evt_stale")}
        assert one(database, "select count(*) from public.settlements") == len(stored)
        assert one(database, "select count(distinct event_id) from public.settlements") == len(stored)
        organization = sandbox.organizations[0]
        for entity in EntityType:
            expected = expected_rows(sandbox.records(organization, entity), entity)
            assert actual_rows(database, "acme", entity) == expected
        assert one(database, "select count(*) from softpro.sync_logs where status = 'IN_PROGRESS'") == 0


def test_events_of_ids_alone_of_changes_that_surface_late_lead_to_what_is_true(server: Server) -> None:
    rng = random.Random(SEED)
    with (
        server.fresh() as database,
        running_sandbox(
            organizations=1, transactions=60, contacts=20, webhookRecord="false", webhookShuffle=2, lag=4
        ) as sandbox,
    ):
        services, acme = connect_acme(database, sandbox)
        assert sync(services, acme).status == "COMPLETED"
        execute(database, "update softpro.integrations set webhooks_enabled = true, sync_contacts = false")
        execute(database, COUNTED)
        settings = environment(database, sandbox, SOFTPRO_WEBHOOK_SECRET=SECRET)
        organization, port = sandbox.organizations[0], _free_port()
        with receiver(settings, port), _worker(settings):
            sandbox.send_webhooks(organization, f"http://127.0.0.1:{port}/webhooks/{acme.id}", SECRET)
            for number in range(20):
                known = sorted(sandbox.records(organization))
                if number % 5 == 0:
                    sandbox.delete(organization, rng.choice(known))
                if number % 5 == 1:
                    sandbox.put(organization, {**_MINIMAL, "orderId": f"ord-new-{number}"})
                sandbox.change(organization, count=rng.randint(1, 12))
                sandbox.change(organization, "CONTACT")
                time.sleep(rng.uniform(0, 0.6))
            _wait(lambda: sandbox.webhooks_waiting(organization) == 0 and not one(database, UNSETTLED), 120)
            _wait(lambda: not one(database, "select count(*) from raw.pending"), 120)

        gone = {row["id"] for row in rows(database, DELETED)}
        found = {key: row for key, row in actual_rows(database, "acme").items() if key not in gone}
        assert found == expected_rows(sandbox.records(organization))
        assert len(gone) == 4
        outcomes = _outcomes(database)
        print(f"seed {SEED}: {outcomes}")
        assert {"FETCHED", "DELETED", "IGNORED"} <= outcomes.keys() <= {"FETCHED", "DELETED", "IGNORED", "GONE"}
        assert one(database, "select count(*) - count(distinct event_id) from public.settlements") == 0


def _deliver(
    rng: random.Random,
    server: Server,
    sandbox: Sandbox,
    settings: Mapping[str, str],
    acme: Integration,
    database: Database,
) -> tuple[int, list[str]]:
    """Change records under faults until all events are settled.

    Returns:
        The number of stale events that were sent, and what was killed or restarted.
    """
    organization, port, stale, done = sandbox.organizations[0], _free_port(), 0, []
    address = f"http://127.0.0.1:{port}/webhooks/{acme.id}"
    mishaps = dict(zip(("receiver", "worker", "database", "receiver "), (0.2, 0.4, 0.6, 0.8), strict=True))
    with ExitStack() as stack:
        taking = stack.enter_context(receiver(settings, port))
        working = stack.enter_context(_worker(settings))
        sandbox.send_webhooks(organization, address, SECRET)
        began, events = time.monotonic(), 0
        while events < EVENTS:
            entity = rng.choice(["TRANSACTION", "TRANSACTION", "CONTACT"])
            sandbox.change(organization, entity, count=rng.randint(1, 2 * max(1, EVENTS // 60)))
            stale += _send_stale(rng, address, organization, stale)
            events = sandbox.stats()["webhooks"]["events"]
            for what, share in list(mishaps.items()):
                if events >= share * EVENTS:
                    del mishaps[what]
                    done.append(what.strip())
                    if what == "database":
                        server.restart("fast", away=1)
                    elif what == "worker":
                        working.kill()
                        working = stack.enter_context(_worker(settings))
                    else:
                        taking.kill()
                        taking.wait()
                        taking = stack.enter_context(receiver(settings, port))
            time.sleep(max(0.0, began + SECONDS_OF_CHANGES * events / EVENTS - time.monotonic()))
        _wait(lambda: sandbox.webhooks_waiting(organization) == 0 and not one(database, UNSETTLED), LONGEST_SECONDS)
        _wait(lambda: not one(database, "select count(*) from raw.pending"), 120)
        _wait(lambda: not one(database, "select count(*) from softpro.sync_logs where status = 'IN_PROGRESS'"), 120)
    return stale, done


@contextmanager
def _worker(settings: Mapping[str, str]) -> Iterator[ForkedProcess]:
    process = ForkedProcess(code=WORKER, environment=settings)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _send_stale(rng: random.Random, address: str, organization: str, number: int) -> int:
    """Send a correctly signed event that is too old or from the future, or none. Return how many were sent."""
    if rng.random() > STALE * EVENTS / 60:
        return 0
    minutes = rng.choice([-60, -6, 6])
    sent = {
        "id": f"evt_stale_{number}",
        "type": "transaction.updated",
        "timestamp": (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(),
        "organizationId": organization,
        "entityType": "TRANSACTION",
        "entityId": "ord-1",
    }
    body = json.dumps(sent).encode()
    try:
        answer = requests.post(address, data=body, headers=signed(body), timeout=60)
    except requests.ConnectionError:
        return 0
    assert answer.status_code in (401, 503)
    return 1


def _outcomes(database: Database) -> dict[str, int]:
    found = rows(
        database, "select coalesce(outcome, status) as name, count(*) as n from softpro.webhook_events group by 1"
    )
    return {row["name"]: row["n"] for row in found}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(until: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
