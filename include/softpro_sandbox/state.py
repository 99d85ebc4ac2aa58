"""Hold the sandbox's state in memory: organizations with their records, grants, switches, counts."""

import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from softpro_sandbox.clock import Clock, now_ms
from softpro_sandbox.documents.document_store import DocumentStore, OrderDocuments
from softpro_sandbox.oauth.grants import Grants
from softpro_sandbox.record_store import RecordStore, Version
from softpro_sandbox.records import contacts, properties, transactions
from softpro_sandbox.records.codec import Record, decode
from softpro_sandbox.records.contacts import ContactSummary
from softpro_sandbox.stats import Stats
from softpro_sandbox.switches import Switches
from softpro_sandbox.webhooks.delivery import WebhookSender


class EntityType(StrEnum):
    """The lists of records that an organization has."""

    TRANSACTION = "TRANSACTION"
    CONTACT = "CONTACT"


ID_FIELDS = {EntityType.TRANSACTION: "orderId", EntityType.CONTACT: "contactId"}

_FIRMS = ("Saguaro Title & Escrow", "Lakeshore Land Title", "Harbor Point Escrow", "Blue Ridge Abstract", "Piñon Title")


@dataclass(frozen=True)
class Setup:
    """The options of a sandbox. Sizes are per organization; without `redirect_uris` any URI on loopback is allowed."""

    seed: int = 1
    organizations: int = 1
    transactions: int = 1000
    contacts: int = 400
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"  # noqa: S105 - a published default that protects generated records only
    redirect_uris: tuple[str, ...] = ()
    switches: Switches = field(default_factory=Switches)


@dataclass(frozen=True)
class Deletion:
    """A deleted record or document, with the time in milliseconds of the vendor's clock."""

    entity_type: str
    entity_id: str
    deleted_ms: int


@dataclass
class Organization:
    """A customer of the vendor, with its own records and its own sequence of ids.

    Attributes:
        stores: the records by type.
        last_numbers: the last number used in an id, by type.
        seeded_orders: how many orders were generated at the start.
        properties: the property's own fields by order, for changed properties; others are generated when read.
    """

    organization_id: str
    name: str
    user_id: str
    email: str
    stores: dict[EntityType, RecordStore]
    last_numbers: dict[EntityType, int]
    documents: DocumentStore
    seeded_orders: int
    properties: RecordStore = field(default_factory=RecordStore)
    deletions: list[Deletion] = field(default_factory=list)

    def is_seeded(self, order_id: str) -> bool:
        """Return whether an order was generated at the start, and so has generated documents and a property."""
        digits = order_id.removeprefix("ord-")
        return digits.isascii() and digits.isdigit() and 1 <= int(digits) <= self.seeded_orders


