"""Check mapping versions, preview and remap over HTTP: shapes, rights, and the refusal of bad input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from softpro_demo.api_client import ApiClient

from .conftest import Airflow

Json = dict[str, Any]


@dataclass
class Mappings:
    """The mappings of one organization's contacts, as one user."""

    plugin: ApiClient
    url: str
    integration_id: str

    def get(self, path: str = "", **query: Any) -> requests.Response:
        stream = {"integrationId": self.integration_id, "entityType": "CONTACT"} if path else {}
        return self.plugin.session.get(
            self.url + path, params={"integrationId": self.integration_id, **stream, **query}, timeout=60
        )

    def send(self, path: str, **body: Any) -> requests.Response:
        method = "POST" if path else "PUT"
        of_type = {"entityType": "CONTACT"} if path else {}
        body = {"integrationId": self.integration_id, **of_type, **body}
        return self.plugin.session.request(method, self.url + path, json=body, timeout=120)

    def set(self) -> list[Json]:
        return [entry for entry in self.get().json()["data"] if entry["entityType"] == "CONTACT"]


@pytest.fixture(scope="module")
def acme(airflow: Airflow) -> Mappings:
    """Return an organization with 50 loaded contacts and no scheduled sync."""
    plugin = airflow.as_user()
    integration_id = plugin.connect("versions-org", organization=airflow.vendor_organization())["id"]
    airflow.load("versions-org", "--entity", "contacts")
    return Mappings(plugin, f"{airflow.url}/mappings", integration_id)


def ruled(mappings: list[Json], column: str, rule: str) -> list[Json]:
    changes = {"direction": "SOFTPRO_TO_ROI", "transformationRule": rule}
    return [{**each, **changes} if each["roiSystemsField"] == column else each for each in mappings]


def without_id(mappings: list[Json]) -> list[Json]:
    return [{name: value for name, value in each.items() if name != "id"} for each in mappings]


def test_a_change_makes_a_version_offers_the_remap_that_applies_it_and_can_be_rolled_back(
    airflow: Airflow, acme: Mappings
) -> None:
    before = acme.set()
    first = acme.get("/versions").json()["meta"]["total"]

    put = acme.send("", mappings=ruled(before, "company", "$ ? 'Dr. ' & $"), expectedVersions={"CONTACT": first})
    conf = {"organization": "versions-org", "entity_types": ["contacts"]}
    assert put.json() == {
        "success": True,
        "message": "Mappings updated successfully",
        "data": {
            "versions": [{"entityType": "CONTACT", "version": first + 1, "changed": True}],
            "added": [],
            "removed": [],
            "changed": [
                {
                    "entityType": "CONTACT",
                    "roiSystemsField": "company",
                    "softproField": "company",
                    "changes": [
                        {"property": "direction", "before": "BIDIRECTIONAL", "after": "SOFTPRO_TO_ROI"},
                        {"property": "transformationRule", "before": None, "after": "$ ? 'Dr. ' & $"},
                    ],
                }
            ],
            "remap": {"dagId": "softpro_remap", "conf": conf, "records": 50},
        },
    }
    again = acme.send("", mappings=acme.set())
    assert (again.status_code, again.json()["message"]) == (200, "Mappings are unchanged")
    assert again.json()["data"] == {
        "versions": [{"entityType": "CONTACT", "version": first + 1, "changed": False}],
        "added": [],
        "removed": [],
        "changed": [],
        "remap": None,
    }
    outdated = acme.send("", mappings=before, expectedVersions={"CONTACT": first})
    assert (outdated.status_code, outdated.json()["error"]["code"]) == (409, "CONFLICT")
    assert outdated.json()["error"]["details"] == {"entityType": "CONTACT", "version": first + 1}

    remapped = acme.send("/remap")
    assert remapped.status_code == 200, remapped.text
    assert (remapped.json()["data"]["success"], remapped.json()["data"]["recordsProcessed"]) == (True, 50)
    rows = "select mapping_version as by, count(*) as n from roi.contacts where organization_id = %s group by 1"
    made_by = {row["by"]: row["n"] for row in airflow.query(rows, "versions-org")}
    assert made_by.keys() == {1, first + 1}
    newest = acme.plugin.logs(acme.integration_id)[0]
    assert (newest["mode"], newest["mappingVersion"], newest["syncType"]) == ("remap", first + 1, "MANUAL")
    run = airflow.api("GET", f"/dags/softpro_remap/dagRuns/{newest['runId']}")
    assert (run["triggering_user_name"], run["conf"]) == ("admin", conf)

    rolled_back = acme.send("/rollback", version=first).json()
    assert rolled_back["message"] == "Mappings updated successfully"
    assert rolled_back["data"]["versions"] == [{"entityType": "CONTACT", "version": first + 2, "changed": True}]
    assert rolled_back["data"]["remap"]["records"] == 50
    assert without_id(acme.set()) == without_id(before)


