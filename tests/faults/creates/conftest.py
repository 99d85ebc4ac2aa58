"""Fixtures of the tests that create records at the vendor."""

from __future__ import annotations

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.services import Services

from ...support.creates import LAG
from ...support.fixture_types import StartSandbox
from ...support.product import begin_connection, build_services, environment, finish_connection
from ...support.sandbox import Sandbox


@pytest.fixture
def own(start_sandbox: StartSandbox) -> Sandbox:
    return start_sandbox(transactions=1, contacts=1, lag=LAG)


@pytest.fixture
def services(database: Database, own: Sandbox) -> Services:
    return build_services(environment(database, own, SOFTPRO_MAX_RETRIES="8"), database)


@pytest.fixture
def acme(services: Services, own: Sandbox) -> Integration:
    return finish_connection(services, own.consent(begin_connection(services, "acme"), own.organizations[0]))
