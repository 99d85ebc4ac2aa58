"""Create each record at the vendor once (promise 2), despite lost responses, late changes and killed processes.

SOFTPRO_TEST_CREATES is the number of created transactions, at least 40.
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
from softpro.errors import NetworkError, NotFoundHere, OutcomeUnknown, SoftProAPIError, ValidationError
from softpro.services import Services
from softpro.softpro360.client import Client
from softpro.softpro360.creates import (
    CREATE_TIMEOUT_SECONDS,
    CreateSpec,
    create,
    document_spec,
    party_spec,
    record_spec,
)
from softpro.softpro360.transport import CONNECT_SECONDS, EXCHANGE_SECONDS, SILENCE_SECONDS

from ..support.databases import execute, one, rows
from ..support.fixture_types import StartSandbox
from ..support.product import begin_connection, build_services, environment, finish_connection, paused_process
from ..support.sandbox import Sandbox

CREATES = int(os.environ.get("SOFTPRO_TEST_CREATES", "40"))
THREADS = 4
LAG = 5


@pytest.fixture
def own(start_sandbox: StartSandbox) -> Sandbox:
    return start_sandbox(transactions=1, contacts=1, lag=LAG)


@pytest.fixture
def services(database: Database, own: Sandbox) -> Services:
    return build_services(environment(database, own, SOFTPRO_MAX_RETRIES="8"), database)


@pytest.fixture
def acme(services: Services, own: Sandbox) -> Integration:
    return finish_connection(services, own.consent(begin_connection(services, "acme"), own.organizations[0]))


def count_created(own: Sandbox, entity: str = "TRANSACTION") -> Counter[str]:
    """Count the vendor's records by our id."""
    records = own.records(own.organizations[0], entity).values()
    ours = (record.get("customFields", {}).get("roiSystemsId") for record in records)
    return Counter(roi_id for roi_id in ours if roi_id)


def create_once(services: Services, acme: Integration, wanted: CreateSpec) -> str:
    with services.database.connect() as connection, services.client(acme) as client:
        return create(connection, client, acme.id, wanted)


def sale(roi_id: str) -> CreateSpec:
    return record_spec(EntityType.TRANSACTION, roi_id, {"orderType": "SALE", "notes": f"for {roi_id}"})