def test_versions_are_listed_read_and_compared(acme: Mappings) -> None:
    acme.send("", mappings=ruled(acme.set(), "phone", "$trim($)"))
    page = acme.get("/versions", limit=2).json()
    latest = page["meta"]["total"]
    assert page["meta"] == {"total": latest, "limit": 2, "offset": 0}
    assert [each["version"] for each in page["data"]] == [latest, latest - 1]
    assert page["data"][0].keys() == {"entityType", "version", "author", "createdAt", "restores", "mappingCount"}
    assert (page["data"][0]["author"], page["data"][0]["mappingCount"]) == ("admin", 20)

    whole = acme.get(f"/versions/{latest}").json()["data"]
    assert whole["mappings"] == without_id(acme.set())
    assert {name: value for name, value in whole.items() if name != "mappings"} == page["data"][0]

    wanted = {
        "entityType": "CONTACT",
        "from": latest - 1,
        "to": latest,
        "added": [],
        "removed": [],
        "changed": [
            {
                "entityType": "CONTACT",
                "roiSystemsField": "phone",
                "softproField": "phone",
                "changes": [
                    {"property": "direction", "before": "BIDIRECTIONAL", "after": "SOFTPRO_TO_ROI"},
                    {"property": "transformationRule", "before": None, "after": "$trim($)"},
                ],
            }
        ],
    }
    assert acme.get("/diff", **{"from": latest - 1}).json() == {"success": True, "data": wanted}
    assert acme.get("/diff", **{"from": latest, "to": latest}).json()["data"]["changed"] == []


def test_a_preview_answers_field_by_field_and_writes_nothing(airflow: Airflow, acme: Mappings) -> None:
    ids = airflow.query(
        "select softpro_contact_id as id, last_name from roi.contacts where organization_id = %s and last_name <> '' "
        "order by 1 limit 1",
        "versions-org",
    )
    total = acme.get("/versions").json()["meta"]["total"]
    mappings = ruled(acme.set(), "last_name", "$uppercase($)")
    [proposed] = [each for each in mappings if each["roiSystemsField"] == "last_name"]

    shown = acme.send("/preview", mappings=[proposed], entityIds=[ids[0]["id"], "con-none"])

    assert shown.status_code == 200, shown.text
    data = shown.json()["data"]
    (record,) = data["records"]
    assert (record["entityId"], record["wouldLoad"], record["reasons"]) == (ids[0]["id"], True, [])
    assert [field for field in record["fields"] if field["changed"]] == [
        {
            "roiSystemsField": "last_name",
            "softproField": "lastName",
            "before": ids[0]["last_name"],
            "after": ids[0]["last_name"].upper(),
            "changed": True,
            "error": None,
            "back": None,
        }
    ]
    assert data["unknownIds"] == ["con-none"]
    assert data["mappingVersion"] == total
    assert data["summary"] == {
        "records": 1,
        "changedRecords": 1,
        "changedFields": {"last_name": 1},
        "failing": 0,
        "failingBefore": 0,
    }
    assert acme.get("/versions").json()["meta"]["total"] == total
    assert acme.send("/preview", mappings=[proposed]).json()["data"]["summary"]["records"] == 10


