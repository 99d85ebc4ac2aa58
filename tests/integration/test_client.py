"""Call every operation of the vendor's API over HTTP, against the sandbox."""

from __future__ import annotations

import io
import json
import logging
import os
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.errors import ConflictError, NetworkError, RecordNotFound, ServerError, UsageError, ValidationError
from softpro.services import Services
from softpro.softpro360 import capabilities
from softpro.softpro360.client import Client
from softpro.softpro360.records import Record, Unreadable
from softpro.softpro360.statuses import statuses
from softpro.softpro360.transport import exchange

from ..support.databases import execute
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import connect_acme
from ..support.sandbox import Json, Sandbox

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT


@pytest.fixture
def acme(connected: Connected) -> Integration:
    return connected("acme")


@pytest.fixture
def client(services: Services, acme: Integration) -> Iterator[Client]:
    with services.client(acme) as client:
        yield client


@pytest.fixture
def order(sandbox: Sandbox, vendor_organization: str) -> str:
    """Return the id of a transaction at the vendor."""
    return next(iter(sandbox.records(vendor_organization)))


def payload(record: Record | Unreadable) -> Json:
    assert isinstance(record, Record)
    decoded: Json = json.loads(record.payload, parse_float=Decimal)
    return decoded


def test_the_profile_names_the_owner_of_the_grant(client: Client, vendor_organization: str) -> None:
    profile = client.profile()
    assert profile.organization_id == vendor_organization
    assert "@" in profile.email


def test_a_record_comes_byte_for_byte_with_its_etag(
    client: Client, sandbox: Sandbox, vendor_organization: str, order: str
) -> None:
    record = client.record(TRANSACTION, order)
    assert isinstance(record, Record)
    assert record.payload in sandbox.export(vendor_organization)
    assert record.etag is not None
    with pytest.raises(RecordNotFound, match=r"GET /transactions/\{orderId\}: SoftPro responded 404"):
        client.record(TRANSACTION, "../no one?")


def test_a_created_record_is_found_by_its_roi_systems_id(client: Client) -> None:
    fields = {
        "orderType": "PURCHASE",
        "purchasePrice": Decimal("250000.10"),
        "customFields": {"roiSystemsId": "roi-1"},
    }
    made = payload(client.create(TRANSACTION, fields))
    assert made["purchasePrice"] == Decimal("250000.10")
    found = client.select(TRANSACTION, {"search": "roi-1"})
    assert [payload(record)["orderId"] for record in found.records] == [made["orderId"]]
    person = payload(client.create(CONTACT, {"contactType": "INDIVIDUAL", "lastName": "Núñez"}))
    assert payload(client.record(CONTACT, person["contactId"]))["lastName"] == "Núñez"


def test_a_change_touches_only_what_is_sent_and_null_clears(client: Client, order: str) -> None:
    before = payload(client.record(TRANSACTION, order))
    after = payload(client.change(TRANSACTION, order, {"notes": "changed", "loanAmount": None}))
    assert after["notes"] == "changed"
    assert after.get("loanAmount") is None
    assert {k: v for k, v in after.items() if k not in ("notes", "loanAmount", "updatedAt")} == {
        k: v for k, v in before.items() if k not in ("notes", "loanAmount", "updatedAt")
    }


def test_a_change_of_an_outdated_version_is_a_conflict_with_the_current_version(client: Client, order: str) -> None:
    seen = client.record(TRANSACTION, order)
    assert isinstance(seen, Record)
    client.change(TRANSACTION, order, {"notes": "somebody was faster"}, seen.etag)
    with pytest.raises(ConflictError) as conflict:
        client.change(TRANSACTION, order, {"notes": "too late"}, seen.etag)
    assert conflict.value.details["current"]["notes"] == "somebody was faster"
    assert conflict.value.error_code == "CONFLICT_ERROR"
    assert conflict.value.request_id


def test_a_refused_field_is_a_validation_error(client: Client, order: str) -> None:
    with pytest.raises(ValidationError) as refused:
        client.change(TRANSACTION, order, {"purchasePrice": "a lot"})
    assert refused.value.status_code == 400
    assert not refused.value.retryable


