"""What is made at the vendor is made once (promise 2), although answers are lost, changes surface late, and we die.

SOFTPRO_TEST_CREATES is how many transactions are made: 40, or more.
"""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from softpro.db import create_ledger
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.errors import FateUnknown, NetworkError, NotFoundHere, SoftProAPIError, ValidationError
from softpro.services import Services
from softpro.softpro360.client import Client
from softpro.softpro360.creates import CREATE_TIMEOUT_SECONDS, CreateSpec, create, document, listed, party
from softpro.softpro360.transport import CONNECT_SECONDS, EXCHANGE_SECONDS, SILENCE_SECONDS

from ..support.databases import execute, one, rows
from ..support.fixture_types import StartSandbox
from ..support.product import begin_connection, environment, finish_connection, racer, services_in
from ..support.sandbox import Sandbox

CREATES = int(os.environ.get("SOFTPRO_TEST_CREATES", "40"))
THREADS = 4
LAG = 5


@pytest.fixture
def own(start_sandbox: StartSandbox) -> Sandbox:
    return start_sandbox(transactions=1, contacts=1, lag=LAG)


@pytest.fixture
def services(database: Database, own: Sandbox) -> Services:
    return services_in(environment(database, own, SOFTPRO_MAX_RETRIES="8"), database)


@pytest.fixture
def acme(services: Services, own: Sandbox) -> Integration:
    return finish_connection(services, own.consent(begin_connection(services, "acme"), own.organizations[0]))


def made(own: Sandbox, entity: str = "TRANSACTION") -> Counter[str]:
    """How many records carry each of our ids, at the vendor."""
    records = own.records(own.organizations[0], entity).values()
    ours = (record.get("customFields", {}).get("roiSystemsId") for record in records)
    return Counter(roi_id for roi_id in ours if roi_id)


def ask(services: Services, acme: Integration, wanted: CreateSpec) -> str:
    with services.database.connect() as connection, services.client(acme) as client:
        return create(connection, client, acme.id, wanted)


def sale(roi_id: str) -> CreateSpec:
    return listed(EntityType.TRANSACTION, roi_id, {"orderType": "SALE", "notes": f"for {roi_id}"})


