"""Run the triggers for webhooks and write-back alone: each fires when work is due and no run does it."""

from __future__ import annotations

import os
import queue
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from uuid import UUID, uuid4

import pytest
from psycopg.conninfo import make_conninfo

from softpro.db import inbox, locks, outbox
from softpro.db.database import Database
from softpro.db.locks import Lock
from softpro.entities import EntityType, Stream
from softpro.writeback import push_attempts

from ..support.databases import Server, execute
from ..support.forked_process import AIRFLOW, ForkedProcess

LISTEN = """
import asyncio
import sys
from softpro.orchestration import triggers

async def main():
    print("ready", flush=True)
    async for event in getattr(triggers, sys.argv[1])().run():
        print("due", flush=True)

asyncio.run(main())
"""
QUIET_SECONDS = 1.5
PATIENCE_SECONDS = 60
SLOWEST_SECONDS = 0.1


class Listener:
    """Receives the events of a trigger."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def wait_for_event(self, seconds: float) -> str | None:
        """Return the next event, or None if none comes in that time."""
        try:
            return self._said.get(timeout=seconds)
        except queue.Empty:
            return None

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() in ("ready", "due"):  # Airflow logs there too
                self._said.put(line.strip())


@pytest.fixture
def listener(database: Database, tmp_path: Path) -> Iterator[Listener]:
    with listening(database, tmp_path) as heard:
        yield heard


@pytest.fixture
def outbox_listener(database: Database, tmp_path: Path) -> Iterator[Listener]:
    with listening(database, tmp_path, "OutboxTrigger") as heard:
        yield heard


@contextmanager
def listening(database: Database, tmp_path: Path, trigger: str = "InboxTrigger") -> Iterator[Listener]:
    """Run the trigger and yield its listener."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SOFTPRO"))},
        "AIRFLOW_HOME": str(tmp_path),
        "SOFTPRO_DATABASE_URL": database.conninfo,
    }
    with ForkedProcess(
        None, trigger, code=LISTEN, environment=environment, preloaded=AIRFLOW, stdout=subprocess.PIPE
    ) as process:
        try:
            heard = Listener(process)
            assert heard.wait_for_event(PATIENCE_SECONDS) == "ready"
            yield heard
            assert process.poll() is None, "it lets no exception escape"
        finally:
            process.kill()


