"""Call the whole OpenAPI with valid and invalid input.

Nothing breaks, every response is documented, and no route answers without a credential.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from .conftest import Airflow

EXAMPLES = int(os.environ.get("SOFTPRO_TEST_SCHEMATHESIS_EXAMPLES", "2"))
Case = schemathesis.Case[Any]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    unsupported_method,
]
TOO_LONG = b"Invalid HTTP request received."
"""The server's own response to a request line beyond 64 KiB, on any route."""
OPEN = {"getHealth", "callback", "openConnection"}
WITHOUT_INPUT = {"getHealth"}
STARTS_RUNS = {"startRemap", "replayQuarantine", "correctQuarantineCase"}
"""With real records, each of these calls would start a run of Airflow."""


@pytest.fixture(scope="module")
def real_ids(airflow: Airflow) -> dict[str, str]:
    """Return parameters of existing resources, so that calls get beyond 404."""
    organization = f"fuzzed-{uuid4()}"
    session = airflow.as_user().session
    session.post(f"{airflow.url}/connect", json={"organizationId": organization}, timeout=30).raise_for_status()
    found = session.get(f"{airflow.url}/status", params={"organizationId": organization}, timeout=30).json()
    return {"organizationId": organization, "integrationId": found["data"]["id"], "integration_id": found["data"]["id"]}


def operations(airflow: Airflow) -> Iterator[Any]:
    described = airflow.as_user().session.get(f"{airflow.url}/openapi.json", timeout=30).json()
    schema = schemathesis.openapi.from_dict(described)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        yield found.ok()


def use_real_ids(case: Case, real_ids: dict[str, str]) -> None:
    """Replace the ids in the case by real ones."""
    body = case.body if isinstance(case.body, dict) else {}
    for values in (case.path_parameters, case.query, body):
        for name in set(values or ()) & set(real_ids):
            values[name] = real_ids[name]


def call(case: Case, airflow: Airflow, session: requests.Session) -> Any:
    if case.query and "wait" in case.query:
        with suppress(TypeError, ValueError):
            case.query["wait"] = min(float(case.query["wait"]), 0.1)
    return case.call(base_url=airflow.url, session=session, timeout=60, allow_redirects=False)


def check_all(cases: SearchStrategy[Case], check: Callable[[Case, bool], None]) -> None:
    """Check a fixed set of cases. The second argument of `check` is random for each."""

    @seed(360)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases, known=st.booleans())
    def run(case: Case, known: bool) -> None:
        check(case, known)

    run()


@pytest.mark.parametrize("mode", GenerationMode)
def test_nothing_breaks_and_nothing_is_undocumented(
    airflow: Airflow, real_ids: dict[str, str], mode: GenerationMode
) -> None:
    session = airflow.as_user().session

    def conforms(case: Case, known: bool) -> None:
        assume("%0A" not in case.formatted_path)  # Airflow does not route a path with a line break to the plugin
        if known and case.operation.definition.raw["operationId"] not in STARTS_RUNS:
            use_real_ids(case, real_ids)
        answer = call(case, airflow, session)
        assume(answer.content != TOO_LONG)
        case.validate_response(answer, checks=CHECKS)

    for operation in operations(airflow):
        if mode is GenerationMode.POSITIVE or operation.definition.raw["operationId"] not in WITHOUT_INPUT:
            check_all(operation.as_strategy(generation_mode=mode), conforms)


def test_no_route_answers_without_a_credential(airflow: Airflow, real_ids: dict[str, str]) -> None:
    anonymous, forged = requests.Session(), requests.Session()
    forged.headers["Authorization"] = "Bearer of.no.token"

    def is_closed(case: Case, forge: bool) -> None:
        use_real_ids(case, real_ids)
        answer = call(case, airflow, forged if forge else anonymous)
        assert answer.status_code in (401, 403), answer.text
        case.validate_response(answer, checks=CHECKS[:-1])

    for operation in operations(airflow):
        if operation.definition.raw["operationId"] not in OPEN:
            check_all(operation.as_strategy(), is_closed)
