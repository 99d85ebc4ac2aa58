"""Webhook events as they are stored, by whoever signed them, and what people do with them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from softpro.errors import DatabaseUnavailable, NotFoundHere, OutOfDate, SchemaError
from softpro.store import events, inbox
from softpro.store.arrivals import STORE, Arrival, Verdict, parameters
from softpro.store.database import Database
from softpro.store.events import Wanted
from softpro.webhooks.writer import PATIENCE_SECONDS, SETTINGS, Writer, Writers

from ..support.databases import Server, execute, one, rows

STORED, KNOWN, STALE, REFUSED = Verdict.STORED, Verdict.KNOWN, Verdict.STALE, Verdict.REFUSED


def integration(database: Database, organization: str = "acme", **columns: object) -> UUID:
    """An integration that takes webhooks of the vendor's organization `at-<organization>`."""
    made = uuid4()
    execute(
        database,
        """
        insert into softpro.integrations
            (id, organization_id, softpro_organization_id, client_id, client_secret, sync_frequency, status,
             webhooks_enabled, deleted_at)
        values (%s, %s, %s, 'client', 'sealed', 300, %s, %s, %s)
        """,
        made,
        organization,
        f"at-{organization}",
        columns.get("status", "CONNECTED"),
        columns.get("webhooks_enabled", True),
        columns.get("deleted_at"),
    )
    return made


def arrival(integration_id: UUID, event_id: str = "evt-1", **changes: Any) -> Arrival:
    made = Arrival(
        integration_id=integration_id,
        organization="at-acme",
        event_id=event_id,
        event_type="TRANSACTION_UPDATED",
        entity_type="TRANSACTION",
        entity_id="ord-1",
        priority=1,
        record_updated_at=None,
        payload=json.dumps({"id": event_id, "data": {"price": 1.10}}),
        bare=json.dumps({"id": event_id}),
        headers='{"user-agent": "SoftPro"}',
        signature="cafe",
        timely=True,
    )
    return replace(made, **changes)


async def put_all(writer: Writer, arrivals: Sequence[Arrival]) -> list[Verdict | BaseException]:
    """All at once. Their verdicts, or what was raised."""
    return await asyncio.gather(*map(writer.put, arrivals), return_exceptions=True)


def store(database: Database, *arrivals: Arrival) -> list[Verdict | BaseException]:
    """What became of deliveries that came at once."""

    async def work() -> list[Verdict | BaseException]:
        writer = Writer(lambda: database)
        try:
            return await put_all(writer, arrivals)
        finally:
            await writer.close()

    return asyncio.run(work())


def test_an_event_is_stored_once_however_often_it_comes_and_who_listens_is_told_once(database: Database) -> None:
    acme = integration(database)
    with database.connect() as listener:
        listener.execute(f"listen {inbox.CHANNEL}")

        assert store(database, *[arrival(acme)] * 3) == [STORED, KNOWN, KNOWN]
        assert store(database, arrival(acme, timely=False)) == [KNOWN], "a redelivery may be old"
        assert store(database, arrival(acme)) == [KNOWN]

        assert len(list(listener.notifies(timeout=0.2))) == 1
    assert rows(
        database,
        """
        select organization_id, event_type, entity_type, entity_id, payload, headers, signature, signature_verified,
               status, deliveries, max_attempts, received_at between now() - interval '1 minute' and now() as dated
        from softpro.webhook_events
        """,
    ) == [
        {
            "organization_id": "acme",
            "event_type": "TRANSACTION_UPDATED",
            "entity_type": "TRANSACTION",
            "entity_id": "ord-1",
            "payload": {"id": "evt-1", "data": {"price": 1.10}},
            "headers": {"user-agent": "SoftPro"},
            "signature": "cafe",
            "signature_verified": True,
            "status": "PENDING",
            "deliveries": 5,
            "max_attempts": 5,
            "dated": True,
        }
    ]


