"""The sandbox's state: organizations with their records, grants, switches, counts. All in memory."""

import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from softpro_sandbox.catalogue import Catalogue, Version
from softpro_sandbox.clock import Clock, to_ms
from softpro_sandbox.oauth.grants import Grants
from softpro_sandbox.records import contacts, transactions
from softpro_sandbox.records.contacts import Card
from softpro_sandbox.stats import Stats
from softpro_sandbox.switches import Switches


class EntityType(StrEnum):
    """The lists an organization has."""

    TRANSACTION = "TRANSACTION"
    CONTACT = "CONTACT"


ID_FIELDS = {EntityType.TRANSACTION: "orderId", EntityType.CONTACT: "contactId"}

_FIRMS = ("Saguaro Title & Escrow", "Lakeshore Land Title", "Harbor Point Escrow", "Blue Ridge Abstract", "Piñon Title")


@dataclass(frozen=True)
class Setup:
    """What a sandbox is made with. Sizes are per organization; `redirect_uris` empty allows any on loopback."""

    seed: int = 1
    organizations: int = 1
    transactions: int = 1000
    contacts: int = 400
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"  # noqa: S105 - a published default, it guards made-up records
    redirect_uris: tuple[str, ...] = ()
    switches: Switches = field(default_factory=Switches)


@dataclass
class Organization:
    """One of the vendor's customers, with its own records and its own run of ids."""

    organization_id: str
    name: str
    user_id: str
    email: str
    catalogues: dict[EntityType, Catalogue]
    numbers: dict[EntityType, int]


@dataclass
class World:
    """Everything there is."""

    setup: Setup
    clock: Clock
    switches: Switches
    organizations: dict[str, Organization]
    grants: Grants = field(default_factory=Grants)
    stats: Stats = field(default_factory=Stats)
    fault_draws: random.Random = field(default_factory=random.Random)
    change_draws: random.Random = field(default_factory=random.Random)
    _last_ms: int = 0

    def stamp(self) -> int:
        """The time for an `updatedAt`, in milliseconds; never goes back, even if the machine's clock does."""
        self._last_ms = max(self._last_ms, to_ms(self.clock))
        return self._last_ms

    def catalogue(self, organization_id: str, entity: EntityType) -> Catalogue:
        """An organization's list as it is visible now."""
        catalogue = self.organizations[organization_id].catalogues[entity]
        catalogue.settle(self.clock() * 1000)
        return catalogue

    def write(
        self, organization_id: str, entity: EntityType, changes: Sequence[tuple[str, int, bytes]]
    ) -> list[Version]:
        """Write new versions (id, updatedAt, bytes), each to surface after its own delay within the lag."""
        surfaces = [self.surface_at(updated) for _, updated, _ in changes]
        return self.catalogue(organization_id, entity).put(changes, surfaces)

    def next_number(self, organization_id: str, entity: EntityType, id_of: Callable[[int], str]) -> int:
        """The next number whose id no record has."""
        organization = self.organizations[organization_id]
        number = organization.numbers[entity] + 1
        while id_of(number) in organization.catalogues[entity].true:
            number += 1
        organization.numbers[entity] = number
        return number

    def surface_at(self, changed: int) -> float:
        """When a change of this moment surfaces, in milliseconds: after a random part of the lag."""
        lag = self.switches.lag * 1000
        return changed + lag * self.change_draws.random() if lag else 0.0

    def switch(self, changes: Mapping[str, Any]) -> None:
        """Set switches by their outside names; a fault seed that is set starts the draws afresh."""
        self.switches = self.switches.changed(changes)
        if "faultSeed" in changes:
            self.fault_draws.seed(self.switches.fault_seed)


def make_world(setup: Setup, clock: Clock) -> World:
    """A world seeded as the setup says; equal setups give byte-equal records."""
    made = [_organization(setup, number) for number in range(1, setup.organizations + 1)]
    world = World(setup, clock, setup.switches, {each.organization_id: each for each in made})
    world.fault_draws.seed(setup.switches.fault_seed)
    world.change_draws.seed(f"{setup.seed}/changes")
    return world


def _organization(setup: Setup, number: int) -> Organization:
    rng = random.Random(f"{setup.seed}/{number}")
    name = _FIRMS[(number - 1) % len(_FIRMS)] + (f" {number}" if number > len(_FIRMS) else "")
    domain = f"organization{number}.example.com"
    organization = Organization(
        organization_id=_uuid(rng),
        name=name,
        user_id=_uuid(rng),
        email=f"admin@{domain}",
        catalogues={entity: Catalogue() for entity in EntityType},
        numbers={EntityType.TRANSACTION: setup.transactions, EntityType.CONTACT: setup.contacts},
    )
    roster: defaultdict[str, list[Card]] = defaultdict(list)
    rows = []
    for card, updated, body in contacts.generate(random.Random(f"{setup.seed}/{number}/contacts"), setup.contacts):
        roster[card.contact_type].append(card)
        rows.append((card.contact_id, updated, body))
    organization.catalogues[EntityType.CONTACT].fill(rows)
    orders = random.Random(f"{setup.seed}/{number}/transactions")
    organization.catalogues[EntityType.TRANSACTION].fill(transactions.generate(orders, setup.transactions, roster))
    return organization


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
