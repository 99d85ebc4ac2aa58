"""Send edits of `roi` rows to SoftPro through real DAG runs, within seconds."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Airflow
from .test_sync import until

ORGANIZATION = "write-back-org"
OPEN = "select count(*)::int as n from softpro.outbox where organization_id = %s and settled_at is null"


class EditScenario:
    """An organization whose contacts are loaded and edited."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow
        self.vendor = airflow.vendor_organization()
        self.integration_id: str = airflow.as_user().connect(ORGANIZATION, organization=self.vendor)["id"]
        airflow.load(ORGANIZATION, "--entity", "contacts")  # switches off its scheduled sync
        self.ids: list[dict[str, Any]] = airflow.query(
            "select id::text, softpro_contact_id as key from roi.contacts where organization_id = %s order by id",
            ORGANIZATION,
        )

    def edit(self, contact: dict[str, Any], **columns: str) -> None:
        for column, value in columns.items():
            self.airflow.query(f'update roi.contacts set "{column}" = %s where id = %s', value, contact["id"])

    def softpro_record(self, contact: dict[str, Any]) -> dict[str, Any]:
        """Return SoftPro's record of the contact."""
        [found] = [each for each in self.airflow.export(self.vendor, "CONTACT") if each["contactId"] == contact["key"]]
        return found

    def waiting(self) -> int:
        return int(self.airflow.query(OPEN, ORGANIZATION)[0]["n"])

    def switch(self, *, on: bool) -> None:
        self.airflow.query("update softpro.integrations set sync_enabled = %s where id = %s", on, self.integration_id)
        self.airflow.query("update softpro.integrations set sync_frequency = 86400 where id = %s", self.integration_id)

    def run(self, **conf: Any) -> str:
        """Run the DAG by hand to its end and return its state."""
        body = {"logical_date": None, "conf": conf}
        started = self.airflow.api("POST", "/dags/softpro_write_back/dagRuns", json=body)
        path = f"/dags/softpro_write_back/dagRuns/{started['dag_run_id']}"
        until(90, lambda: self.airflow.api("GET", path)["state"] in ("success", "failed"))
        return str(self.airflow.api("GET", path)["state"])


@pytest.fixture(scope="module")
def scenario(airflow: Airflow) -> EditScenario:
    return EditScenario(airflow)


def test_an_edit_is_sent_by_the_dag_which_its_trigger_wakes(scenario: EditScenario) -> None:
    contact = scenario.ids[0]
    scenario.switch(on=True)
    scenario.edit(contact, email="by-trigger@example.com")
    until(90, lambda: scenario.waiting() == 0)
    scenario.switch(on=False)

    assert scenario.softpro_record(contact)["email"] == "by-trigger@example.com"
    logs = scenario.airflow.query(
        """
        select run_id, status, sync_type, direction from softpro.sync_logs where integration_id = %s and mode = 'push'
        """,
        scenario.integration_id,
    )
    assert {(log["status"], log["sync_type"], log["direction"]) for log in logs} == {
        ("COMPLETED", "EDIT", "ROI_TO_SOFTPRO")
    }
    assert all(log["run_id"].startswith("asset_triggered__") for log in logs)


def test_a_record_that_the_form_names_is_sent_alone(scenario: EditScenario) -> None:
    one, other = scenario.ids[1:3]
    for contact in (one, other):
        scenario.edit(contact, email="named@example.com")

    assert scenario.run(organization=ORGANIZATION, entity_types=["contacts"], records=[one["id"]]) == "success"

    assert (scenario.softpro_record(one)["email"], scenario.waiting()) == ("named@example.com", 1)
    assert scenario.softpro_record(other).get("email") != "named@example.com"
    assert scenario.run(organization=ORGANIZATION) == "success"
    assert (scenario.softpro_record(other)["email"], scenario.waiting()) == ("named@example.com", 0)


def test_a_record_that_can_not_be_sent_fails_neither_the_run_nor_the_others(scenario: EditScenario) -> None:
    bad, good = scenario.ids[3:5]
    scenario.edit(bad, contact_type="NO SUCH TYPE")
    scenario.edit(good, notes="good")

    assert scenario.run(organization=ORGANIZATION) == "success"

    assert (scenario.softpro_record(good)["notes"], scenario.waiting()) == ("good", 1)
    [log] = scenario.airflow.query(
        """
        select status, sync_type, records_failed
        from softpro.sync_logs
        where integration_id = %s and entity_type = 'CONTACT' and mode = 'push'
        order by started_at desc
        limit 1
        """,
        scenario.integration_id,
    )
    assert log == {"status": "PARTIAL_SUCCESS", "sync_type": "MANUAL", "records_failed": 1}
    [push] = scenario.airflow.query("select * from softpro.pushes where integration_id = %s", scenario.integration_id)
    assert (str(push["roi_entity_id"]), push["next_attempt_at"]) == (bad["id"], None)


def test_a_form_that_names_unknown_records_is_refused(scenario: EditScenario) -> None:
    assert scenario.run(records=[scenario.ids[0]["id"]]) == "failed"
    assert scenario.run(organization="nobody") == "failed"
