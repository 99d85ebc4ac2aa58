"""Find stored webhook events, retry them and delete old ones."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

import pytest

from softpro.db import inbox
from softpro.db.database import Database
from softpro.errors import NotFoundHere, OutOfDate
from softpro.webhooks import events
from softpro.webhooks.events import EventFilter

from ..support.databases import execute, one, rows
from ..support.webhook_deliveries import create_integration, delivery, store_deliveries


def some_events(database: Database) -> UUID:
    """Create an integration with five events: pending, retrying, two failed (one about a contact) and processed."""
    acme = create_integration(database)
    store_deliveries(database, *[delivery(acme, f"evt-{n}") for n in range(5)])
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


def test_a_failed_event_is_retried_at_once_and_the_user_is_recorded(database: Database) -> None:
    acme = some_events(database)
    with database.connect() as connection:
        connection.execute(f"listen {inbox.CHANNEL}")

        retried = events.retry(connection, acme, row_id(database, "evt-2"), "ana")

        assert (retried.status, retried.attempts, retried.next_retry_at) == ("PENDING", 0, None)
        assert [(each["decision"], each["by"]) for each in retried.decisions] == [("RETRY", "ana")]
        due = connection.execute(inbox.SELECT_SECONDS_UNTIL_DUE).fetchone()
        assert due is not None
        assert due["seconds"] < 0
        assert len(list(connection.notifies(timeout=0.2))) == 1


@pytest.mark.parametrize(("event", "status"), [("evt-0", "PENDING"), ("evt-4", "PROCESSED")])
def test_an_event_that_needs_no_retry_is_left_alone(database: Database, event: str, status: str) -> None:
    acme = some_events(database)
    with database.connect() as connection, pytest.raises(OutOfDate, match=f"is {status}"):
        events.retry(connection, acme, row_id(database, event), "ana")


def test_another_integrations_events_are_hidden(database: Database) -> None:
    acme, other = some_events(database), create_integration(database, "other")
    failed = row_id(database, "evt-2")
    with database.connect() as connection:
        with pytest.raises(NotFoundHere):
            events.get(connection, other, failed)
        with pytest.raises(NotFoundHere):
            events.retry(connection, other, failed, "eve")
        assert events.retry_some(connection, other, [failed], "eve") == 0
        assert events.retry_failed(connection, other, None, "eve") == 0
        assert events.page(connection, other, EventFilter(), 50, 0) == ([], 0)
        assert events.page(connection, acme, EventFilter(), 50, 0)[1] == 5


def test_some_or_all_failed_events_are_retried(database: Database) -> None:
    acme = some_events(database)
    everything = [row["id"] for row in rows(database, "select id from softpro.webhook_events")]
    with database.connect() as connection:
        assert events.retry_failed(connection, acme, "CONTACT", "ana") == 1
        assert statuses(database)["evt-2"] == "FAILED"
        assert events.retry_failed(connection, acme, None, "ana") == 1
        assert events.retry_some(connection, acme, everything, "ana") == 1, "the event that waited for its retry"
    assert statuses(database) == {**{f"evt-{n}": "PENDING" for n in range(4)}, "evt-4": "PROCESSED"}


def test_events_are_listed_newest_first_and_narrowed(database: Database) -> None:
    acme = some_events(database)
    execute(
        database,
        "update softpro.webhook_events set received_at = received_at + right(event_id, 1)::integer * interval '1 s'",
    )
    with database.connect() as connection:

        def found(**wanted: str) -> list[str]:
            page, total = events.page(connection, acme, EventFilter(**wanted), 50, 0)
            assert len(page) == total
            return [event.event_id for event in page]

        assert found() == ["evt-4", "evt-3", "evt-2", "evt-1", "evt-0"]
        assert found(status="FAILED") == ["evt-3", "evt-2"]
        assert found(status="FAILED", entity_type="CONTACT") == ["evt-3"]
        assert found(event_type="ORDER_CLOSED") == []
        page, total = events.page(connection, acme, EventFilter(), 2, 1)
        assert ([event.event_id for event in page], total) == (["evt-3", "evt-2"], 5)


def test_all_of_an_event_is_shown_digit_for_digit(database: Database) -> None:
    acme = create_integration(database)
    store_deliveries(database, delivery(acme, payload='{"id": "evt-1", "data": {"price": 1.10}}'))
    with database.connect() as connection:
        event = events.get(connection, acme, row_id(database, "evt-1"))
        shown = events.full_json(connection, event)
    assert b'"payload":{"id": "evt-1", "data": {"price": 1.10}}' in shown
    assert json.loads(shown)["headers"] == {"user-agent": "SoftPro"}


def test_stats_count_and_report_the_latency(database: Database) -> None:
    acme = some_events(database)
    store_deliveries(database, delivery(acme, "evt-0"))
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
        nothing = events.stats(connection, create_integration(database, "other")).as_json()

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
        "refusedLastDay": {"signatures": 0, "timestamps": 0, "lastAt": None},
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
        assert events.purge(connection, 32) == 0
        assert events.purge(connection, 30) == 1
    assert set(statuses(database)) == {"evt-0", "evt-1", "evt-2", "evt-3"}