def test_a_pasted_record_keeps_all_digits_and_says_why_it_would_not_load(acme: Mappings) -> None:
    mappings = [
        {"entityType": "TRANSACTION", "softproField": "lat", "roiSystemsField": "property_latitude"},
        {"entityType": "TRANSACTION", "softproField": "price", "roiSystemsField": "purchase_price"},
    ]
    number = "33.4000000000000000000000000000000001"
    record = f'{{"orderId": "ord-1", "updatedAt": "2025-01-01T00:00:00Z", "lat": {number}, "price": -5.10}}'
    body = {"integrationId": acme.integration_id, "entityType": "TRANSACTION", "mappings": mappings}
    text, header = f'{json.dumps(body)[:-1]}, "record": {record}}}', {"Content-Type": "application/json"}
    answer = acme.plugin.session.post(f"{acme.url}/preview", data=text, headers=header, timeout=60)

    assert f'"after":{number}' in answer.text
    (shown,) = answer.json()["data"]["records"]
    assert not shown["wouldLoad"]
    assert [(reason["column"], reason["rule"]) for reason in shown["reasons"]] == [
        ("purchase_price", "expect_column_values_to_be_between")
    ]
    (price,) = [field for field in shown["fields"] if field["roiSystemsField"] == "purchase_price"]
    assert (price["before"], price["after"]) == (None, -5.10)
    assert "found -5.1" in price["error"]

    odd = acme.send(
        "/preview", entityType="TRANSACTION", mappings=mappings, record={"orderId": "ord-1", "lat": "\ud800"}
    )
    assert [reason["rule"] for reason in odd.json()["data"]["records"][0]["reasons"]] == ["readable", "readable"]


def test_impossible_requests_are_refused_with_a_reason(acme: Mappings) -> None:
    some = [{"entityType": "CONTACT", "softproField": "email", "roiSystemsField": "email"}]
    bad = [
        {**some[0], "softproField": "phone", "roiSystemsField": "no_such_column", "direction": "SOFTPRO_TO_ROI"},
        {**some[0], "transformationRule": "(("},
    ]

    def refused(answer: requests.Response) -> tuple[int, str]:
        return answer.status_code, answer.json()["error"]["code"]

    invalid, unknown = (400, "VALIDATION_ERROR"), (404, "NOT_FOUND")
    assert refused(acme.get("/versions/999")) == unknown
    assert refused(acme.get("/diff", **{"from": 999})) == unknown
    assert refused(acme.send("/rollback", version=999)) == unknown
    for path in ("/versions/0", f"/versions/{2**31}", "/diff"):
        assert refused(acme.get(path)) == invalid
    assert refused(acme.get("/versions", entityType="DOCUMENT")) == invalid
    assert refused(acme.get("/versions", limit=0)) == invalid
    assert refused(acme.send("/remap", entityType="DOCUMENT")) == invalid
    assert refused(acme.send("", mappings=some, expectedVersions={"CONTACT": -1})) == invalid

    preview = acme.send("/preview", mappings=bad)
    assert refused(preview) == invalid
    assert sorted(problem[:10] for problem in preview.json()["error"]["details"]) == [
        "mapping 1:",
        "mapping 2:",
        "mapping 2:",
    ]
    choices: list[Json] = [
        {"entityIds": []},
        {"entityIds": ["a"] * 101},
        {"limit": 0},
        {"limit": 101},
        {"record": [1]},
        {"entityIds": ["a"], "limit": 5},
        {"entityIds": ["a"], "record": {}},
        {"mappings": [{**some[0], "entityType": "TRANSACTION", "roiSystemsField": "notes"}]},
    ]
    for choice in choices:
        assert refused(acme.send("/preview", **{"mappings": some, **choice})) == invalid, choice


def test_a_reader_sees_versions_and_changes_nothing(airflow: Airflow, acme: Mappings) -> None:
    reader = Mappings(airflow.as_user("reader"), acme.url, acme.integration_id)
    for path, query in (("/versions", {}), ("/versions/1", {}), ("/diff", {"from": 1})):
        assert reader.get(path, **query).status_code == 200
    some = [{"entityType": "CONTACT", "softproField": "email", "roiSystemsField": "email"}]
    for answer in (
        reader.send("", mappings=some),
        reader.send("/rollback", version=1),
        reader.send("/remap"),
        reader.send("/preview", mappings=some),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")


def test_while_another_run_works_on_the_stream_no_remap_starts(airflow: Airflow, acme: Mappings) -> None:
    last = acme.plugin.logs(acme.integration_id)[0]["id"]
    lease = """
        update softpro.leases set log_id = %s, expires_at = now() + interval '1 minute'
        where integration_id = %s and entity_type = 'CONTACT'
    """
    airflow.query(lease, last, acme.integration_id)
    try:
        answer = acme.send("/remap")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "SYNC_RUNNING")
        assert answer.json()["error"]["details"] == {"logId": last}
    finally:
        airflow.query(lease, None, acme.integration_id)
