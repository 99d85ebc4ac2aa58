"""Create each record at the vendor once (promise 2), despite lost responses, late changes and killed processes.

SOFTPRO_TEST_CREATES is the number of created transactions, at least 40.
"""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.errors import NotFoundHere, OutcomeUnknown, SoftProAPIError, ValidationError
from softpro.services import Services
from softpro.softpro360.creates import (
    create,
    document_spec,
    party_spec,
    record_spec,
)

from ...support.creates import (
    LAG,
    count_created,
    create_and_be_killed,
    create_once,
    due,
    lost_and_looked_for_once,
    now_due,
    sale,
)
from ...support.databases import one, rows
from ...support.sandbox import Sandbox

CREATES = int(os.environ.get("SOFTPRO_TEST_CREATES", "40"))
THREADS = 4


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