@dataclass
class SandboxState:
    """The whole state of a sandbox."""

    setup: Setup
    clock: Clock
    switches: Switches
    organizations: dict[str, Organization]
    grants: Grants = field(default_factory=Grants)
    stats: Stats = field(default_factory=Stats)
    fault_draws: random.Random = field(default_factory=random.Random)
    change_draws: random.Random = field(default_factory=random.Random)
    transit_draws: random.Random = field(default_factory=random.Random)
    webhook_draws: random.Random = field(default_factory=random.Random)
    webhook_senders: dict[str, WebhookSender] = field(default_factory=dict)
    _last_ms: int = 0

    def time(self) -> float:
        """Return the vendor's clock in seconds: the machine's clock plus `clockSkewSeconds`."""
        return self.clock() + self.switches.clock_skew_seconds

    def stamp(self) -> int:
        """Return the time for an `updatedAt`, in milliseconds of the vendor's clock.

        It never goes back, unless a new clock skew is set.
        """
        self._last_ms = max(self._last_ms, now_ms(self.time))
        return self._last_ms

    def store(self, organization_id: str, entity: EntityType) -> RecordStore:
        """Return an organization's list as it is visible now."""
        store = self.organizations[organization_id].stores[entity]
        store.surface_changes(self.clock() * 1000)
        return store

    def write(
        self, organization_id: str, entity: EntityType, changes: Sequence[tuple[str, int, bytes]]
    ) -> list[Version]:
        """Write new versions (id, updatedAt, bytes); each surfaces after its own delay within the lag."""
        surface_times = [self.surface_time(updated) for _, updated, _ in changes]
        return self.store(organization_id, entity).put(changes, surface_times)

    def property_fields(self, organization_id: str, order_id: str, order: Record, *, latest: bool) -> Record:
        """Return the own fields of an order's property.

        Args:
            organization_id: the organization of the order.
            order_id: the order.
            order: the order's record, from which a seeded property is generated.
            latest: read the latest version; otherwise the version that readers see.
        """
        organization = self.organizations[organization_id]
        organization.properties.surface_changes(self.clock() * 1000)
        versions = organization.properties.latest if latest else organization.properties.visible
        if order_id in versions:
            return decode(versions[order_id].body)
        return properties.generate(organization_id, order_id, order) if organization.is_seeded(order_id) else {}

    def write_property(self, organization_id: str, order_id: str, now: int, order: bytes, own: bytes) -> None:
        """Write an order and the own fields of its property, which surface together."""
        surface_times = [self.surface_time(now)]
        self.store(organization_id, EntityType.TRANSACTION).put([(order_id, now, order)], surface_times)
        self.organizations[organization_id].properties.put([(order_id, now, own)], surface_times)

    def order_documents(self, organization_id: str, order_id: str, order: Record) -> OrderDocuments:
        """Return an order's documents as they are visible now."""
        organization = self.organizations[organization_id]
        order_documents = organization.documents.of_order(order_id, order, seeded=organization.is_seeded(order_id))
        order_documents.store.surface_changes(self.clock() * 1000)
        return order_documents

    def delete_document(self, organization_id: str, order_id: str, order: Record, document_id: str) -> bool:
        """Delete a document, at once for readers too. Return False when it does not exist."""
        if not self.order_documents(organization_id, order_id, order).remove(document_id):
            return False
        self.organizations[organization_id].deletions.append(Deletion("DOCUMENT", document_id, self.stamp()))
        return True

    def delete(self, organization_id: str, entity: EntityType, record_id: str) -> bool:
        """Delete a record with its property and documents, at once for readers too.

        Return False when it does not exist.
        """
        if not self.store(organization_id, entity).delete(record_id):
            return False
        organization = self.organizations[organization_id]
        if entity is EntityType.TRANSACTION:
            organization.properties.delete(record_id)
            organization.documents.drop(record_id)
        organization.deletions.append(Deletion(entity, record_id, self.stamp()))
        return True

    def next_number(self, organization_id: str, entity: EntityType, id_of: Callable[[int], str]) -> int:
        """Return the next number whose id is unused."""
        organization = self.organizations[organization_id]
        number = organization.last_numbers[entity] + 1
        while id_of(number) in organization.stores[entity].latest:
            number += 1
        organization.last_numbers[entity] = number
        return number

    def surface_time(self, changed: int) -> float:
        """Return when a change surfaces, after a random part of the lag, in milliseconds of the machine's clock.

        `changed` is a time of the vendor's clock, whose skew can change while changes wait.
        """
        lag = self.switches.lag * 1000
        skew = self.switches.clock_skew_seconds * 1000
        return changed - skew + lag * self.change_draws.random() if lag else 0.0

    def switch(self, changes: Mapping[str, Any]) -> None:
        """Set switches by their JSON names. Setting the fault seed restarts its draws."""
        before, self.switches = self.switches, self.switches.changed(changes)
        if self.switches.clock_skew_seconds != before.clock_skew_seconds:
            self._last_ms = 0
        if "faultSeed" in changes:
            self.fault_draws.seed(self.switches.fault_seed)


def create_state(setup: Setup, clock: Clock) -> SandboxState:
    """Create a seeded state; equal setups give byte-equal records."""
    organizations = [_organization(setup, number) for number in range(1, setup.organizations + 1)]
    state = SandboxState(setup, clock, setup.switches, {each.organization_id: each for each in organizations})
    state.fault_draws.seed(setup.switches.fault_seed)
    state.change_draws.seed(f"{setup.seed}/changes")
    state.transit_draws.seed(f"{setup.seed}/transit")
    state.webhook_draws.seed(f"{setup.seed}/webhooks")
    return state


def _organization(setup: Setup, number: int) -> Organization:
    rng = random.Random(f"{setup.seed}/{number}")
    name = _FIRMS[(number - 1) % len(_FIRMS)] + (f" {number}" if number > len(_FIRMS) else "")
    domain = f"organization{number}.example.com"
    organization_id = _uuid(rng)
    organization = Organization(
        organization_id=organization_id,
        name=name,
        user_id=_uuid(rng),
        email=f"admin@{domain}",
        stores={entity: RecordStore() for entity in EntityType},
        last_numbers={EntityType.TRANSACTION: setup.transactions, EntityType.CONTACT: setup.contacts},
        documents=DocumentStore(organization_id),
        seeded_orders=setup.transactions,
    )
    roster: defaultdict[str, list[ContactSummary]] = defaultdict(list)
    rows = []
    for summary, updated, body in contacts.generate(random.Random(f"{setup.seed}/{number}/contacts"), setup.contacts):
        roster[summary.contact_type].append(summary)
        rows.append((summary.contact_id, updated, body))
    organization.stores[EntityType.CONTACT].fill(rows)
    orders = random.Random(f"{setup.seed}/{number}/transactions")
    organization.stores[EntityType.TRANSACTION].fill(transactions.generate(orders, setup.transactions, roster))
    return organization


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
