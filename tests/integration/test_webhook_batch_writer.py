"""Store webhook deliveries in batches: once each, and independent of other deliveries."""

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
from softpro.webhooks.batch_writer import COMMIT_TIMEOUT_SECONDS, SETTINGS, BatchWriter, BatchWriters
from softpro.webhooks.deliveries import STORE_DELIVERIES, Verdict, parameters

from ..support.databases import Server, execute, one, rows
from ..support.webhook_deliveries import create_integration, delivery, put_concurrently, store_deliveries

STORED, KNOWN, STALE, REFUSED = Verdict.STORED, Verdict.KNOWN, Verdict.STALE, Verdict.REFUSED


def test_an_event_is_stored_and_notified_once(database: Database) -> None:
    acme = create_integration(database)
    with database.connect() as listener:
        listener.execute(f"listen {inbox.CHANNEL}")

        assert store_deliveries(database, *[delivery(acme)] * 3) == [STORED, KNOWN, KNOWN]
        assert store_deliveries(database, delivery(acme, timely=False)) == [KNOWN], "a redelivery may be old"
        assert store_deliveries(database, delivery(acme)) == [KNOWN]

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
    acme, other = create_integration(database), create_integration(database, "other")

    assert store_deliveries(database, delivery(acme), delivery(other, organization="at-other")) == [STORED, STORED]


def test_deliveries_that_are_not_allowed_are_not_stored(database: Database) -> None:
    acme = create_integration(database)
    gone = create_integration(database, "gone", status="DISCONNECTED")
    deleted = create_integration(database, "deleted", deleted_at="2025-01-01")
    off = create_integration(database, "off", webhooks_enabled=False)
    expired = create_integration(database, "expired", status="EXPIRED")

    results = store_deliveries(
        database,
        delivery(uuid4()),
        delivery(gone, organization="at-gone"),
        delivery(deleted, organization="at-deleted"),
        delivery(off, organization="at-off"),
        delivery(acme, organization="at-other"),
        delivery(acme, "evt-2", timely=False),
        delivery(acme, timely=False),
        delivery(expired, organization="at-expired"),
    )

    assert results == [REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, STALE, STALE, STORED]
    assert one(database, "select organization_id from softpro.webhook_events") == "expired"


@pytest.mark.parametrize("data", [r'"\u0000"', r'"\ud800"', "1e999999"])
def test_data_that_jsonb_refuses_is_left_out_and_fails_no_other_delivery(database: Database, data: str) -> None:
    acme = create_integration(database)

    assert store_deliveries(
        database, delivery(acme, "bad", payload=f'{{"id": "bad", "data": {data}}}'), delivery(acme)
    ) == [
        STORED,
        STORED,
    ]
    assert one(database, "select payload from softpro.webhook_events where event_id = 'bad'") == {"id": "bad"}


def test_a_delivery_that_can_not_be_stored_fails_alone(database: Database) -> None:
    acme = create_integration(database)
    deep = (
        "[" * 100_000 + "]" * 100_000
    )  # deeper than PostgreSQL's stack; the database cannot be asked about it in advance

    failed, stored, also = store_deliveries(
        database, delivery(acme, "deep", payload=deep), delivery(acme), delivery(acme, "evt-2")
    )

    assert isinstance(failed, psycopg.errors.StatementTooComplex)
    assert (stored, also) == (STORED, STORED)


def test_two_servers_that_take_the_same_events_at_once_store_each_once(database: Database) -> None:
    acme = create_integration(database)

    async def both() -> list[Verdict | BaseException]:
        writers = [BatchWriter(lambda: database), BatchWriter(lambda: database)]
        try:
            results = await asyncio.gather(
                *(put_concurrently(writer, [delivery(acme, f"evt-{n}") for n in range(300)]) for writer in writers)
            )
        finally:
            for writer in writers:
                await writer.close()
        return [verdict for verdicts in results for verdict in verdicts]

    results = asyncio.run(both())

    assert (results.count(STORED), results.count(KNOWN)) == (300, 300)
    assert one(database, "select count(*) from softpro.webhook_events where deliveries in (1, 2)") == 300


@pytest.mark.parametrize("stored", [0, 1])
def test_a_plan_made_while_there_are_few_events_reads_no_more_of_them_when_there_are_many(
    database: Database, stored: int
) -> None:
    acme = create_integration(database)
    if stored:
        store_deliveries(database, delivery(acme))
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


