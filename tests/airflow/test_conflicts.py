"""Resolve conflicts and list pending pushes over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from softpro.entities import EntityType

from ..support.sandbox import Sandbox
from ..support.writeback import edit_at_softpro
from .conftest import Airflow, users

CONTACT, TRANSACTION = EntityType.CONTACT, EntityType.TRANSACTION
ORGANIZATION = "conflict-org"


class ConflictScenario:
    """An organization that resolves conflicts by review, with its records loaded."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow, self.vendor = airflow, airflow.vendor_organization()
        self.sandbox = Sandbox(airflow.stack.sandbox)
        self.integration_id: str = airflow.as_user().connect(ORGANIZATION, organization=self.vendor)["id"]
        self.call("PATCH", f"/settings/{self.integration_id}", {"conflictStrategy": "MANUAL_REVIEW"}, user="admin")
        airflow.load(ORGANIZATION)  # switches off its scheduled sync
        contacts = "select id::text, softpro_contact_id as key from roi.contacts where organization_id = %s order by id"
        self.contacts = iter(airflow.query(contacts, ORGANIZATION))

    def call(self, method: str, path: str, body: Any = None, *, user: str = "operator", status: int = 200) -> Any:
        answer = users(self.airflow, user).request(method, self.airflow.url + path, json=body, timeout=120)
        assert answer.status_code == status, answer.text
        return answer.json()

    def about(self, **more: Any) -> dict[str, Any]:
        return {"integrationId": self.integration_id, **more}

    def entries(self, path: str, **wanted: str) -> list[dict[str, Any]]:
        query = "&".join(f"{name}={value}" for name, value in wanted.items())
        found: list[dict[str, Any]] = self.call("GET", f"{path}?integrationId={self.integration_id}&{query}")["data"]
        return found

    def edit(self, contact: dict[str, Any], **columns: str) -> None:
        for column, value in columns.items():
            self.airflow.query(f'update roi.contacts set "{column}" = %s where id = %s', value, contact["id"])

    def row(self, contact: dict[str, Any]) -> dict[str, Any]:
        return self.airflow.query("select * from roi.contacts where id = %s", contact["id"])[0]

    def softpro_record(self, contact: dict[str, Any]) -> dict[str, Any]:
        return self.sandbox.records(self.vendor, "CONTACT")[contact["key"]]

    def conflict(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Create a conflict about a contact's notes, and return the contact and the conflict."""
        contact = next(self.contacts)
        self.edit(contact, notes="ours", fax="ours")
        edit_at_softpro(self.sandbox, self.vendor, CONTACT, contact["key"], notes="theirs", company="Theirs")
        self.airflow.load(ORGANIZATION, "--entity", "contacts")
        [conflict] = [
            each for each in self.entries("/conflicts", status="OPEN") if each["roiEntityId"] == contact["id"]
        ]
        return contact, conflict

    def push(self, contact: dict[str, Any]) -> dict[str, Any]:
        self.airflow.load(ORGANIZATION, "--entity", "contacts")
        pushed: dict[str, Any] = self.call("POST", f"/push/contacts/{contact['id']}", self.about())["data"]
        return pushed


@pytest.fixture(scope="module")
def scenario(airflow: Airflow) -> ConflictScenario:
    return ConflictScenario(airflow)


def test_a_user_resolves_field_by_field_and_reverses_it(scenario: ConflictScenario) -> None:
    contact, conflict = scenario.conflict()
    assert (conflict["kind"], conflict["softpro"], conflict["roi"], conflict["result"]) == (
        "FIELDS",
        {"notes": "theirs"},
        {"notes": "ours"},
        None,
    )
    [outgoing] = [each for each in scenario.entries("/outbox") if each["roiEntityId"] == contact["id"]]
    assert (outgoing["state"], outgoing["entityId"]) == ("IN_REVIEW", contact["key"])
    one = f"/conflicts/{conflict['id']}"
    assert (
        "company"
        in scenario.call("POST", f"{one}/resolve", scenario.about(fields={"company": "ROI"}), status=400)["error"][
            "message"
        ]
    )
    body = scenario.about(values={"notes": "both"}, reason="they were both right", seenAt=conflict["updatedAt"])

    decided = scenario.call("POST", f"{one}/resolve", body)["data"]

    assert (decided["status"], decided["resolvedBy"], decided["result"]) == ("RESOLVED", "operator", {"notes": "both"})
    assert scenario.call("POST", f"{one}/resolve", body, status=409)["error"]["code"] == "DECIDED_ALREADY"
    result = scenario.push(contact)
    assert (result["success"], result["recordsFailed"]) == (True, 0)
    there, row = scenario.softpro_record(contact), scenario.row(contact)
    assert (there["notes"], there["fax"], row["company"]) == ("both", "ours", "Theirs")

    whole = scenario.call("GET", f"{one}?integrationId={scenario.integration_id}")["data"]
    assert whole["reversal"] == {"notes": "theirs"}
    assert scenario.call("POST", f"{one}/reverse", scenario.about())["data"]["reversedBy"] == "operator"
    scenario.call("POST", f"{one}/reverse", scenario.about(), status=409)
    scenario.push(contact)
    assert scenario.softpro_record(contact)["notes"] == "theirs"


def test_several_conflicts_are_decided_at_once_independently(scenario: ConflictScenario) -> None:
    both = [scenario.conflict() for _ in range(2)]
    ids = [conflict["id"] for _, conflict in both]
    scenario.call("POST", f"/conflicts/{ids[0]}/resolve", scenario.about(winner="SOFTPRO"))

    ended = scenario.call("POST", "/conflicts/resolve", scenario.about(ids=ids, winner="ROI"))["data"]

    assert [(each["id"], each["error"] is None) for each in ended] == [(ids[0], False), (ids[1], True)]
    for contact, _ in both:
        scenario.push(contact)
    assert [scenario.softpro_record(contact)["notes"] for contact, _ in both] == ["theirs", "ours"]


def test_an_amount_is_decided_to_the_cent(scenario: ConflictScenario) -> None:
    order = scenario.airflow.query(
        "select id::text, softpro_order_id as key from roi.transactions where organization_id = %s order by id limit 1",
        ORGANIZATION,
    )[0]
    scenario.airflow.query("update roi.transactions set purchase_price = 1 where id = %s", order["id"])
    edit_at_softpro(scenario.sandbox, scenario.vendor, TRANSACTION, order["key"], purchasePrice=2)
    scenario.airflow.load(ORGANIZATION, "--entity", "transactions")
    [conflict] = scenario.entries("/conflicts", entityType="TRANSACTION")

    body = scenario.about(values={"purchase_price": 450_000.05})
    scenario.call("POST", f"/conflicts/{conflict['id']}/resolve", body)

    price = "select purchase_price::text as price from roi.transactions where id = %s"
    assert scenario.airflow.query(price, order["id"]) == [{"price": "450000.05"}]
    scenario.call("POST", f"/push/transactions/{order['id']}", scenario.about())
    assert str(scenario.sandbox.records(scenario.vendor)[order["key"]]["purchasePrice"]) == "450000.05"


def test_all_due_edits_are_pushed_during_a_sync(scenario: ConflictScenario) -> None:
    contact = next(scenario.contacts)
    scenario.edit(contact, notes="due")
    [outgoing] = [
        each for each in scenario.entries("/outbox", entityType="CONTACT") if each["roiEntityId"] == contact["id"]
    ]
    assert (outgoing["state"], outgoing["fields"][0]["softproField"], outgoing["fields"][0]["to"]) == (
        "SEND",
        "notes",
        "due",
    )
    assert scenario.call("POST", "/push/contacts", scenario.about())["data"]["recordsProcessed"] == 1
    assert scenario.softpro_record(contact)["notes"] == "due"
    assert scenario.entries("/outbox", entityType="CONTACT") == []
    [log] = scenario.call("GET", f"/sync/logs?integrationId={scenario.integration_id}&limit=1")["data"]
    whole = scenario.call("GET", f"/sync/logs/{log['id']}")["data"]
    assert (whole["mode"], whole["direction"], whole["recordsProcessed"]) == ("push", "ROI_TO_SOFTPRO", 1)


def test_many_deletes_wait_until_a_user_confirms_their_number(scenario: ConflictScenario) -> None:
    settings = f"/settings/{scenario.integration_id}"
    assert scenario.call("PATCH", settings, {"pushDeletes": True}, user="admin")["data"]["pushDeletes"] is True
    scenario.airflow.query("delete from roi.transactions where organization_id = %s", ORGANIZATION)
    scenario.call("POST", "/push/transactions", scenario.about())
    there = len(scenario.sandbox.records(scenario.vendor))
    assert there == 120
    assert {each["state"] for each in scenario.entries("/outbox", entityType="TRANSACTION")} <= {"HELD", "LATER"}
    body = scenario.about(entityType="TRANSACTION", deletes=there)

    assert (
        scenario.call("POST", "/outbox/deletes/approve", {**body, "deletes": 1}, status=409)["error"]["code"]
        == "CONFLICT"
    )
    assert scenario.call("POST", "/outbox/deletes/withdraw", body)["data"] == {"deletes": there}

    scenario.airflow.load(ORGANIZATION, "--entity", "transactions")
    back = "select count(*) as n from roi.transactions where organization_id = %s and deleted_at is null"
    assert scenario.airflow.query(back, ORGANIZATION)[0]["n"] == there
    scenario.call("POST", "/outbox/deletes/approve", body, status=409)


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
def test_impossible_requests_are_refused(scenario: ConflictScenario, path: str, body: dict[str, Any]) -> None:
    assert scenario.call("POST", path, scenario.about(**body), status=400)["error"]["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("name", ["orders", "transactions.", "contacts.id", "contacts.custom.", "notes"])
def test_an_unknown_strategy_is_refused(scenario: ConflictScenario, name: str) -> None:
    body = {"conflictOverrides": {name: "MERGE"}}
    refused = scenario.call("PATCH", f"/settings/{scenario.integration_id}", body, user="admin", status=400)
    assert name in str(refused["error"])
    overrides = {"contacts": "ROI_WINS", "contacts.notes": "MERGE", "transactions.custom.a.b": "MERGE"}
    body = {"conflictOverrides": overrides}
    answer = scenario.call("PATCH", f"/settings/{scenario.integration_id}", body, user="admin")
    assert answer["data"]["conflictOverrides"] == overrides
    scenario.call("PATCH", f"/settings/{scenario.integration_id}", {"conflictOverrides": {}}, user="admin")
