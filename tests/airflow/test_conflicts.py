"""Conflicts, and changes on their way to SoftPro, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from softpro.entities import EntityType

from ..support.sandbox import Sandbox
from ..support.writeback import edit_there
from .conftest import Airflow, users

CONTACT, TRANSACTION = EntityType.CONTACT, EntityType.TRANSACTION
ORGANIZATION = "conflict-org"


class Office:
    """An organization whose people decide about conflicts; its records are loaded."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow, self.vendor = airflow, airflow.vendor_organization()
        self.sandbox = Sandbox(airflow.stack.sandbox)
        self.integration_id: str = airflow.as_user().connect(ORGANIZATION, organization=self.vendor)["id"]
        self.call("PATCH", f"/settings/{self.integration_id}", {"conflictStrategy": "MANUAL_REVIEW"}, user="admin")
        airflow.load(ORGANIZATION)  # which switches it off
        contacts = "select id::text, softpro_contact_id as key from roi.contacts where organization_id = %s order by id"
        self.contacts = iter(airflow.query(contacts, ORGANIZATION))

    def call(self, method: str, path: str, body: Any = None, *, user: str = "operator", status: int = 200) -> Any:
        answer = users(self.airflow, user).request(method, self.airflow.url + path, json=body, timeout=120)
        assert answer.status_code == status, answer.text
        return answer.json()

    def about(self, **more: Any) -> dict[str, Any]:
        return {"integrationId": self.integration_id, **more}

    def listed(self, path: str, **wanted: str) -> list[dict[str, Any]]:
        query = "&".join(f"{name}={value}" for name, value in wanted.items())
        found: list[dict[str, Any]] = self.call("GET", f"{path}?integrationId={self.integration_id}&{query}")["data"]
        return found

    def edit(self, contact: dict[str, Any], **columns: str) -> None:
        for column, value in columns.items():
            self.airflow.query(f'update roi.contacts set "{column}" = %s where id = %s', value, contact["id"])

    def row(self, contact: dict[str, Any]) -> dict[str, Any]:
        return self.airflow.query("select * from roi.contacts where id = %s", contact["id"])[0]

    def there(self, contact: dict[str, Any]) -> dict[str, Any]:
        return self.sandbox.records(self.vendor, "CONTACT")[contact["key"]]

    def conflict(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A contact whose notes both sides have changed, and its conflict."""
        contact = next(self.contacts)
        self.edit(contact, notes="ours", fax="ours")
        edit_there(self.sandbox, self.vendor, CONTACT, contact["key"], notes="theirs", company="Theirs")
        self.airflow.load(ORGANIZATION, "--entity", "contacts")
        [conflict] = [each for each in self.listed("/conflicts", status="OPEN") if each["roiEntityId"] == contact["id"]]
        return contact, conflict

    def push(self, contact: dict[str, Any]) -> dict[str, Any]:
        self.airflow.load(ORGANIZATION, "--entity", "contacts")
        pushed: dict[str, Any] = self.call("POST", f"/push/contacts/{contact['id']}", self.about())["data"]
        return pushed


@pytest.fixture(scope="module")
def office(airflow: Airflow) -> Office:
    return Office(airflow)


def test_a_person_decides_field_by_field_and_takes_it_back(office: Office) -> None:
    contact, conflict = office.conflict()
    assert (conflict["kind"], conflict["softpro"], conflict["roi"], conflict["result"]) == (
        "FIELDS",
        {"notes": "theirs"},
        {"notes": "ours"},
        None,
    )
    [outgoing] = [each for each in office.listed("/outbox") if each["roiEntityId"] == contact["id"]]
    assert (outgoing["state"], outgoing["entityId"]) == ("IN_REVIEW", contact["key"])
    one = f"/conflicts/{conflict['id']}"
    assert (
        "company"
        in office.call("POST", f"{one}/resolve", office.about(fields={"company": "ROI"}), status=400)["error"][
            "message"
        ]
    )
    body = office.about(values={"notes": "both"}, reason="they were both right", seenAt=conflict["updatedAt"])

    decided = office.call("POST", f"{one}/resolve", body)["data"]

    assert (decided["status"], decided["resolvedBy"], decided["result"]) == ("RESOLVED", "operator", {"notes": "both"})
    assert office.call("POST", f"{one}/resolve", body, status=409)["error"]["code"] == "DECIDED_ALREADY"
    result = office.push(contact)
    assert (result["success"], result["recordsFailed"]) == (True, 0)
    there, row = office.there(contact), office.row(contact)
    assert (there["notes"], there["fax"], row["company"]) == ("both", "ours", "Theirs")

    whole = office.call("GET", f"{one}?integrationId={office.integration_id}")["data"]
    assert whole["reversal"] == {"notes": "theirs"}
    assert office.call("POST", f"{one}/reverse", office.about())["data"]["reversedBy"] == "operator"
    office.call("POST", f"{one}/reverse", office.about(), status=409)
    office.push(contact)
    assert office.there(contact)["notes"] == "theirs"


def test_several_are_decided_at_once_whatever_becomes_of_the_others(office: Office) -> None:
    both = [office.conflict() for _ in range(2)]
    ids = [conflict["id"] for _, conflict in both]
    office.call("POST", f"/conflicts/{ids[0]}/resolve", office.about(winner="SOFTPRO"))

    ended = office.call("POST", "/conflicts/resolve", office.about(ids=ids, winner="ROI"))["data"]

    assert [(each["id"], each["error"] is None) for each in ended] == [(ids[0], False), (ids[1], True)]
    for contact, _ in both:
        office.push(contact)
    assert [office.there(contact)["notes"] for contact, _ in both] == ["theirs", "ours"]


def test_an_amount_is_decided_to_the_cent(office: Office) -> None:
    order = office.airflow.query(
        "select id::text, softpro_order_id as key from roi.transactions where organization_id = %s order by id limit 1",
        ORGANIZATION,
    )[0]
    office.airflow.query("update roi.transactions set purchase_price = 1 where id = %s", order["id"])
    edit_there(office.sandbox, office.vendor, TRANSACTION, order["key"], purchasePrice=2)
    office.airflow.load(ORGANIZATION, "--entity", "transactions")
    [conflict] = office.listed("/conflicts", entityType="TRANSACTION")

    body = office.about(values={"purchase_price": 450_000.05})
    office.call("POST", f"/conflicts/{conflict['id']}/resolve", body)

    price = "select purchase_price::text as price from roi.transactions where id = %s"
    assert office.airflow.query(price, order["id"]) == [{"price": "450000.05"}]
    office.call("POST", f"/push/transactions/{order['id']}", office.about())
    assert str(office.sandbox.records(office.vendor)[order["key"]]["purchasePrice"]) == "450000.05"


def test_all_that_is_due_is_pushed_beside_a_sync(office: Office) -> None:
    contact = next(office.contacts)
    office.edit(contact, notes="due")
    [outgoing] = [
        each for each in office.listed("/outbox", entityType="CONTACT") if each["roiEntityId"] == contact["id"]
    ]
    assert (outgoing["state"], outgoing["fields"][0]["softproField"], outgoing["fields"][0]["to"]) == (
        "SEND",
        "notes",
        "due",
    )
    assert office.call("POST", "/push/contacts", office.about())["data"]["recordsProcessed"] == 1
    assert office.there(contact)["notes"] == "due"
    assert office.listed("/outbox", entityType="CONTACT") == []
    [log] = office.call("GET", f"/sync/logs?integrationId={office.integration_id}&limit=1")["data"]
    whole = office.call("GET", f"/sync/logs/{log['id']}")["data"]
    assert (whole["mode"], whole["direction"], whole["recordsProcessed"]) == ("push", "ROI_TO_SOFTPRO", 1)


def test_many_deletes_wait_until_a_person_says_how_many_are_meant(office: Office) -> None:
    settings = f"/settings/{office.integration_id}"
    assert office.call("PATCH", settings, {"pushDeletes": True}, user="admin")["data"]["pushDeletes"] is True
    office.airflow.query("delete from roi.transactions where organization_id = %s", ORGANIZATION)
    office.call("POST", "/push/transactions", office.about())
    there = len(office.sandbox.records(office.vendor))
    assert there == 120
    assert {each["state"] for each in office.listed("/outbox", entityType="TRANSACTION")} <= {"HELD", "LATER"}
    body = office.about(entityType="TRANSACTION", deletes=there)

    assert (
        office.call("POST", "/outbox/deletes/approve", {**body, "deletes": 1}, status=409)["error"]["code"]
        == "CONFLICT"
    )
    assert office.call("POST", "/outbox/deletes/withdraw", body)["data"] == {"deletes": there}

    office.airflow.load(ORGANIZATION, "--entity", "transactions")
    back = "select count(*) as n from roi.transactions where organization_id = %s and deleted_at is null"
    assert office.airflow.query(back, ORGANIZATION)[0]["n"] == there
    office.call("POST", "/outbox/deletes/approve", body, status=409)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/conflicts/resolve", {"ids": [], "winner": "ROI"}),
        ("/conflicts/resolve", {"ids": ["x"], "winner": "ROI"}),
        ("/conflicts/00000000-0000-0000-0000-000000000001/resolve", {}),
        ("/conflicts/00000000-0000-0000-0000-000000000001/resolve", {"winner": "ROI", "fields": {"notes": "ROI"}}),
        ("/conflicts/00000000-0000-0000-0000-000000000001/resolve", {"winner": "ROI", "seenAt": "yesterday"}),
        ("/outbox/deletes/approve", {"entityType": "CONTACT", "deletes": 0}),
    ],
)
def test_what_can_not_be_is_refused(office: Office, path: str, body: dict[str, Any]) -> None:
    assert office.call("POST", path, office.about(**body), status=400)["error"]["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("name", ["orders", "transactions.", "contacts.id", "contacts.custom.", "notes"])
def test_a_strategy_of_what_there_is_not_is_refused(office: Office, name: str) -> None:
    body = {"conflictOverrides": {name: "MERGE"}}
    refused = office.call("PATCH", f"/settings/{office.integration_id}", body, user="admin", status=400)
    assert name in str(refused["error"])
    overrides = {"contacts": "ROI_WINS", "contacts.notes": "MERGE", "transactions.custom.a.b": "MERGE"}
    body = {"conflictOverrides": overrides}
    answer = office.call("PATCH", f"/settings/{office.integration_id}", body, user="admin")
    assert answer["data"]["conflictOverrides"] == overrides
    office.call("PATCH", f"/settings/{office.integration_id}", {"conflictOverrides": {}}, user="admin")
