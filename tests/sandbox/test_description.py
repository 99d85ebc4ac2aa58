"""Test that OpenAPI, the home page and the documentation describe the sandbox correctly."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from softpro_sandbox.switches import Switches

from .conftest import Sandbox


@pytest.fixture
def described(sandbox: Sandbox) -> dict[str, Any]:
    document: dict[str, Any] = sandbox.http.get("/openapi.json").json()
    return document


def schema_of(document: dict[str, Any], path: str, method: str = "get", status: str = "200") -> dict[str, Any]:
    """Return a response's schema with the document's components, so that its references resolve."""
    content = document["paths"][path][method]["responses"][status]["content"]
    return {**content["application/json"]["schema"], "components": document["components"]}


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_the_description_is_sound(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    assert described["openapi"].startswith("3.1")
    assert {reference.removeprefix("#/components/schemas/") for reference in references(described)} <= set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    operations = [operation["operationId"] for path in described["paths"].values() for operation in path.values()]
    assert len(operations) == len(set(operations))


def test_the_contracts_calls_are_all_described(described: dict[str, Any]) -> None:
    calls = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, operations in described["paths"].items()
        if path.startswith("/api/v1")
        for method in operations
    }
    assert calls == {
        "GET /user/profile",
        "GET /transactions",
        "POST /transactions",
        "GET /transactions/{orderId}",
        "PATCH /transactions/{orderId}",
        "DELETE /transactions/{orderId}",
        "PATCH /transactions/{orderId}/status",
        "GET /transactions/{orderId}/parties",
        "POST /transactions/{orderId}/parties",
        "PATCH /transactions/{orderId}/parties/{partyId}",
        "GET /transactions/{orderId}/property",
        "PATCH /transactions/{orderId}/property",
        "GET /transactions/{orderId}/documents",
        "POST /transactions/{orderId}/documents",
        "GET /transactions/{orderId}/documents/{documentId}",
        "DELETE /transactions/{orderId}/documents/{documentId}",
        "GET /transactions/{orderId}/documents/{documentId}/download",
        "GET /statuses",
        "GET /deletions",
        "GET /contacts",
        "POST /contacts",
        "GET /contacts/{contactId}",
        "PATCH /contacts/{contactId}",
    }


def test_list_parameters_and_error_answers_are_described(described: dict[str, Any]) -> None:
    call = described["paths"]["/api/v1/transactions"]["get"]
    assert {parameter["name"] for parameter in call["parameters"]} == {
        *("updatedFrom", "status", "orderType", "openedDateFrom", "openedDateTo", "closingDateFrom", "closingDateTo"),
        *("propertyState", "propertyCity", "escrowOfficerId", "search", "limit", "offset", "sortBy", "sortOrder"),
    }
    assert set(call["responses"]) == {"200", "400", "401", "403", "429", "500"}
    assert call["security"] == [{"oauth2": ["read:transactions"]}]


def test_answers_are_what_the_description_says(sandbox: Sandbox, described: dict[str, Any]) -> None:
    for path, response, status in (
        ("/api/v1/transactions", sandbox.get("/transactions"), "200"),
        ("/api/v1/contacts", sandbox.get("/contacts"), "200"),
        ("/api/v1/user/profile", sandbox.get("/user/profile"), "200"),
        ("/api/v1/transactions", sandbox.get("/transactions", limit=0), "400"),
        ("/api/v1/statuses", sandbox.get("/statuses"), "200"),
        ("/api/v1/transactions/{orderId}/parties", sandbox.get("/transactions/ord-000001/parties"), "200"),
        ("/api/v1/transactions/{orderId}/property", sandbox.get("/transactions/ord-000001/property"), "200"),
        ("/api/v1/transactions/{orderId}/documents", sandbox.get("/transactions/ord-000001/documents"), "200"),
        ("/api/v1/transactions/{orderId}/property", sandbox.get("/transactions/none/property"), "404"),
    ):
        jsonschema.validate(response.json(), schema_of(described, path, status=status))


def test_the_home_page_says_what_it_is_but_not_the_secret(sandbox: Sandbox) -> None:
    sandbox.switch(lag=3.5)
    page = sandbox.http.get("/").text
    for text in ("SoftPro 360 sandbox", "sandbox-client", sandbox.organization_ids[0], 'href="/openapi.json"', "3.5"):
        assert text in page
    assert "sandbox-secret" not in page
    assert "://" not in page.replace("http://testserver", "")


def test_the_projects_page_names_every_switch_and_call(described: dict[str, Any]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "softpro-api.md").read_text(encoding="utf-8")
    for field in Switches.model_fields.values():
        assert f"| `{field.alias}` | `{json.dumps(field.default)}` | {field.description} |" in page
    for path in described["paths"]:
        call = path.removeprefix("/api/v1").replace("/sandbox/records/{recordId}", "/sandbox/records")
        if path.startswith("/oauth"):
            continue
        assert f"{call}`" in page, path
