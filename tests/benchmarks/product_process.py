"""Set up a product to measure: its database, its connection to the sandbox, and its sync as a process."""

from __future__ import annotations

from dataclasses import dataclass

from softpro.db.database import Database
from softpro.softpro360 import oauth

from ..support.databases import one
from ..support.product import connect_acme, environment
from ..support.sandbox import Sandbox
from .measurement import PRODUCT_PYTHON, Measured, measure, say
from .postgres_server import fresh, settle

ORGANIZATION = "acme"
PAGE = 200  # records, the most that the vendor's lists give


@dataclass(frozen=True)
class Product:
    """A product whose organization is connected to the sandbox's first one."""

    admin: Database
    name: str
    """The name of its database."""
    database: Database
    sandbox: Sandbox
    settings: dict[str, str]
    token: str
    """An access token of the organization, valid for an hour."""

    def sync(self) -> Measured:
        """Sync the transactions once, in a new process."""
        settle(self.admin)
        return measure(PRODUCT_PYTHON, "jobs.sync", {"organization": ORGANIZATION}, self.settings)

    def requests(self) -> int:
        """Return the number of API calls so far."""
        return self.sandbox.requests_of(self.sandbox.organizations[0])

    def expect(self, transactions: int) -> None:
        """Raise SystemExit if its table does not hold this many transactions."""
        expect(self.database, "roi.transactions", transactions, "The product")


def connected(admin: Database, name: str, sandbox: Sandbox) -> Product:
    """Create a product in a fresh database with this name."""
    database = fresh(admin, name)
    more = {"SOFTPRO_SYNC_BATCH_SIZE": str(PAGE)}
    services, integration = connect_acme(database, sandbox, **more)
    token = oauth.token_source(database, services.vault, services.oauth, integration.id)(None)
    return Product(admin, name, database, sandbox, environment(database, sandbox, **more), token)


def loaded(admin: Database, name: str, sandbox: Sandbox, transactions: int) -> tuple[Measured, Product]:
    """Create a product and measure its first load.

    Raises:
        SystemExit: It loaded another number of rows.
    """
    product = connected(admin, name, sandbox)
    measured = product.sync()
    product.expect(transactions)
    say(f"first load of {transactions:,}: {measured.work:.2f} s")
    return measured, product


def expect(database: Database, table: str, transactions: int, who: str) -> None:
    """Raise SystemExit if the table does not hold this many transactions."""
    found = one(database, f"select count(*) from {table}")
    if found != transactions:
        raise SystemExit(f"{who} loaded {found} of {transactions} transactions")