def test_a_repeated_delivery_does_not_wait_for_the_settling_run(database: Database) -> None:
    acme, other = create_integration(database), create_integration(database, "other")
    store_deliveries(database, delivery(acme))
    with database.connect() as drain, drain.transaction():
        drain.execute("update softpro.webhook_events set next_retry_at = clock_timestamp()")
        results = store_deliveries(
            database,
            delivery(acme),
            delivery(acme, timely=False),
            delivery(acme, "evt-2"),
            delivery(other, organization="at-other"),
        )

        assert results == [KNOWN, KNOWN, STORED, STORED]
    assert store_deliveries(database, delivery(acme)) == [KNOWN]
    counted = "select deliveries from softpro.webhook_events where event_id = 'evt-1' and integration_id = %s"
    assert one(database, counted, acme) == 2, "deliveries during the lock are not counted"


def test_a_blocked_delivery_does_not_block_others(database: Database) -> None:
    acme, other = create_integration(database), create_integration(database, "other")
    with database.connect() as server, server.transaction():
        server.execute(STORE_DELIVERIES, parameters({delivery(acme): 1}))  # not committed yet

        async def work() -> list[Verdict | BaseException]:
            writer = BatchWriter(lambda: database)
            first = asyncio.create_task(
                put_concurrently(
                    writer, [delivery(acme), delivery(acme, "evt-2"), delivery(other, organization="at-other")]
                )
            )
            await asyncio.sleep(0.2)
            late = await put_concurrently(writer, [delivery(other, "evt-2", organization="at-other")])
            try:
                return [*await first, *late]
            finally:
                await writer.close()

        blocked, beside, stored, late = asyncio.run(work())

        assert isinstance(blocked, DatabaseUnavailable)
        assert isinstance(beside, DatabaseUnavailable), "they are sent again, and others wait"
        assert (stored, late) == (STORED, STORED)
    assert store_deliveries(database, delivery(acme), delivery(acme, "evt-2")) == [KNOWN, STORED]


def test_large_deliveries_go_in_several_statements(database: Database) -> None:
    acme = create_integration(database)
    large = json.dumps({"data": "x" * 900_000})
    with database.connect() as listener:
        listener.execute(f"listen {inbox.CHANNEL}")

        results = store_deliveries(database, *[delivery(acme, f"evt-{n}", payload=large) for n in range(9)])

        assert results == [STORED] * 9
        assert len(list(listener.notifies(timeout=0.2))) == 3, "one of each statement"


def test_each_event_loop_has_a_writer_of_its_own(database: Database) -> None:
    acme, writers = create_integration(database), BatchWriters(lambda: database)

    async def put(event_id: str) -> Verdict:
        assert writers.here() is writers.here()
        try:
            return await writers.here().put(delivery(acme, event_id))
        finally:
            await writers.close_here()

    assert [asyncio.run(put(f"evt-{n}")) for n in range(3)] == [STORED] * 3


def test_a_cancelled_request_stops_no_other(database: Database) -> None:
    acme = create_integration(database)

    async def work() -> list[Verdict | BaseException]:
        writer = BatchWriter(lambda: database)
        leaving = [asyncio.create_task(writer.put(delivery(acme, f"leaving-{n}"))) for n in range(10)]
        staying = asyncio.create_task(put_concurrently(writer, [delivery(acme, f"staying-{n}") for n in range(10)]))
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        try:
            return await staying
        finally:
            await writer.close()

    assert asyncio.run(work()) == [STORED] * 10


def test_while_the_server_restarts_deliveries_wait_and_then_are_stored(database: Database, server: Server) -> None:
    acme = create_integration(database)

    async def work() -> list[Verdict | BaseException]:
        writer = BatchWriter(lambda: database)
        try:
            before = await put_concurrently(writer, [delivery(acme, "before")])
            restart = asyncio.create_task(asyncio.to_thread(server.restart, "immediate", 0.5))
            await asyncio.sleep(0.2)
            during = await put_concurrently(writer, [delivery(acme, f"evt-{n}") for n in range(5)])
            await restart
            return [*before, *during]
        finally:
            await writer.close()

    results = asyncio.run(work())

    assert results[0] == STORED
    assert all(verdict in (STORED, KNOWN) for verdict in results)
    assert one(database, "select count(*) from softpro.webhook_events") == 6


def test_a_database_that_is_away_is_one_clear_error_in_time() -> None:
    nowhere = Database("host=127.0.0.1 port=1 dbname=nowhere")

    async def timed() -> float:
        began = asyncio.get_running_loop().time()
        failed, *_ = await put_concurrently(BatchWriter(lambda: nowhere), [delivery(uuid4())])
        assert isinstance(failed, DatabaseUnavailable)
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(timed()) < 2 * COMMIT_TIMEOUT_SECONDS, "a busy machine is late"


def test_a_database_without_the_tables_says_so(bare_database: Database) -> None:
    [failed] = store_deliveries(bare_database, delivery(uuid4()))
    assert isinstance(failed, SchemaError)
