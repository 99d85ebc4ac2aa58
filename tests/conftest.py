"""Define the fixtures of tests that need a database and a vendor. Each starts on its first use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # keeps the imports out of the unit tests
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from softpro.db.database import Database
    from softpro.db.integrations import Integration
    from softpro.services import Services

    from .support.databases import Server
    from .support.fixture_types import Connected, StartSandbox
    from .support.sandbox import Sandbox
    from .support.writeback import BothSides


def pytest_configure(config: pytest.Config) -> None:
    # Great Expectations 1.x imports modules that Python 3.11 deprecates.
    config.addinivalue_line("filterwarnings", "ignore:module 'sre_(constants|parse)' is deprecated:DeprecationWarning")
    # Its PostgresDatasource requires psycopg2; the generic datasource works with psycopg 3.
    config.addinivalue_line("filterwarnings", "ignore:You are using a generic SQLDatasource")


OWN_PROCESSES = ("tests/airflow/test_demo.py", "tests/airflow/test_triggers.py", "tests/airflow/test_dags.py")
"""Files in tests/airflow that do not use the running Airflow."""

FIRST = ("airflow", "tests/airflow/test_demo.py", "tests/faults/test_killed_sync.py", "tests/faults")
"""The groups that take longest start first, so that no worker is alone with one of them at the end."""


def group(nodeid: str) -> str:
    """Return a test's group: its file, or `airflow` for all tests of the running Airflow."""
    file = nodeid.partition("::")[0]
    return "airflow" if file.startswith("tests/airflow/") and file not in OWN_PROCESSES else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the groups: first those that take longest."""
    places = {
        item: next((n for n, name in enumerate(FIRST) if group(item.nodeid).startswith(name)), 9) for item in items
    }
    items.sort(key=lambda item: places[item])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Distribute whole groups over the workers, so that each expensive fixture is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return GroupScheduling(config, log)


@pytest.fixture(scope="session")
def server() -> Server:
    """Start an embedded PostgreSQL for the session."""
    from .support.databases import Server, memory_directory

    return Server(memory_directory() / "data")


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """Yield a migrated, empty database for one test."""
    with server.fresh() as fresh:
        yield fresh


@pytest.fixture
def bare_database(server: Server) -> Iterator[Database]:
    """Yield a database for one test without the product's tables."""
    with server.fresh("template0") as fresh:
        yield fresh


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Start a well-behaved sandbox for the session.

    Take an organization with `unused_organization()` and leave the switches alone: other tests share it.
    """
    from .support.sandbox import running_sandbox

    with running_sandbox(organizations=400, transactions=45, contacts=12) as started:
        yield started


@pytest.fixture
def start_sandbox() -> Iterator[StartSandbox]:
    """Yield a function that starts a sandbox for one test. It takes sizes and switches as arguments."""
    from .support.sandbox import running_sandbox

    with ExitStack() as stack:

        def start(*, organizations: int = 1, transactions: int = 45, contacts: int = 12, **switches: object) -> Sandbox:
            context: AbstractContextManager[Sandbox] = running_sandbox(
                organizations=organizations, transactions=transactions, contacts=contacts, **switches
            )
            return stack.enter_context(context)

        yield start


@pytest.fixture
def vendor_organization(sandbox: Sandbox) -> str:
    """Return an organization at the vendor that no other test uses."""
    return sandbox.unused_organization()


@pytest.fixture
def settings(database: Database, sandbox: Sandbox) -> dict[str, str]:
    """Return the environment of a product that uses this database and this sandbox."""
    from .support.product import environment

    return environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="20")


@pytest.fixture
def services(database: Database, settings: dict[str, str]) -> Services:
    """Return the services for that environment, in this process."""
    from .support.product import build_services

    return build_services(settings, database)


@pytest.fixture
def connected(services: Services, sandbox: Sandbox, vendor_organization: str) -> Connected:
    """Return a function that connects one of our organizations to `vendor_organization` or to the given one."""
    from .support.product import begin_connection, finish_connection

    def connect(organization: str, at: str | None = None) -> Integration:
        address = sandbox.consent(begin_connection(services, organization), at or vendor_organization)
        return finish_connection(services, address)

    return connect


@pytest.fixture
def acme(connected: Connected) -> Integration:
    """Return the organization `acme`, connected to `vendor_organization`."""
    return connected("acme")


@pytest.fixture
def sides(services: Services, acme: Integration, sandbox: Sandbox, vendor_organization: str) -> BothSides:
    """Return `acme` on both sides, with its contacts loaded."""
    from .support.writeback import BothSides

    return BothSides(services, acme, sandbox, vendor_organization)