def test_a_deleted_record_is_gone(client: Client, order: str) -> None:
    client.delete(TRANSACTION, order)
    with pytest.raises(RecordNotFound):
        client.record(TRANSACTION, order)
    with pytest.raises(RecordNotFound):
        client.delete(TRANSACTION, order)


def test_a_transaction_is_given_a_status(client: Client, order: str) -> None:
    closed = next(each.fields for each in client.statuses() if each.fields.status_code == "CLOSED")
    assert payload(client.change_status(order, closed.status_id))["status"] == "CLOSED"
    with pytest.raises(ValidationError):
        client.change_status(order, "no such status")


def test_statuses_are_asked_for_once_a_day(
    services: Services, client: Client, acme: Integration, sandbox: Sandbox, vendor_organization: str
) -> None:
    with services.database.connect() as connection:
        first = statuses(connection, client, acme.id)
        asked = sandbox.requests_of(vendor_organization)
        assert statuses(connection, client, acme.id) == first
        assert sandbox.requests_of(vendor_organization) == asked
        execute(services.database, "update softpro.statuses set fetched_at = now() - interval '2 days'")
        assert statuses(connection, client, acme.id) == first
    assert sandbox.requests_of(vendor_organization) == asked + 1
    assert {each.fields.status_code for each in first} >= {"OPENED", "CLOSED"}


def test_parties_are_read_added_and_changed(client: Client, order: str) -> None:
    before = {each.fields.party_id for each in client.parties(order)}
    made = client.create_party(order, {"partyType": "BUYER", "entityName": "Núñez LLC", "ownershipPercentage": 33.5})
    assert made.fields.ownership_percentage == Decimal("33.5")
    changed = client.change_party(order, made.fields.party_id, {"entityName": "Núñez Inc"})
    assert changed.fields.entity_name == "Núñez Inc"
    assert {each.fields.party_id for each in client.parties(order)} == before | {made.fields.party_id}
    with pytest.raises(RecordNotFound):
        client.parties("nobody")


def test_the_property_is_read_and_changed(client: Client, order: str) -> None:
    before = client.property(order)
    assert before.fields.order_id == order
    after = client.change_property(order, {"zoning": "R-2", "customFields": {"anything": [1, 2]}})
    assert (after.fields.zoning, after.fields.property_id) == ("R-2", before.fields.property_id)
    assert json.loads(after.payload)["customFields"]["anything"] == [1, 2]


def test_documents_are_listed_fetched_and_deleted(client: Client, order: str) -> None:
    made = client.upload(order, io.BytesIO(b"signed"), "deed.pdf", "application/pdf", {"documentType": "DEED"})
    assert (made.fields.document_type, made.fields.file_size, made.fields.order_id) == ("DEED", 6, order)
    listed = client.documents(order, documentType="DEED")
    assert made.fields.document_id in {each.fields.document_id for each in listed}
    assert client.document(order, made.fields.document_id).fields.file_name == "deed.pdf"
    copy = io.BytesIO(b"what was there before")
    client.download(made.fields, copy)
    assert copy.getvalue() == b"signed"
    client.delete_document(order, made.fields.document_id)
    with pytest.raises(RecordNotFound):
        client.document(order, made.fields.document_id)
    with pytest.raises(RecordNotFound):
        client.download(made.fields, copy)


