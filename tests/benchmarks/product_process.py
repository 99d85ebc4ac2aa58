"""A product to measure: its database, its connection to the sandbox, and one sync of it as a process."""

from __future__ import annotations

from dataclasses import dataclass

from softpro.db.database import Database
from softpro.softpro360 import oauth

from ..support.databases import one
from ..support.product import between, environment
from ..support.sandbox import Sandbox
from .measurement import PRODUCTS, Measured, measure, say
from .postgres_server import fresh, settle

ORGANIZATION = "acme"
PAGE = 200  # records, the most that the vendor's lists give


@dataclass(frozen=True)
class Product:
    """A product whose organization is connected to the sandbox's first one."""

    admin: Database
    name: str
    """Of its database."""
    database: Database
    sandbox: Sandbox
    settings: dict[str, str]
    token: str
    """An access token of the organization, for an hour."""

    def sync(self) -> Measured:
        """Syncs the transactions once, in a process of its own."""
        settle(self.admin)
        return measure(PRODUCTS, "jobs.sync", {"organization": ORGANIZATION}, self.settings)

    def requests(self) -> int:
        """How many calls of the API it has made so far."""
        return self.sandbox.requests_of(self.sandbox.organizations[0])

    def expect(self, transactions: int) -> None:
        """Raises SystemExit where its table holds another number."""
        expect(self.database, "roi.transactions", transactions, "The product")


def connected(admin: Database, name: str, sandbox: Sandbox) -> Product:
    """A product in a fresh database of this name."""
    database = fresh(admin, name)
    more = {"SOFTPRO_SYNC_BATCH_SIZE": str(PAGE)}
    services, integration = between(database, sandbox, **more)
    token = oauth.token_source(database, services.vault, services.oauth, integration.id)(None)
    return Product(admin, name, database, sandbox, environment(database, sandbox, **more), token)


def loaded(admin: Database, name: str, sandbox: Sandbox, transactions: int) -> tuple[Measured, Product]:
    """The first load of a product that is made for it. Raises SystemExit where it loads another number of rows."""
    product = connected(admin, name, sandbox)
    measured = product.sync()
    product.expect(transactions)
    say(f"first load of {transactions:,}: {measured.work:.2f} s")
    return measured, product


def expect(database: Database, table: str, transactions: int, who: str) -> None:
    """Raises SystemExit where the table holds another number of rows."""
    found = one(database, f"select count(*) from {table}")
    if found != transactions:
        raise SystemExit(f"{who} loaded {found} of {transactions} transactions")
