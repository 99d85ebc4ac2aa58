"""Read the coverage of the mappings over HTTP."""

from __future__ import annotations

from .conftest import Airflow


def test_coverage_is_answered_for_each_entity_type_after_a_look_at_the_records(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration_id = plugin.connect("coverage-org", organization=airflow.vendor_organization())["id"]
    airflow.load("coverage-org", "--entity", "contacts")

    answer = airflow.as_user("syncer").session.post(
        f"{airflow.url}/mappings/coverage/refresh", json={"integrationId": integration_id}
    )

    assert answer.status_code == 200, answer.text
    found = {each["entityType"]: each for each in answer.json()["data"]}
    assert found.keys() == {"TRANSACTION", "CONTACT"}
    assert found["CONTACT"]["records"] == 50
    assert (found["CONTACT"]["newFields"], found["CONTACT"]["baselineAt"] is not None) == ([], True)
    for each in found["CONTACT"]["unread"]:
        assert {"path", "kinds", "records", "firstSeenAt", "lastSeenAt", "read"} == each.keys()
    one = {"integrationId": integration_id, "entityType": "CONTACT"}
    again = airflow.as_user("reader").session.get(f"{airflow.url}/mappings/coverage", params=one).json()["data"]
    assert again == [found["CONTACT"]]
