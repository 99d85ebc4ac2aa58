"""The outbox: what people change in `roi` is kept, what the loader writes is not."""

from __future__ import annotations

import time
from threading import Thread

import psycopg
import pytest

from softpro.entities import EntityType, Mode, SyncType
from softpro.runs import pipeline

from ..support.databases import execute, load, one, rows
from ..support.writeback import Office, edit_here, pushed

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT
WAITS = "select exists (select from pg_locks where not granted)"
OUTCOMES = "select field, outcome from softpro.outbox order by id"


def test_who_changed_what_is_kept_with_the_version_before(office: Office) -> None:
    with office.database.connect() as connection, connection.transaction():
        connection.execute("select set_config('softpro.user', 'ann', true)")
        connection.execute(
            "update roi.contacts set notes = 'one', fax = '1' where softpro_contact_id = %s", [office.key]
        )
    office.edit_here(notes="two")
    edits = "select field, new_value, changed_by from softpro.outbox order by id"
    user = one(office.database, "select session_user::text")
    assert [tuple(row.values()) for row in rows(office.database, edits)] == [
        ("fax", "1", "ann"),
        ("notes", "one", "ann"),
        ("notes", "two", user),
    ]
    versions = "select notes from roi.contacts_versions where softpro_contact_id = %s order by valid_from"
    assert [row["notes"] for row in rows(office.database, versions, office.key)][-2:] == ["one", "two"]


def test_what_the_loader_writes_is_no_edit(office: Office) -> None:
    office.edit_there(notes="theirs")
    office.sync()
    office.sync(mode=Mode.FULL)
    load(office.database, "update roi.contacts set notes = 'by the loader'")
    assert rows(office.database, OUTCOMES) == []


@pytest.mark.parametrize(
    "statement",
    [
        "update roi.contacts set softpro_contact_id = 'another'",
        "update roi.contacts set organization_id = 'another'",
        "insert into roi.contacts (organization_id, softpro_contact_id) values ('acme', 'con-mine')",
    ],
)
def test_which_record_a_row_is_can_not_be_changed(office: Office, statement: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        execute(office.database, statement)


def test_an_edit_made_while_its_row_is_loaded_is_not_lost(office: Office) -> None:
    """It is not in what the load has looked at, and the row it was made in is overwritten by it."""
    office.edit_there(company="Theirs")
    run = pipeline.begin(
        office.database, office.integration, CONTACT, mode=Mode.INCREMENTAL, sync_type=SyncType.MANUAL, run_id="race"
    )
    pipeline.extract(office.services, run)
    pipeline.transform(office.database, run)
    pipeline.check(office.database, run)
    with office.database.connect() as person:
        with person.transaction():
            person.execute("update roi.contacts set notes = 'ours' where softpro_contact_id = %s", [office.key])
            loading = Thread(target=pipeline.load, args=[office.database, run])
            loading.start()
            deadline = time.monotonic() + 60
            while not one(office.database, WAITS):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        loading.join()
    pipeline.finish(office.database, run)
    assert office.here("notes", "company") == ("ours", "Theirs")
    pushed(office.services, office.integration)
    assert office.there()[office.key]["notes"] == "ours"


@pytest.mark.parametrize(
    "change",
    [
        "estimated_closing_at = 'infinity'",
        "estimated_closing_at = '12000-01-01'",
        "estimated_closing_at = '0044-03-15 BC'",
        "custom = '[1, 2]'",
        "custom = '\"x\"'",
        "custom = '{\"a\": 1e5000}'",
        "custom = jsonb_build_object('a', (repeat('[', 1500) || repeat(']', 1500))::jsonb)",
    ],
)
def test_what_can_not_be_sent_is_refused_where_it_is_written(office: Office, change: str) -> None:
    office.sync(TRANSACTION)
    with pytest.raises(psycopg.DataError):
        execute(office.database, f"update roi.transactions set {change}")


@pytest.mark.parametrize(
    "change",
    [
        "purchase_price = 'NaN'",
        "custom = 'null'",
        "custom = '{\"a\": 123456789012345678901234567890}'",
        'custom = \'{"a.b\\"c\'\'d[0] %s {x}": 1, "": 2, "n": null}\'',
        "notes = repeat('x', 10000000)",
    ],
)
def test_an_odd_row_keeps_no_other_record_waiting(office: Office, change: str) -> None:
    office.sync(TRANSACTION)
    keys = "select softpro_order_id as key from roi.transactions order by 1 limit 2"
    odd, good = (row["key"] for row in rows(office.database, keys))
    with office.database.connect() as connection:
        connection.execute(f"update roi.transactions set {change} where softpro_order_id = '{odd}'")
    edit_here(office.database, TRANSACTION, good, notes="ours")
    pushed(office.services, office.integration, TRANSACTION)
    assert office.there(TRANSACTION)[good]["notes"] == "ours"
