"""Webhook events as they are stored, by whoever signed them."""

from __future__ import annotations

import asyncio
import json
import re
from uuid import uuid4

import psycopg
import pytest

from softpro.db import inbox
from softpro.db.database import Database
from softpro.errors import DatabaseUnavailable, SchemaError
from softpro.webhooks.batch_writer import COMMIT_TIMEOUT_SECONDS, SETTINGS, Writer, Writers
from softpro.webhooks.deliveries import STORE_DELIVERIES, Verdict, parameters

from ..support.databases import Server, execute, one, rows
from ..support.webhook_deliveries import arrival, integration, put_all, store

STORED, KNOWN, STALE, REFUSED = Verdict.STORED, Verdict.KNOWN, Verdict.STALE, Verdict.REFUSED


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
    query = STORE_DELIVERIES
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
        server.execute(STORE_DELIVERIES, parameters({arrival(acme): 1}))  # not committed yet

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

    assert asyncio.run(timed()) < 2 * COMMIT_TIMEOUT_SECONDS, "a busy machine is late"


def test_a_database_without_the_tables_says_so(bare_database: Database) -> None:
    [failed] = store(bare_database, arrival(uuid4()))
    assert isinstance(failed, SchemaError)