def test_another_integrations_ids_never_matter(database: Database) -> None:
    acme, other = integration(database), integration(database, "other")

    assert store(database, arrival(acme), arrival(other, organization="at-other")) == [STORED, STORED]


def test_what_may_not_come_is_not_stored(database: Database) -> None:
    acme = integration(database)
    gone = integration(database, "gone", status="DISCONNECTED")
    deleted = integration(database, "deleted", deleted_at="2025-01-01")
    off = integration(database, "off", webhooks_enabled=False)
    expired = integration(database, "expired", status="EXPIRED")

    told = store(
        database,
        arrival(uuid4()),
        arrival(gone, organization="at-gone"),
        arrival(deleted, organization="at-deleted"),
        arrival(off, organization="at-off"),
        arrival(acme, organization="at-other"),
        arrival(acme, "evt-2", timely=False),
        arrival(acme, timely=False),
        arrival(expired, organization="at-expired"),
    )

    assert told == [REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, STALE, STALE, STORED]
    assert one(database, "select organization_id from softpro.webhook_events") == "expired"


@pytest.mark.parametrize("data", [r'"\u0000"', r'"\ud800"', "1e999999"])
def test_data_that_jsonb_refuses_is_left_out_and_fails_nobody(database: Database, data: str) -> None:
    acme = integration(database)

    assert store(database, arrival(acme, "bad", payload=f'{{"id": "bad", "data": {data}}}'), arrival(acme)) == [
        STORED,
        STORED,
    ]
    assert one(database, "select payload from softpro.webhook_events where event_id = 'bad'") == {"id": "bad"}


def test_a_delivery_that_can_not_be_stored_fails_alone(database: Database) -> None:
    acme = integration(database)
    deep = "[" * 100_000 + "]" * 100_000  # more than PostgreSQL's stack holds: an error that can't be asked for before

    failed, stored, also = store(database, arrival(acme, "deep", payload=deep), arrival(acme), arrival(acme, "evt-2"))

    assert isinstance(failed, psycopg.errors.StatementTooComplex)
    assert (stored, also) == (STORED, STORED)


def test_two_servers_that_take_the_same_events_at_once_store_each_once(database: Database) -> None:
    acme = integration(database)

    async def both() -> list[Verdict | BaseException]:
        writers = [Writer(lambda: database), Writer(lambda: database)]
        try:
            told = await asyncio.gather(
                *(put_all(writer, [arrival(acme, f"evt-{n}") for n in range(300)]) for writer in writers)
            )
        finally:
            for writer in writers:
                await writer.close()
        return [verdict for verdicts in told for verdict in verdicts]

    told = asyncio.run(both())

    assert (told.count(STORED), told.count(KNOWN)) == (300, 300)
    assert one(database, "select count(*) from softpro.webhook_events where deliveries in (1, 2)") == 300


@pytest.mark.parametrize("stored", [0, 1])
def test_a_plan_made_while_there_are_few_events_reads_no_more_of_them_when_there_are_many(
    database: Database, stored: int
) -> None:
    acme = integration(database)
    if stored:
        store(database, arrival(acme))
        execute(database, "analyze softpro.webhook_events")
    query = STORE
    for number, name in enumerate(parameters({}), 1):
        query = query.replace(f"%({name})s", f"${number}")

    with database.set(**SETTINGS).connect() as connection:
        plan = [row["QUERY PLAN"] for row in connection.execute(f"explain (generic_plan) {query}".encode())]

    scans = [number for number, line in enumerate(plan) if " on webhook_events e" in line and "Scan" in line]
    assert len(scans) == 3
    for number in scans:
        assert re.search(r"using webhook_events_(pkey|integration_id_event_id_key) ", plan[number])
        assert re.search(r"Index Cond: .*\b(id = |event_id >= )", plan[number + 1])