def test_a_large_document_is_streamed_both_ways(client: Client, order: str, tmp_path: Path) -> None:
    size = 24 * 1024 * 1024
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(1024) * (size // 1024))
    client.profile()
    tracemalloc.start()
    with source.open("rb") as file:
        made = client.upload(order, file, "survey.tif", "image/tiff", {"documentType": "SURVEY"})
    with copy.open("w+b") as into:
        client.download(made.fields, into)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert copy.read_bytes() == source.read_bytes()
    assert peak < size / 4


def test_a_document_cut_short_is_fetched_again_from_its_beginning(
    database: Database, start_sandbox: StartSandbox
) -> None:
    own = start_sandbox(transactions=1, contacts=0)
    services, acme = connect_acme(database, own, SOFTPRO_MAX_RETRIES="12")
    (order,) = own.records(own.organizations[0])
    with services.client(acme) as client:
        made = client.upload(order, io.BytesIO(b"0123456789" * 500), "a.txt", "text/plain", {})
        own.switch(truncatedBody=0.3, emptyBody=0.2, wrongJson=0.2, faultSeed=5)
        copy = io.BytesIO()
        for _ in range(5):
            client.download(made.fields, copy)
            assert copy.getvalue() == b"0123456789" * 500


@pytest.mark.parametrize("hindrance", ["an expired token", "a refusal for now"])
def test_an_upload_that_is_sent_again_is_sent_from_its_beginning(
    database: Database, start_sandbox: StartSandbox, hindrance: str
) -> None:
    own = start_sandbox(transactions=1, contacts=0)
    services, acme = connect_acme(database, own, SOFTPRO_MAX_RETRIES="12")
    (order,) = own.records(own.organizations[0])
    content = os.urandom(200_000)
    with services.client(acme) as client:
        client.profile()
        if hindrance == "an expired token":
            own.expire(own.organizations[0])
        else:
            own.switch(error429=0.6, faultSeed=3)
        made = client.upload(order, io.BytesIO(content), "a.bin", "application/octet-stream", {})
        own.switch(error429=0)
        assert client.requests_made > 2
        copy = io.BytesIO()
        client.download(made.fields, copy)
    assert copy.getvalue() == content


@pytest.mark.parametrize("wrong", ["", ".", ".."])
def test_an_id_that_leads_elsewhere_is_refused(client: Client, order: str, wrong: str) -> None:
    with pytest.raises(UsageError, match="can't be an id"):
        client.delete_document(order, wrong)
    assert isinstance(client.record(TRANSACTION, order), Record)


def test_a_vendor_without_etags_is_sent_no_if_match_and_a_write_once(
    database: Database, start_sandbox: StartSandbox
) -> None:
    own = start_sandbox(transactions=1, contacts=0, etags="false")
    services, acme = connect_acme(database, own)
    (order,) = own.records(own.organizations[0])
    with database.connect() as connection:
        capabilities.note(connection, acme.id, sends_etags=False)
    own.switch(lostWrite=1)
    with services.client(acme) as client:
        with pytest.raises(NetworkError):
            client.change(TRANSACTION, order, {"notes": "once"}, '"an old one"')
        assert client.requests_made == 1


def test_unknown_fields_and_enum_values_are_let_through(
    client: Client, sandbox: Sandbox, vendor_organization: str
) -> None:
    odd = {
        "orderId": "odd-1",
        "orderType": "TIMESHARE",
        "updatedAt": "2025-03-01T00:00:00.000Z",
        "createdAt": "2025-03-01T00:00:00.000Z",
        "escrowRating": {"stars": 5},
    }
    sandbox.put(vendor_organization, odd)
    assert payload(client.record(TRANSACTION, "odd-1")) == odd


def test_a_deleted_record_whose_answer_was_lost_is_no_error(database: Database, start_sandbox: StartSandbox) -> None:
    own = start_sandbox(transactions=20, contacts=0)
    services, acme = connect_acme(database, own, SOFTPRO_MAX_RETRIES="12")
    own.switch(lostWrite=0.5)
    with services.client(acme) as client:
        for order in own.records(own.organizations[0]):
            client.delete(TRANSACTION, order)
    assert own.records(own.organizations[0]) == {}
    assert own.stats()["faults"]["lostWrite"] > 3


def test_a_change_with_an_etag_whose_answer_was_lost_is_done_once_and_is_no_conflict(
    database: Database, start_sandbox: StartSandbox
) -> None:
    own = start_sandbox(transactions=20, contacts=0)
    services, acme = connect_acme(database, own, SOFTPRO_MAX_RETRIES="12")
    fields = {
        "notes": "done",
        "purchasePrice": Decimal("1.10"),
        "propertyAddress": {"city": "Mesa"},
        "loanAmount": None,
    }
    own.switch(lostWrite=0.5)
    with services.client(acme) as client:
        for order in own.records(own.organizations[0]):
            seen = client.record(TRANSACTION, order)
            assert isinstance(seen, Record)
            assert payload(client.change(TRANSACTION, order, fields, seen.etag))["notes"] == "done"
    assert {record["notes"] for record in own.records(own.organizations[0]).values()} == {"done"}
    assert own.stats()["faults"]["lostWrite"] > 3


def test_a_write_without_an_etag_is_not_sent_again_when_its_answer_is_lost(
    database: Database, start_sandbox: StartSandbox
) -> None:
    own = start_sandbox(transactions=1, contacts=0)
    services, acme = connect_acme(database, own)
    (order,) = own.records(own.organizations[0])
    own.switch(lostWrite=1)
    with services.client(acme) as client:
        with pytest.raises(NetworkError) as lost:
            client.change(TRANSACTION, order, {"notes": "once"})
        assert client.requests_made == 1
    assert lost.value.sent


def test_a_dripping_answer_ends(client: Client, sandbox: Sandbox) -> None:
    token = client.token(None)

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    sandbox.switch(dripBody=1.0, dripSeconds=0.05)
    try:
        with requests.Session() as session, pytest.raises(NetworkError, match="did not finish its response in 1 s"):
            exchange(session, "GET", f"{client.base_url}/statuses", "GET /statuses", seconds=1, authorize=authorize)
    finally:
        sandbox.switch(dripBody=0.0)


def test_every_attempt_logs_an_event_without_personal_data(
    client: Client, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="softpro"):
        client.record(TRANSACTION, order)
        with pytest.raises(RecordNotFound):
            client.record(TRANSACTION, "someone@example.com")
    events = [vars(record) for record in caplog.records if record.message == "vendor_call"]
    said = [{name: event[name] for name in ("method", "route", "status", "attempt")} for event in events]
    assert said == [
        {"method": "GET", "route": "/transactions/{orderId}", "status": status, "attempt": 1} for status in (200, 404)
    ]
    for event in events:
        assert event["ms"] >= 0
        assert event["waited_ms"] >= 0
        assert event["budget_left"] > 0
        assert "example.com" not in str(event)
        assert order not in str(event)
    assert events[1]["request_id"]


WRONG = {
    "html from a proxy": "proxyHtml",
    "an empty body": "emptyBody",
    "a body cut short": "truncatedBody",
    "JSON of another shape": "wrongJson",
    "an error of the server": "error500",
}


@pytest.mark.parametrize("switch", WRONG.values(), ids=WRONG)
def test_an_unusable_response_is_a_server_error_for_every_call(
    database: Database, start_sandbox: StartSandbox, switch: str
) -> None:
    own = start_sandbox(transactions=1, contacts=1)
    services, acme = connect_acme(database, own, SOFTPRO_MAX_RETRIES="0")
    (order,) = own.records(own.organizations[0])
    with services.client(acme) as client:
        (document, *_) = client.documents(order)
        own.switch(**{switch: 1.0})
        calls: list[Callable[[], object]] = [
            client.profile,
            client.statuses,
            lambda: client.list_page(CONTACT, updated_from=None, limit=2, offset=0),
            lambda: client.select(TRANSACTION, {"search": "x"}),
            lambda: client.record(TRANSACTION, order),
            lambda: client.create(TRANSACTION, {"orderType": "SALE"}),
            lambda: client.change(TRANSACTION, order, {"notes": "x"}),
            lambda: client.change_status(order, "sts-01"),
            lambda: client.parties(order),
            lambda: client.create_party(order, {"partyType": "BUYER"}),
            lambda: client.property(order),
            lambda: client.documents(order),
            lambda: client.document(order, document.fields.document_id),
            lambda: client.download(document.fields, io.BytesIO()),
            lambda: client.upload(order, io.BytesIO(b"x"), "x", "text/plain", {}),
        ]
        for call in calls:
            execute(database, "delete from softpro.breakers")
            with pytest.raises(ServerError) as wrong:
                call()
            assert wrong.value.retryable