def test_each_record_is_created_once_with_half_the_responses_lost(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    """Half of the requests or responses are lost. Two threads request each record and repeat when they must wait."""
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
                    except (OutcomeUnknown, SoftProAPIError):
                        again.append(roi_id)
                left = again
                time.sleep(0.2 if left else 0)

    shares = [wanted[number::THREADS] for number in range(THREADS)]
    with ThreadPoolExecutor(2 * THREADS) as pool:
        list(pool.map(work, [*shares, *shares]))
    own.switch(lostWrite=0, resetConnection=0, error500=0)
    print(f"faults: {own.stats()['faults']}")
    assert own.stats()["faults"]["lostWrite"] > CREATES / 4
    assert count_created(own) == Counter(wanted)
    records = own.records(own.organizations[0])
    assert {roi_id: [records[order]["notes"] for order in orders] for roi_id, orders in found.items()} == {
        roi_id: [f"for {roi_id}"] for roi_id in wanted
    }
    assert due(services, acme) == []


def test_parties_documents_and_contacts_are_made_once_too(services: Services, acme: Integration, own: Sandbox) -> None:
    (order,) = own.records(own.organizations[0])
    wanted = [
        record_spec(EntityType.CONTACT, "roi-contact", {"contactType": "INDIVIDUAL", "lastName": "Núñez"}),
        party_spec(order, "roi-party", {"partyType": "BUYER", "entityName": "Núñez LLC"}),
        document_spec(
            order, "roi-document", io.BytesIO(b"signed"), "deed.pdf", "application/pdf", {"documentType": "DEED"}
        ),
    ]
    own.switch(lostWrite=1)
    for each in wanted:
        with pytest.raises(OutcomeUnknown):
            create_once(services, acme, each)
    own.switch(lostWrite=0)
    time.sleep(LAG + 1.5)
    ids = [create_once(services, acme, each) for each in wanted]
    assert [create_once(services, acme, each) for each in wanted] == ids
    assert count_created(own, "CONTACT") == {"roi-contact": 1}
    with services.client(acme) as client:
        ours = [p.fields.party_id for p in client.parties(order) if (p.fields.custom_fields or {}).get("roiSystemsId")]
        assert ours == [ids[1]]
        deeds = [d.fields.document_id for d in client.documents(order) if d.fields.file_name == "deed.pdf"]
        assert deeds == [ids[2]]


def test_while_its_fate_is_unknown_nothing_is_requested_before_the_due_time(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    own.switch(resetConnection=1)
    with pytest.raises(OutcomeUnknown) as first:
        create_once(services, acme, sale("roi-1"))
    own.switch(resetConnection=0)
    assert first.value.due_at - datetime.now(UTC) > timedelta(seconds=LAG)
    asked = own.requests_of(own.organizations[0])
    with pytest.raises(OutcomeUnknown) as early:
        create_once(services, acme, sale("roi-1"))
    assert early.value.due_at == first.value.due_at
    assert (due(services, acme), own.requests_of(own.organizations[0])) == ([], asked)


def test_it_is_looked_for_twice_a_lag_apart_before_it_is_sent_again(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    own.switch(resetConnection=1)
    with pytest.raises(OutcomeUnknown):
        create_once(services, acme, sale("roi-1"))
    own.switch(resetConnection=0)
    now_due(services)
    with pytest.raises(OutcomeUnknown) as looked_once:
        create_once(services, acme, sale("roi-1"))
    assert looked_once.value.due_at - datetime.now(UTC) > timedelta(seconds=LAG)
    now_due(services)
    before = own.stats()["requests"]
    create_once(services, acme, sale("roi-1"))
    after = own.stats()["requests"]
    assert after["GET /transactions"] - before["GET /transactions"] == 1
    assert after["POST /transactions"] - before["POST /transactions"] == 1
    assert count_created(own) == {"roi-1": 1}


def test_a_refused_create_is_forgotten_and_can_be_corrected(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    with pytest.raises(ValidationError):
        create_once(
            services,
            acme,
            record_spec(EntityType.TRANSACTION, "roi-1", {"orderType": "SALE", "purchasePrice": "a lot"}),
        )
    assert rows(services.database, "select * from softpro.creates") == []
    create_once(services, acme, sale("roi-1"))
    assert count_created(own) == {"roi-1": 1}


CREATE = """
from uuid import UUID
from softpro.services import services
from softpro.settings import DatabaseSettings
from softpro.db import integrations
from softpro.db.database import open_database
from softpro.entities import EntityType
from softpro.softpro360.creates import create, record_spec
found = services(open_database(DatabaseSettings()))
with found.database.connect() as connection:
    integration = integrations.get(connection, UUID("{id}"))
    with found.client(integration) as client:
        fields = {{"orderType": "SALE", "notes": "for roi-1"}}
        create(connection, client, integration.id, record_spec(EntityType.TRANSACTION, "roi-1", fields))
"""


@pytest.mark.parametrize("arrived", [True, False], ids=["after the vendor made it", "before it was sent"])
def test_a_process_killed_while_it_creates_leaves_one_record(
    services: Services, acme: Integration, own: Sandbox, database: Database, arrived: bool
) -> None:
    """The kill comes while the process waits for the response, or for the database before it sends."""
    if arrived:
        own.switch(dripBody=1, dripSeconds=5)
    with ExitStack() as stack:
        if not arrived:
            holder = stack.enter_context(database.connect())
            stack.enter_context(holder.transaction())
            holder.execute("select from softpro.budgets for update")
        begun = "select count(*) from softpro.creates"
        create_and_be_killed(acme, own, database, lambda: bool(count_created(own) if arrived else one(database, begun)))
    own.switch(dripBody=0)
    assert len(count_created(own)) == arrived
    with pytest.raises(OutcomeUnknown):
        create_once(services, acme, sale("roi-1"))
    time.sleep(LAG if arrived else 0)
    for _ in range(2):
        now_due(services)
        with suppress(OutcomeUnknown):
            create_once(services, acme, sale("roi-1"))
    assert count_created(own) == {"roi-1": 1}


def test_a_second_send_of_unknown_fate_is_looked_for_twice_again(
    services: Services, acme: Integration, own: Sandbox, database: Database
) -> None:
    lost_and_looked_for_once(services, acme, own)
    now_due(services)
    own.switch(dripBody=1, dripSeconds=0.02)
    create_and_be_killed(acme, own, database, lambda: bool(count_created(own)))
    own.switch(dripBody=0)
    everything = own.records(own.organizations[0]).items()
    (sent,) = (order for order, record in everything if "roiSystemsId" in record.get("customFields", {}))
    own.delete(own.organizations[0], sent)  # as if the request had not arrived
    with pytest.raises(OutcomeUnknown) as held:
        create_once(services, acme, sale("roi-1"))
    assert held.value.due_at - datetime.now(UTC) > timedelta(seconds=60 + 45 + 30 + LAG)
    before = own.stats()["requests"]
    now_due(services)
    with pytest.raises(OutcomeUnknown):
        create_once(services, acme, sale("roi-1"))
    now_due(services)
    create_once(services, acme, sale("roi-1"))
    after = own.stats()["requests"]
    assert after["GET /transactions"] - before["GET /transactions"] == 2
    assert after["POST /transactions"] - before["POST /transactions"] == 1
    assert count_created(own) == {"roi-1": 1}


def completed_by_another(services: Services, acme: Integration) -> str:
    """Return the id that another process finds or creates after our time is over."""
    for _ in range(2):
        now_due(services)
        with suppress(OutcomeUnknown):
            return create_once(services, acme, sale("roi-1"))
    raise AssertionError


@pytest.mark.parametrize("end", ["refused", "lost", "made"])
def test_a_late_process_does_not_change_a_completed_create(
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
            create_once(services, acme, late)
    else:
        assert [create_once(services, acme, late)] == first
    assert [row["softpro_id"] for row in rows(services.database, "select softpro_id from softpro.creates")] == first
    assert ("created_twice" in caplog.messages) == (end == "made")


@pytest.mark.parametrize("end", ["refused", "lost"])
def test_a_late_process_does_not_change_a_claimed_create(
    services: Services, acme: Integration, own: Sandbox, end: str
) -> None:
    query = "select * from softpro.creates"
    claimed: list[dict[str, object]] = []

    def send_late(client: Client) -> str:
        now_due(services)
        with pytest.raises(OutcomeUnknown):
            create_once(services, acme, sale("roi-1"))
        claimed.extend(rows(services.database, query))
        raise ValidationError("refused") if end == "refused" else NetworkError("lost")

    with pytest.raises(ValidationError if end == "refused" else OutcomeUnknown) as failed:
        create_once(services, acme, replace(sale("roi-1"), send=send_late))
    assert rows(services.database, query) == claimed
    if isinstance(failed.value, OutcomeUnknown):
        assert failed.value.due_at == claimed[0]["due_at"]


def test_a_process_whose_look_up_took_too_long_does_not_send(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    first: list[str] = []

    def find_slowly(client: Client) -> list[str]:
        first.append(completed_by_another(services, acme))
        return []

    lost_and_looked_for_once(services, acme, own)
    now_due(services)
    assert [create_once(services, acme, replace(sale("roi-1"), find=find_slowly))] == first
    assert count_created(own) == {"roi-1": 1}


def test_a_second_send_has_as_much_time_as_the_first_however_slow_the_look_up(
    services: Services, acme: Integration, own: Sandbox
) -> None:
    """The claim covers all of that time."""
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

    create_once(services, acme, replace(wanted, find=find_slowly, send=send))
    assert count_created(own) == {"roi-1": 1}


def test_an_unknown_integration_is_an_error(services: Services, acme: Integration) -> None:
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
    with pytest.raises(OutcomeUnknown):
        create_once(services, acme, sale("roi-1"))
    own.switch(lostWrite=0)
    now_due(services)
    before = own.stats()["requests"]
    found = create_once(services, acme, sale("roi-1"))
    assert own.records(own.organizations[0])[found]["notes"] == "for roi-1"
    assert own.stats()["requests"]["GET /transactions"] - before.get("GET /transactions", 0) == 2
    assert count_created(own) == {"roi-1": 1}


def create_and_be_killed(acme: Integration, own: Sandbox, database: Database, when: Callable[[], bool]) -> None:
    """Kill a process that creates `sale("roi-1")` as soon as `when` returns True."""
    process = paused_process(environment(database, own), CREATE.format(id=acme.id))
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
    """Lose the create of `sale("roi-1")` and look for it once."""
    own.switch(resetConnection=1)
    with pytest.raises(OutcomeUnknown):
        create_once(services, acme, sale("roi-1"))
    own.switch(resetConnection=0)
    now_due(services)
    with pytest.raises(OutcomeUnknown):
        create_once(services, acme, sale("roi-1"))


def due(services: Services, acme: Integration) -> list[create_ledger.Create]:
    with services.database.connect() as connection:
        return create_ledger.due(connection, acme.id)


def now_due(services: Services) -> None:
    """Make all creates due."""
    execute(services.database, "update softpro.creates set due_at = now()")