def test_who_comes_again_while_the_event_is_being_settled_waits_for_nobody(database: Database) -> None:
    acme, other = integration(database), integration(database, "other")
    store(database, arrival(acme))
    with database.connect() as drain, drain.transaction():
        drain.execute("update softpro.webhook_events set next_retry_at = clock_timestamp()")
        told = store(
            database,
            arrival(acme),
            arrival(acme, timely=False),
            arrival(acme, "evt-2"),
            arrival(other, organization="at-other"),
        )

        assert told == [KNOWN, KNOWN, STORED, STORED]
    assert store(database, arrival(acme)) == [KNOWN]
    counted = "select deliveries from softpro.webhook_events where event_id = 'evt-1' and integration_id = %s"
    assert one(database, counted, acme) == 2, "what came while it was locked is not counted"


def test_what_stands_in_one_deliverys_way_stands_in_nobody_elses(database: Database) -> None:
    acme, other = integration(database), integration(database, "other")
    with database.connect() as server, server.transaction():
        server.execute(STORE, parameters({arrival(acme): 1}))  # not committed yet

        async def work() -> list[Verdict | BaseException]:
            writer = Writer(lambda: database)
            first = asyncio.create_task(
                put_all(writer, [arrival(acme), arrival(acme, "evt-2"), arrival(other, organization="at-other")])
            )
            await asyncio.sleep(0.2)
            late = await put_all(writer, [arrival(other, "evt-2", organization="at-other")])
            try:
                return [*await first, *late]
            finally:
                await writer.close()

        blocked, beside, stored, late = asyncio.run(work())

        assert isinstance(blocked, DatabaseUnavailable)
        assert isinstance(beside, DatabaseUnavailable), "they are sent again, and others wait"
        assert (stored, late) == (STORED, STORED)
    assert store(database, arrival(acme), arrival(acme, "evt-2")) == [KNOWN, STORED]


def test_large_deliveries_go_in_several_statements(database: Database) -> None:
    acme = integration(database)
    large = json.dumps({"data": "x" * 900_000})
    with database.connect() as listener:
        listener.execute(f"listen {inbox.CHANNEL}")

        told = store(database, *[arrival(acme, f"evt-{n}", payload=large) for n in range(9)])

        assert told == [STORED] * 9
        assert len(list(listener.notifies(timeout=0.2))) == 3, "one of each statement"


def test_each_event_loop_has_a_writer_of_its_own(database: Database) -> None:
    acme, writers = integration(database), Writers(lambda: database)

    async def put(event_id: str) -> Verdict:
        assert writers.here() is writers.here()
        try:
            return await writers.here().put(arrival(acme, event_id))
        finally:
            await writers.close_here()

    assert [asyncio.run(put(f"evt-{n}")) for n in range(3)] == [STORED] * 3


def test_a_request_that_is_cancelled_stops_nobody(database: Database) -> None:
    acme = integration(database)

    async def work() -> list[Verdict | BaseException]:
        writer = Writer(lambda: database)
        leaving = [asyncio.create_task(writer.put(arrival(acme, f"leaving-{n}"))) for n in range(10)]
        staying = asyncio.create_task(put_all(writer, [arrival(acme, f"staying-{n}") for n in range(10)]))
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        try:
            return await staying
        finally:
            await writer.close()

    assert asyncio.run(work()) == [STORED] * 10


def test_while_the_server_restarts_deliveries_wait_and_then_are_stored(database: Database, server: Server) -> None:
    acme = integration(database)

    async def work() -> list[Verdict | BaseException]:
        writer = Writer(lambda: database)
        try:
            before = await put_all(writer, [arrival(acme, "before")])
            restart = asyncio.create_task(asyncio.to_thread(server.restart, "immediate", 0.5))
            await asyncio.sleep(0.2)
            meanwhile = await put_all(writer, [arrival(acme, f"evt-{n}") for n in range(5)])
            await restart
            return [*before, *meanwhile]
        finally:
            await writer.close()

    told = asyncio.run(work())

    assert told[0] == STORED
    assert all(verdict in (STORED, KNOWN) for verdict in told)
    assert one(database, "select count(*) from softpro.webhook_events") == 6


