"""The whole OpenAPI, called with what it allows and with what it forbids: nothing breaks, nothing is undocumented, and
nothing is answered to nobody."""

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

EXAMPLES = int(os.environ.get("SOFTPRO_TEST_SCHEMATHESIS_EXAMPLES", "4"))
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
"""What the server itself says of a request line beyond 64 KiB, whatever it serves."""
OPEN = {"healthAlive", "connectionCallback"}
WITHOUT_INPUT = {"healthAlive"}
STARTS_RUNS = {"mappingsRemap", "quarantineReplay", "quarantineEdit"}
"""Of real records: each call would be a run of Airflow."""


@pytest.fixture(scope="module")
def real(airflow: Airflow) -> dict[str, str]:
    """The parameters of what exists, so that calls get beyond 404."""
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


def put(case: Case, real: dict[str, str]) -> None:
    """Real ids where the case names any."""
    body = case.body if isinstance(case.body, dict) else {}
    for values in (case.path_parameters, case.query, body):
        for name in set(values or ()) & set(real):
            values[name] = real[name]


def call(case: Case, airflow: Airflow, session: requests.Session) -> Any:
    if case.query and "wait" in case.query:
        with suppress(TypeError, ValueError):
            case.query["wait"] = min(float(case.query["wait"]), 0.1)
    return case.call(base_url=airflow.url, session=session, timeout=60, allow_redirects=False)


def every(cases: SearchStrategy[Case], check: Callable[[Case, bool], None]) -> None:
    """Checks so many cases, always the same ones; the second argument is tossed for each."""

    @seed(360)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases, known=st.booleans())
    def run(case: Case, known: bool) -> None:
        check(case, known)

    run()


@pytest.mark.parametrize("mode", GenerationMode)
def test_nothing_breaks_and_nothing_is_undocumented(
    airflow: Airflow, real: dict[str, str], mode: GenerationMode
) -> None:
    session = airflow.as_user().session

    def conforms(case: Case, known: bool) -> None:
        assume("%0A" not in case.formatted_path)  # Airflow takes a path with a line break for none of ours
        if known and case.operation.definition.raw["operationId"] not in STARTS_RUNS:
            put(case, real)
        answer = call(case, airflow, session)
        assume(answer.content != TOO_LONG)
        case.validate_response(answer, checks=CHECKS)

    for operation in operations(airflow):
        if mode is GenerationMode.POSITIVE or operation.definition.raw["operationId"] not in WITHOUT_INPUT:
            every(operation.as_strategy(generation_mode=mode), conforms)


def test_nothing_is_answered_to_nobody(airflow: Airflow, real: dict[str, str]) -> None:
    nobody, liar = requests.Session(), requests.Session()
    liar.headers["Authorization"] = "Bearer of.no.token"

    def is_closed(case: Case, lies: bool) -> None:
        put(case, real)
        answer = call(case, airflow, liar if lies else nobody)
        assert answer.status_code in (401, 403), answer.text
        case.validate_response(answer, checks=CHECKS[:-1])

    for operation in operations(airflow):
        if operation.definition.raw["operationId"] not in OPEN:
            every(operation.as_strategy(), is_closed)