def test_as_many_records_are_made_as_were_asked_for_with_half_the_answers_lost(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    """Half are lost on the way there or back; each is asked for by two threads; who is told to wait asks again."""
    own.switch(lostWrite=0.5, resetConnection=0.05, error500=0.05, faultSeed=7)
    wanted = [f"roi-{number}" for number in range(CREATES)]
    found: dict[str, set[str]] = {roi_id: set() for roi_id in wanted}

    def work(share: list[str]) -> None:
        left = list(share)
        with services.database.connect() as connection, services.client(acme) as client:
            while left:
                again = []
                for roi_id in left:
                    try:
                        found[roi_id].add(create(connection, client, acme.id, sale(roi_id)))
                    except (FateUnknown, SoftProAPIError):
                        again.append(roi_id)
                left = again
                time.sleep(0.2 if left else 0)

    shares = [wanted[number::THREADS] for number in range(THREADS)]
    with ThreadPoolExecutor(2 * THREADS) as pool:
        list(pool.map(work, [*shares, *shares]))
    own.switch(lostWrite=0, resetConnection=0, error500=0)
    print(f"faults: {own.stats()['faults']}")
    assert own.stats()["faults"]["lostWrite"] > CREATES / 4
    assert made(own) == Counter(wanted)
    records = own.records(own.organizations[0])
    assert {roi_id: [records[order]["notes"] for order in orders] for roi_id, orders in found.items()} == {
        roi_id: [f"for {roi_id}"] for roi_id in wanted
    }
    assert due(services, acme) == []


def test_parties_documents_and_contacts_are_made_once_too(services: Services, acme: Integration, own: Sandbox) -> None:
    (order,) = own.records(own.organizations[0])
    wanted = [
        listed(EntityType.CONTACT, "roi-contact", {"contactType": "INDIVIDUAL", "lastName": "Núñez"}),
        party(order, "roi-party", {"partyType": "BUYER", "entityName": "Núñez LLC"}),
        document(order, "roi-document", io.BytesIO(b"signed"), "deed.pdf", "application/pdf", {"documentType": "DEED"}),
    ]
    own.switch(lostWrite=1)
    for each in wanted:
        with pytest.raises(FateUnknown):
            ask(services, acme, each)
    own.switch(lostWrite=0)
    time.sleep(LAG + 1.5)
    ids = [ask(services, acme, each) for each in wanted]
    assert [ask(services, acme, each) for each in wanted] == ids
    assert made(own, "CONTACT") == {"roi-contact": 1}
    with services.client(acme) as client:
        ours = [p.fields.party_id for p in client.parties(order) if (p.fields.custom_fields or {}).get("roiSystemsId")]
        assert ours == [ids[1]]
        deeds = [d.fields.document_id for d in client.documents(order) if d.fields.file_name == "deed.pdf"]
        assert deeds == [ids[2]]


def test_while_its_fate_is_unknown_nothing_is_asked_before_the_time_that_was_told(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    own.switch(resetConnection=1)
    with pytest.raises(FateUnknown) as first:
        ask(services, acme, sale("roi-1"))
    own.switch(resetConnection=0)
    assert first.value.due_at - datetime.now(UTC) > timedelta(seconds=LAG)
    asked = own.requests_of(own.organizations[0])
    with pytest.raises(FateUnknown) as early:
        ask(services, acme, sale("roi-1"))
    assert early.value.due_at == first.value.due_at
    assert (due(services, acme), own.requests_of(own.organizations[0])) == ([], asked)


def test_it_is_looked_for_twice_a_lag_apart_before_it_is_sent_again(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    own.switch(resetConnection=1)
    with pytest.raises(FateUnknown):
        ask(services, acme, sale("roi-1"))
    own.switch(resetConnection=0)
    now_due(services)
    with pytest.raises(FateUnknown) as looked_once:
        ask(services, acme, sale("roi-1"))
    assert looked_once.value.due_at - datetime.now(UTC) > timedelta(seconds=LAG)
    now_due(services)
    before = own.stats()["requests"]
    ask(services, acme, sale("roi-1"))
    after = own.stats()["requests"]
    assert after["GET /transactions"] - before["GET /transactions"] == 1
    assert after["POST /transactions"] - before["POST /transactions"] == 1
    assert made(own) == {"roi-1": 1}


def test_what_the_vendor_refuses_is_forgotten_and_can_be_mended(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    with pytest.raises(ValidationError):
        ask(services, acme, listed(EntityType.TRANSACTION, "roi-1", {"orderType": "SALE", "purchasePrice": "a lot"}))
    assert rows(services.database, "select * from softpro.creates") == []
    ask(services, acme, sale("roi-1"))
    assert made(own) == {"roi-1": 1}


CREATE = """
from uuid import UUID
from softpro.services import services
from softpro.settings import DatabaseSettings
from softpro.db import integrations
from softpro.db.database import open_database
from softpro.entities import EntityType
from softpro.softpro360.creates import create, listed
found = services(open_database(DatabaseSettings()))
with found.database.connect() as connection:
    integration = integrations.get(connection, UUID("{id}"))
    with found.client(integration) as client:
        fields = {{"orderType": "SALE", "notes": "for roi-1"}}
        create(connection, client, integration.id, listed(EntityType.TRANSACTION, "roi-1", fields))
"""


@pytest.mark.parametrize("arrived", [True, False], ids=["after the vendor made it", "before it was sent"])
def test_a_process_killed_while_it_creates_leaves_one_record(
    services: Services, acme: Integration, own: Sandbox, database: Database, arrived: bool
) -> None:
    """Held while it waits: for the answer, or for the database to let it send."""
    if arrived:
        own.switch(dripBody=1, dripSeconds=5)
    with ExitStack() as stack:
        if not arrived:
            holder = stack.enter_context(database.connect())
            stack.enter_context(holder.transaction())
            holder.execute("select from softpro.budgets for update")
        begun = "select count(*) from softpro.creates"
        create_and_be_killed(acme, own, database, lambda: bool(made(own) if arrived else one(database, begun)))
    own.switch(dripBody=0)
    assert len(made(own)) == arrived
    with pytest.raises(FateUnknown):
        ask(services, acme, sale("roi-1"))
    time.sleep(LAG if arrived else 0)
    for _ in range(2):
        now_due(services)
        with suppress(FateUnknown):
            ask(services, acme, sale("roi-1"))
    assert made(own) == {"roi-1": 1}


def test_a_second_send_of_unknown_fate_is_looked_for_twice_again(
    services: Services, acme: Integration, own: Sandbox, database: Database
) -> None:
    lost_and_looked_for_once(services, acme, own)
    now_due(services)
    own.switch(dripBody=1, dripSeconds=0.02)
    create_and_be_killed(acme, own, database, lambda: bool(made(own)))
    own.switch(dripBody=0)
    everything = own.records(own.organizations[0]).items()
    (sent,) = (order for order, record in everything if "roiSystemsId" in record.get("customFields", {}))
    own.delete(own.organizations[0], sent)  # as if it had not arrived
    with pytest.raises(FateUnknown) as held:
        ask(services, acme, sale("roi-1"))
    assert held.value.due_at - datetime.now(UTC) > timedelta(seconds=60 + 45 + 30 + LAG)
    before = own.stats()["requests"]
    now_due(services)
    with pytest.raises(FateUnknown):
        ask(services, acme, sale("roi-1"))
    now_due(services)
    ask(services, acme, sale("roi-1"))
    after = own.stats()["requests"]
    assert after["GET /transactions"] - before["GET /transactions"] == 2
    assert after["POST /transactions"] - before["POST /transactions"] == 1
    assert made(own) == {"roi-1": 1}


def completed_by_another(services: Services, acme: Integration) -> str:
    """Our time is over, and another process looks for the record, or makes it."""
    for _ in range(2):
        now_due(services)
        with suppress(FateUnknown):
            return ask(services, acme, sale("roi-1"))
    raise AssertionError


@pytest.mark.parametrize("end", ["refused", "lost", "made"])
def test_who_comes_late_changes_nothing_of_what_another_completed(
    services: Services, acme: Integration, own: Sandbox, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    first: list[str] = []

    def send_late(client: Client) -> str:
        first.append(completed_by_another(services, acme))
        if end == "refused":
            raise ValidationError("refused")
        if end == "lost":
            raise NetworkError("lost")
        return sale("roi-1").send(client)

    late = replace(sale("roi-1"), send=send_late)
    if end == "refused":
        with pytest.raises(ValidationError):
            ask(services, acme, late)
    else:
        assert [ask(services, acme, late)] == first
    assert [row["softpro_id"] for row in rows(services.database, "select softpro_id from softpro.creates")] == first
    assert ("created_twice" in caplog.messages) == (end == "made")


@pytest.mark.parametrize("end", ["refused", "lost"])
def test_who_comes_late_changes_nothing_of_what_another_claimed(
    services: Services, acme: Integration, own: Sandbox, end: str
) -> None:
    stood = "select * from softpro.creates"
    claimed: list[dict[str, object]] = []

    def send_late(client: Client) -> str:
        now_due(services)
        with pytest.raises(FateUnknown):
            ask(services, acme, sale("roi-1"))
        claimed.extend(rows(services.database, stood))
        raise ValidationError("refused") if end == "refused" else NetworkError("lost")

    with pytest.raises(ValidationError if end == "refused" else FateUnknown) as failed:
        ask(services, acme, replace(sale("roi-1"), send=send_late))
    assert rows(services.database, stood) == claimed
    if isinstance(failed.value, FateUnknown):
        assert failed.value.due_at == claimed[0]["due_at"]


def test_who_looked_for_it_too_long_does_not_send_it(services: Services, acme: Integration, own: Sandbox) -> None:
    first: list[str] = []

    def find_slowly(client: Client) -> list[str]:
        first.append(completed_by_another(services, acme))
        return []

    lost_and_looked_for_once(services, acme, own)
    now_due(services)
    assert [ask(services, acme, replace(sale("roi-1"), find=find_slowly))] == first
    assert made(own) == {"roi-1": 1}


def test_a_second_send_has_as_much_time_as_the_first_however_slow_the_look_up(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    """And the claim covers all of it."""
    lost_and_looked_for_once(services, acme, own)
    now_due(services)
    wanted = sale("roi-1")

    def find_slowly(client: Client) -> list[str]:
        time.sleep(3)
        return wanted.find(client)

    def send(client: Client) -> str:
        left = one(services.database, "select extract(epoch from due_at - now())::float from softpro.creates")
        assert client.deadline is not None
        patience = client.deadline - time.monotonic()
        assert patience > CREATE_TIMEOUT_SECONDS - 2
        assert left > patience + CONNECT_SECONDS + EXCHANGE_SECONDS + SILENCE_SECONDS + LAG
        return wanted.send(client)

    ask(services, acme, replace(wanted, find=find_slowly, send=send))
    assert made(own) == {"roi-1": 1}


def test_an_unknown_integration_is_told(services: Services, acme: Integration) -> None:
    with services.database.connect() as connection, services.client(acme) as client, pytest.raises(NotFoundHere):
        create(connection, client, uuid4(), sale("roi-1"))


def test_it_is_found_behind_a_page_of_others_that_match_the_search(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    own.switch(lag=0)
    (other,) = own.records(own.organizations[0]).values()
    for number in range(210):
        like = {"orderId": f"like-{number}", "orderNumber": f"ROI-1/{number}", "orderType": "SALE", "status": "OPENED"}
        own.put(own.organizations[0], {**like, "createdAt": other["createdAt"], "updatedAt": other["updatedAt"]})
    own.switch(lostWrite=1)
    with pytest.raises(FateUnknown):
        ask(services, acme, sale("roi-1"))
    own.switch(lostWrite=0)
    now_due(services)
    before = own.stats()["requests"]
    found = ask(services, acme, sale("roi-1"))
    assert own.records(own.organizations[0])[found]["notes"] == "for roi-1"
    assert own.stats()["requests"]["GET /transactions"] - before.get("GET /transactions", 0) == 2
    assert made(own) == {"roi-1": 1}


def create_and_be_killed(acme: Integration, own: Sandbox, database: Database, when: Callable[[], bool]) -> None:
    """A process asks for `sale("roi-1")`, and dies then."""
    process = racer(environment(database, own), CREATE.format(id=acme.id))
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    deadline = time.monotonic() + 60
    try:
        while not when():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()


def lost_and_looked_for_once(services: Services, acme: Integration, own: Sandbox) -> None:
    """`sale("roi-1")` did not arrive."""
    own.switch(resetConnection=1)
    with pytest.raises(FateUnknown):
        ask(services, acme, sale("roi-1"))
    own.switch(resetConnection=0)
    now_due(services)
    with pytest.raises(FateUnknown):
        ask(services, acme, sale("roi-1"))


def due(services: Services, acme: Integration) -> list[create_ledger.Create]:
    with services.database.connect() as connection:
        return create_ledger.due(connection, acme.id)


def now_due(services: Services) -> None:
    """Time passes."""
    execute(services.database, "update softpro.creates set due_at = now()")