def test_a_database_that_is_away_is_one_clear_error_in_time() -> None:
    nowhere = Database("host=127.0.0.1 port=1 dbname=nowhere")

    async def timed() -> float:
        began = asyncio.get_running_loop().time()
        failed, *_ = await put_all(Writer(lambda: nowhere), [arrival(uuid4())])
        assert isinstance(failed, DatabaseUnavailable)
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(timed()) < 2 * PATIENCE_SECONDS, "a busy machine is late"


def test_a_database_without_the_tables_says_so(bare_database: Database) -> None:
    [failed] = store(bare_database, arrival(uuid4()))
    assert isinstance(failed, SchemaError)


def some_events(database: Database) -> UUID:
    """An integration with five events: pending, retrying, failed (two, one about a contact), processed."""
    acme = integration(database)
    store(database, *[arrival(acme, f"evt-{n}") for n in range(5)])
    execute(
        database,
        """
        update softpro.webhook_events
        set attempts = (array[0, 2, 5, 5, 1])[right(event_id, 1)::integer + 1],
            next_retry_at = case when event_id = 'evt-1' then now() + interval '1 hour' end,
            processing_error = case when event_id in ('evt-2', 'evt-3') then 'SoftPro did not answer' end,
            processed = event_id = 'evt-4', processed_at = case when event_id = 'evt-4' then received_at end,
            entity_type = case when event_id = 'evt-3' then 'CONTACT' else 'TRANSACTION' end
        """,
    )
    return acme


def statuses(database: Database) -> dict[str, str]:
    return {
        row["event_id"]: row["status"] for row in rows(database, "select event_id, status from softpro.webhook_events")
    }


def row_id(database: Database, event_id: str) -> UUID:
    found: UUID = one(database, "select id from softpro.webhook_events where event_id = %s", event_id)
    return found


def test_a_failed_event_is_retried_at_once_from_the_start_and_who_did_it_is_kept(database: Database) -> None:
    acme = some_events(database)
    with database.connect() as connection:
        connection.execute(f"listen {inbox.CHANNEL}")

        retried = events.retry(connection, acme, row_id(database, "evt-2"), "ana")

        assert (retried.status, retried.attempts, retried.next_retry_at) == ("PENDING", 0, None)
        assert [(each["decision"], each["by"]) for each in retried.decisions] == [("RETRY", "ana")]
        due = connection.execute(inbox.DUE_IN).fetchone()
        assert due is not None
        assert due["seconds"] < 0
        assert len(list(connection.notifies(timeout=0.2))) == 1


@pytest.mark.parametrize(("event", "status"), [("evt-0", "PENDING"), ("evt-4", "PROCESSED")])
def test_an_event_that_needs_no_retry_is_left_alone(database: Database, event: str, status: str) -> None:
    acme = some_events(database)
    with database.connect() as connection, pytest.raises(OutOfDate, match=f"is {status}"):
        events.retry(connection, acme, row_id(database, event), "ana")


def test_another_integrations_events_are_not_there(database: Database) -> None:
    acme, other = some_events(database), integration(database, "other")
    failed = row_id(database, "evt-2")
    with database.connect() as connection:
        with pytest.raises(NotFoundHere):
            events.get(connection, other, failed)
        with pytest.raises(NotFoundHere):
            events.retry(connection, other, failed, "eve")
        assert events.retry_some(connection, other, [failed], "eve") == 0
        assert events.retry_failed(connection, other, None, "eve") == 0
        assert events.page(connection, other, Wanted(), 50, 0) == ([], 0)
        assert events.page(connection, acme, Wanted(), 50, 0)[1] == 5


