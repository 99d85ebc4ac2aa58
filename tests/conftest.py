"""Fixtures of the tests that need a database and a vendor; nothing is started before a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the unit tests start without these imports
    from softpro.db.database import Database
    from softpro.db.integrations import Integration
    from softpro.services import Services

    from .support.databases import Server
    from .support.fixture_types import Connected, StartSandbox
    from .support.sandbox import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    # Great Expectations 1.x imports modules that Python 3.11 deprecates.
    config.addinivalue_line("filterwarnings", "ignore:module 'sre_(constants|parse)' is deprecated:DeprecationWarning")
    # Its PostgresDatasource insists on psycopg2; the generic one is what works with psycopg 3.
    config.addinivalue_line("filterwarnings", "ignore:You are using a generic SQLDatasource")


@pytest.fixture(scope="session")
def server() -> Server:
    """An embedded PostgreSQL for the session."""
    from .support.databases import Server, quick_directory

    return Server(quick_directory() / "data")


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A migrated, empty database of the test's own."""
    with server.fresh() as fresh:
        yield fresh


@pytest.fixture
def bare_database(server: Server) -> Iterator[Database]:
    """A database of the test's own that was never migrated."""
    with server.fresh("template0") as fresh:
        yield fresh


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A well-behaved sandbox for the session: take an organization with `untouched()`, leave its switches alone."""
    from .support.sandbox import running

    with running(organizations=400, transactions=45, contacts=12) as started:
        yield started


@pytest.fixture
def start_sandbox() -> Iterator[StartSandbox]:
    """Starts a sandbox of the test's own, for tests that change switches; sizes and switches as arguments."""
    from .support.sandbox import running

    with ExitStack() as stack:

        def start(*, organizations: int = 1, transactions: int = 45, contacts: int = 12, **switches: object) -> Sandbox:
            context: AbstractContextManager[Sandbox] = running(
                organizations=organizations, transactions=transactions, contacts=contacts, **switches
            )
            return stack.enter_context(context)

        yield start


@pytest.fixture
def vendor_organization(sandbox: Sandbox) -> str:
    """An organization at the vendor that no other test has touched."""
    return sandbox.untouched()


@pytest.fixture
def settings(database: Database, sandbox: Sandbox) -> dict[str, str]:
    """The environment of a product between this database and this sandbox."""
    from .support.product import environment

    return environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="20")


@pytest.fixture
def services(database: Database, settings: dict[str, str]) -> Services:
    """What that environment comes to, in this process."""
    from .support.product import services_in

    return services_in(settings, database)


@pytest.fixture
def connected(services: Services, sandbox: Sandbox, vendor_organization: str) -> Connected:
    """Connects an organization of ours to the vendor's `vendor_organization`, or to the one named."""
    from .support.product import begin_connection, finish_connection

    def connect(organization: str, at: str | None = None) -> Integration:
        address = sandbox.consent(begin_connection(services, organization), at or vendor_organization)
        return finish_connection(services, address)

    return connect
