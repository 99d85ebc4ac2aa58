"""Write-back through real DAG runs: an edit of a roi row is at SoftPro seconds later."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Airflow
from .test_sync import until

ORGANIZATION = "write-back-org"
OPEN = "select count(*)::int as n from softpro.outbox where organization_id = %s and settled_at is null"


class Editor:
    """An organization whose contacts are loaded, and edited."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow
        self.vendor = airflow.vendor_organization()
        self.integration_id: str = airflow.as_user().connect(ORGANIZATION, organization=self.vendor)["id"]
        airflow.load(ORGANIZATION, "--entity", "contacts")  # which switches it off
        self.ids: list[dict[str, Any]] = airflow.query(
            "select id::text, softpro_contact_id as key from roi.contacts where organization_id = %s order by id",
            ORGANIZATION,
        )

    def edit(self, contact: dict[str, Any], **columns: str) -> None:
        for column, value in columns.items():
            self.airflow.query(f'update roi.contacts set "{column}" = %s where id = %s', value, contact["id"])

    def there(self, contact: dict[str, Any]) -> dict[str, Any]:
        """What SoftPro holds of it."""
        [found] = [each for each in self.airflow.export(self.vendor, "CONTACT") if each["contactId"] == contact["key"]]
        return found

    def waiting(self) -> int:
        return int(self.airflow.query(OPEN, ORGANIZATION)[0]["n"])

    def switch(self, *, on: bool) -> None:
        self.airflow.query("update softpro.integrations set sync_enabled = %s where id = %s", on, self.integration_id)
        self.airflow.query("update softpro.integrations set sync_frequency = 86400 where id = %s", self.integration_id)

    def run(self, **conf: Any) -> str:
        """Runs the DAG by hand to its end. Its state."""
        body = {"logical_date": None, "conf": conf}
        started = self.airflow.api("POST", "/dags/softpro_write_back/dagRuns", json=body)
        path = f"/dags/softpro_write_back/dagRuns/{started['dag_run_id']}"
        until(90, lambda: self.airflow.api("GET", path)["state"] in ("success", "failed"))
        return str(self.airflow.api("GET", path)["state"])


@pytest.fixture(scope="module")
def editor(airflow: Airflow) -> Editor:
    return Editor(airflow)


def test_an_edit_is_sent_by_the_dag_which_its_trigger_wakes(editor: Editor) -> None:
    contact = editor.ids[0]
    editor.switch(on=True)
    editor.edit(contact, email="by-trigger@example.com")
    until(90, lambda: editor.waiting() == 0)
    editor.switch(on=False)

    assert editor.there(contact)["email"] == "by-trigger@example.com"
    logs = editor.airflow.query(
        """
        select run_id, status, sync_type, direction from softpro.sync_logs where integration_id = %s and mode = 'push'
        """,
        editor.integration_id,
    )
    assert {(log["status"], log["sync_type"], log["direction"]) for log in logs} == {
        ("COMPLETED", "SCHEDULED", "ROI_TO_SOFTPRO")
    }
    assert all(log["run_id"].startswith("asset_triggered__") for log in logs)


def test_a_record_that_the_form_names_is_sent_alone(editor: Editor) -> None:
    one, other = editor.ids[1:3]
    for contact in (one, other):
        editor.edit(contact, email="named@example.com")

    assert editor.run(organization=ORGANIZATION, entity_types=["contacts"], records=[one["id"]]) == "success"

    assert (editor.there(one)["email"], editor.waiting()) == ("named@example.com", 1)
    assert editor.there(other)["email"] != "named@example.com"
    assert editor.run(organization=ORGANIZATION) == "success"
    assert (editor.there(other)["email"], editor.waiting()) == ("named@example.com", 0)


def test_a_record_that_can_not_be_sent_fails_neither_the_run_nor_the_others(editor: Editor) -> None:
    bad, good = editor.ids[3:5]
    editor.edit(bad, contact_type="NO SUCH TYPE")
    editor.edit(good, notes="good")

    assert editor.run(organization=ORGANIZATION) == "success"

    assert (editor.there(good)["notes"], editor.waiting()) == ("good", 1)
    [log] = editor.airflow.query(
        """
        select status, sync_type, records_failed
        from softpro.sync_logs
        where integration_id = %s and entity_type = 'CONTACT' and mode = 'push'
        order by started_at desc
        limit 1
        """,
        editor.integration_id,
    )
    assert log == {"status": "PARTIAL_SUCCESS", "sync_type": "MANUAL", "records_failed": 1}
    [push] = editor.airflow.query("select * from softpro.pushes where integration_id = %s", editor.integration_id)
    assert (str(push["roi_entity_id"]), push["next_attempt_at"]) == (bad["id"], None)


def test_a_form_that_names_records_of_nobody_is_refused(editor: Editor) -> None:
    assert editor.run(records=[editor.ids[0]["id"]]) == "failed"
    assert editor.run(organization="nobody") == "failed"