def test_some_or_all_failed_events_are_retried(database: Database) -> None:
    acme = some_events(database)
    everything = [row["id"] for row in rows(database, "select id from softpro.webhook_events")]
    with database.connect() as connection:
        assert events.retry_failed(connection, acme, "CONTACT", "ana") == 1
        assert statuses(database)["evt-2"] == "FAILED"
        assert events.retry_failed(connection, acme, None, "ana") == 1
        assert events.retry_some(connection, acme, everything, "ana") == 1, "the one that was to be tried again later"
    assert statuses(database) == {**{f"evt-{n}": "PENDING" for n in range(4)}, "evt-4": "PROCESSED"}


def test_events_are_listed_newest_first_and_narrowed(database: Database) -> None:
    acme = some_events(database)
    execute(
        database,
        "update softpro.webhook_events set received_at = received_at + right(event_id, 1)::integer * interval '1 s'",
    )
    with database.connect() as connection:

        def found(**wanted: str) -> list[str]:
            page, total = events.page(connection, acme, Wanted(**wanted), 50, 0)
            assert len(page) == total
            return [event.event_id for event in page]

        assert found() == ["evt-4", "evt-3", "evt-2", "evt-1", "evt-0"]
        assert found(status="FAILED") == ["evt-3", "evt-2"]
        assert found(status="FAILED", entity_type="CONTACT") == ["evt-3"]
        assert found(event_type="ORDER_CLOSED") == []
        page, total = events.page(connection, acme, Wanted(), 2, 1)
        assert ([event.event_id for event in page], total) == (["evt-3", "evt-2"], 5)


def test_all_of_an_event_is_shown_digit_for_digit(database: Database) -> None:
    acme = integration(database)
    store(database, arrival(acme, payload='{"id": "evt-1", "data": {"price": 1.10}}'))
    with database.connect() as connection:
        event = events.get(connection, acme, row_id(database, "evt-1"))
        shown = events.shown(connection, event)
    assert b'"payload":{"id": "evt-1", "data": {"price": 1.10}}' in shown
    assert json.loads(shown)["headers"] == {"user-agent": "SoftPro"}


def test_stats_count_and_tell_how_long_it_takes(database: Database) -> None:
    acme = some_events(database)
    store(database, arrival(acme, "evt-0"))
    execute(
        database,
        """
        update softpro.webhook_events
        set received_at = now() - interval '60 s', processed_at = processed_at - interval '58 s'
        where event_id in ('evt-0', 'evt-4')
        """,
    )
    with database.connect() as connection:
        found = events.stats(connection, acme).as_json()
        nothing = events.stats(connection, integration(database, "other")).as_json()

    assert found["byStatus"] == {"PENDING": 1, "RETRYING": 1, "PROCESSED": 1, "FAILED": 2}
    assert found["byType"] == {"TRANSACTION_UPDATED": 5}
    assert sum(found["byDay"].values()) == 5
    assert 60 <= found["oldestWaitingSeconds"] < 70
    assert found["repeatedDeliveries"] == 1
    assert found["secondsToSettle"]["p50"] == found["secondsToSettle"]["p95"] == pytest.approx(2, abs=1.5)
    assert nothing == {
        "byStatus": {"PENDING": 0, "RETRYING": 0, "PROCESSED": 0, "FAILED": 0},
        "byType": {},
        "byDay": {},
        "oldestWaitingSeconds": None,
        "repeatedDeliveries": 0,
        "secondsToSettle": {"p50": None, "p95": None},
    }


def test_old_events_are_forgotten_unless_they_are_not_settled(database: Database) -> None:
    some_events(database)
    execute(
        database,
        "update softpro.webhook_events set received_at = now() - %s, processed_at = processed_at - %s",
        timedelta(days=31),
        timedelta(days=31),
    )
    with database.connect() as connection:
        assert events.forget(connection, 32) == 0
        assert events.forget(connection, 30) == 1
    assert set(statuses(database)) == {"evt-0", "evt-1", "evt-2", "evt-3"}
