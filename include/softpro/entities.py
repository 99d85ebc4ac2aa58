"""The kinds of things that are synced, and what each is called where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

LONGEST_ID = 256
"""Characters of a record's id, where a person names it."""


class EntityType(StrEnum):
    """As in the specification's models; documents join when they are built."""

    TRANSACTION = "TRANSACTION"
    CONTACT = "CONTACT"

    @property
    def table(self) -> str:
        """Its table in the schemas `roi` and `staging`, and its name on the command line."""
        return f"{self.value.lower()}s"

    @property
    def key(self) -> str:
        """The column that holds the vendor's id."""
        return {"TRANSACTION": "softpro_order_id", "CONTACT": "softpro_contact_id"}[self.value]

    @property
    def deletable(self) -> bool:
        """SoftPro's API can delete it."""
        return self is EntityType.TRANSACTION


@dataclass(frozen=True)
class Stream:
    """An integration's entity type: the unit that is planned, leased, fetched and loaded."""

    integration_id: UUID
    organization_id: str
    entity_type: EntityType

    @classmethod
    def of_row(cls, integration_id: UUID, organization_id: str, entity_type: str) -> Stream:
        """Build a stream from the columns of a row. Raises ValueError for a type that is not synced."""
        return cls(integration_id, organization_id, EntityType(entity_type))

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> Stream:
        """Build the stream that `as_json` described."""
        return cls.of_row(UUID(value["integration_id"]), value["organization_id"], value["entity_type"])

    def as_json(self) -> dict[str, str]:
        """Describe the stream in JSON values, as XCom carries it."""
        return {name: str(value) for name, value in self.parameters.items()}

    @property
    def parameters(self) -> dict[str, object]:
        """Return the query parameters `integration_id`, `organization_id` and `entity_type`."""
        return {
            "integration_id": self.integration_id,
            "organization_id": self.organization_id,
            "entity_type": self.entity_type.value,
        }


class Mode(StrEnum):
    """Incremental fetches what changed; delta lists all and maps what differs; full lists and maps all.

    Remap fetches nothing, and maps all that was ever fetched; replay, what of it is in quarantine. Records fetches the
    ones that were named, one by one. Push sends what was changed here.
    """

    INCREMENTAL = "incremental"
    DELTA = "delta"
    FULL = "full"
    REMAP = "remap"
    REPLAY = "replay"
    RECORDS = "records"
    PUSH = "push"

    @property
    def lists(self) -> bool:
        """Whether it goes through the vendor's list, and moves the stream's cursor."""
        return self in (Mode.INCREMENTAL, Mode.DELTA, Mode.FULL)

    @property
    def fetches(self) -> bool:
        """Whether it asks the vendor."""
        return self.lists or self in (Mode.RECORDS, Mode.PUSH)


LISTING = [mode for mode in Mode if mode.lists]


class SyncType(StrEnum):
    """Who began a run."""

    MANUAL = "MANUAL"
    SCHEDULED = "SCHEDULED"
    WEBHOOK = "WEBHOOK"