@contextmanager
def slow_network(database: Database) -> Iterator[Database]:
    """Yield the same database behind a network with a random delay for each response."""
    with database.connect() as connection:
        path = f"{connection.info.host}/.s.PGSQL.{connection.info.port}"

    def pump(source: socket.socket, target: socket.socket, slowest: float) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                time.sleep(random.uniform(0, slowest))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    class Way(BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as there:
                there.connect(path)
                threading.Thread(target=pump, args=(self.request, there, 0), daemon=True).start()
                pump(there, self.request, SLOWEST_SECONDS)

    class Network(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Network(("127.0.0.1", 0), Way) as network:
        threading.Thread(target=network.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield Database(make_conninfo(database.conninfo, host="127.0.0.1", port=network.server_address[1]))
        network.shutdown()


def integrated(database: Database, status: str = "CONNECTED") -> UUID:
    """Create an integration and return its id, which is also the organization's."""
    integration = uuid4()
    execute(
        database,
        """
        insert into softpro.integrations (id, organization_id, client_id, client_secret, sync_frequency, status)
        values (%s, %s, 'client', 'sealed', 300, %s)
        """,
        integration,
        str(integration),
        status,
    )
    return integration


def event(database: Database, *, due_in: float | None = None, status: str = "CONNECTED") -> UUID:
    """Store and announce a pending event of a new integration, and return the integration's id."""
    integration = integrated(database, status)
    execute(
        database,
        """
        insert into softpro.webhook_events
            (integration_id, organization_id, event_type, event_id, entity_type, entity_id, payload, signature_verified,
             next_retry_at)
        values (%s, %s, 'TRANSACTION_UPDATED', 'evt', 'TRANSACTION', 'ord', '{}', true,
                clock_timestamp() + make_interval(secs => %s))
        """,
        integration,
        str(integration),
        due_in,
    )
    execute(database, "select pg_notify(%s, '')", inbox.CHANNEL)
    return integration


def settle(database: Database, integration: UUID) -> None:
    execute(database, "update softpro.webhook_events set processed = true where integration_id = %s", integration)


def test_it_fires_once_per_event(database: Database, listener: Listener) -> None:
    assert listener.wait_for_event(QUIET_SECONDS) is None, "nothing is due"

    first = event(database)
    assert listener.wait_for_event(PATIENCE_SECONDS) == "due"
    assert listener.wait_for_event(QUIET_SECONDS) is None, "a run is on its way"

    settle(database, first)
    event(database)
    assert listener.wait_for_event(PATIENCE_SECONDS) == "due"


def test_it_fires_once_however_slow_the_database_is(database: Database, tmp_path: Path) -> None:
    with slow_network(database) as far, listening(far, tmp_path) as listener:
        event(database)
        assert listener.wait_for_event(PATIENCE_SECONDS) == "due"
        assert listener.wait_for_event(2 * QUIET_SECONDS) is None, "a run is on its way"


def test_it_does_not_fire_for_an_organization_that_is_not_connected(database: Database, listener: Listener) -> None:
    expired = event(database, status="EXPIRED")
    assert listener.wait_for_event(QUIET_SECONDS) is None

    execute(database, "update softpro.integrations set status = 'CONNECTED' where id = %s", expired)
    execute(database, "select pg_notify(%s, '')", inbox.CHANNEL)
    assert listener.wait_for_event(PATIENCE_SECONDS) == "due"


def test_it_waits_while_another_run_works_on_the_events(database: Database, listener: Listener) -> None:
    with database.connect() as worker:
        assert locks.try_lock(worker, Lock.INBOX)
        event(database)
        assert listener.wait_for_event(QUIET_SECONDS) is None
    assert listener.wait_for_event(PATIENCE_SECONDS) == "due"


def test_it_fires_when_a_retry_becomes_due_without_a_notification(database: Database, listener: Listener) -> None:
    event(database, due_in=2)
    assert listener.wait_for_event(1) is None
    assert listener.wait_for_event(PATIENCE_SECONDS) == "due"


def test_events_stored_while_the_database_was_away_are_found(
    database: Database, server: Server, listener: Listener
) -> None:
    assert listener.wait_for_event(QUIET_SECONDS) is None

    server.restart("fast")
    event(database)  # possibly before it listens again

    assert listener.wait_for_event(PATIENCE_SECONDS) == "due"


CONTACT = """
insert into roi.contacts (organization_id, softpro_contact_id, softpro_updated_at, email)
values (%s, %s, now(), 'old@example.com')
"""


def contact(database: Database, *, sent: str = "email", **integration: str) -> UUID:
    """Create a loaded contact of a new organization that sends one of its columns."""
    organization = integrated(database, **integration)
    execute(
        database,
        """
        insert into softpro.mappings
            (integration_id, organization_id, entity_type, softpro_field, roi_systems_field, direction, position)
        values (%s, %s, 'CONTACT', 'field', %s, 'BIDIRECTIONAL', 1)
        """,
        organization,
        str(organization),
        sent,
    )
    with database.connect() as connection, connection.transaction():
        connection.execute(outbox.MARK_LOADING)
        connection.execute(CONTACT, [str(organization), f"con-{organization}"])
    return organization


def edit(database: Database, organization: UUID, email: str) -> None:
    execute(database, "update roi.contacts set email = %s where organization_id = %s", email, str(organization))


def test_it_fires_once_per_row_edit(database: Database, outbox_listener: Listener) -> None:
    acme = contact(database)
    assert outbox_listener.wait_for_event(QUIET_SECONDS) is None, "the loader's rows are no edits"

    edit(database, acme, "new@example.com")
    assert outbox_listener.wait_for_event(PATIENCE_SECONDS) == "due"
    assert outbox_listener.wait_for_event(QUIET_SECONDS) is None, "a run is on its way"

    edit(database, acme, "newer@example.com")
    assert outbox_listener.wait_for_event(PATIENCE_SECONDS) == "due"


def test_it_waits_longer_and_longer_while_due_edits_stay_due(database: Database, outbox_listener: Listener) -> None:
    edit(database, contact(database), "new@example.com")
    assert outbox_listener.wait_for_event(PATIENCE_SECONDS) == "due"
    assert outbox_listener.wait_for_event(3) is None
    assert outbox_listener.wait_for_event(PATIENCE_SECONDS) == "due", "the run may not have begun"
    assert outbox_listener.wait_for_event(7) is None
    assert outbox_listener.wait_for_event(PATIENCE_SECONDS) == "due"


def test_it_waits_while_another_run_pushes(database: Database, outbox_listener: Listener) -> None:
    with database.connect() as worker:
        assert locks.try_lock(worker, Lock.OUTBOX)
        edit(database, contact(database), "new@example.com")
        assert outbox_listener.wait_for_event(QUIET_SECONDS) is None
    assert outbox_listener.wait_for_event(PATIENCE_SECONDS) == "due"


def test_edits_that_may_not_be_sent_do_not_fire(database: Database, outbox_listener: Listener) -> None:
    for off in ("sync_enabled = false", "sync_contacts = false", "deleted_at = now()"):
        off_now = contact(database)
        execute(database, f"update softpro.integrations set {off} where id = %s", off_now)
        edit(database, off_now, "new@example.com")
    for expired in (contact(database, status="EXPIRED"), contact(database, status="DISCONNECTED")):
        edit(database, expired, "new@example.com")
    edit(database, contact(database, sent="phone"), "new@example.com")
    in_review, failed = contact(database), contact(database)
    with database.connect() as connection, connection.transaction():
        edit_in = "update roi.contacts set email = 'new@example.com' where organization_id = any(%s)"
        connection.execute(edit_in, [[str(in_review), str(failed)]])
        connection.execute(
            """
            insert into softpro.conflicts
                (integration_id, organization_id, entity_type, entity_id, roi_entity_id, kind, base, softpro, roi)
            select %s, organization_id, 'CONTACT', softpro_contact_id, id, 'FIELDS', '{}', '{}', '{}'
            from roi.contacts
            where organization_id = %s
            """,
            [in_review, str(in_review)],
        )
        stream = Stream(failed, str(failed), EntityType.CONTACT)
        found = connection.execute("select roi_entity_id, id from softpro.outbox where integration_id = %s", [failed])
        [each] = found.fetchall()
        push_attempts.record_failure(connection, stream, each["roi_entity_id"], "refused", each["id"], after=None)
    assert outbox_listener.wait_for_event(QUIET_SECONDS) is None

    edit(database, failed, "newer@example.com")
    assert outbox_listener.wait_for_event(PATIENCE_SECONDS) == "due"


def test_it_fires_when_a_push_retry_becomes_due(database: Database, outbox_listener: Listener) -> None:
    acme = contact(database)
    with database.connect() as connection, connection.transaction():
        connection.execute("update roi.contacts set email = null where organization_id = %s", [str(acme)])
        [each] = connection.execute("select roi_entity_id from softpro.outbox where integration_id = %s", [acme])
        stream = Stream(acme, str(acme), EntityType.CONTACT)
        later = timedelta(seconds=3)
        push_attempts.postpone(connection, stream, each["roi_entity_id"], "a lost answer", later)
    assert outbox_listener.wait_for_event(1.5) is None
    assert outbox_listener.wait_for_event(PATIENCE_SECONDS) == "due"
