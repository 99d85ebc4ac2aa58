"""Name the record types that are synced, the streams they form, and the modes of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

MAX_ID_LENGTH = 256
"""Characters of a record id that a user may enter."""


class EntityType(StrEnum):
    """A record type, named as in the specification's models. Documents are not synced yet."""

    TRANSACTION = "TRANSACTION"
    CONTACT = "CONTACT"

    @property
    def table(self) -> str:
        """Return the table's name in the schemas `roi` and `staging`, and on the command line."""
        return f"{self.value.lower()}s"

    @property
    def key(self) -> str:
        """Return the column that holds the vendor's id."""
        return {"TRANSACTION": "softpro_order_id", "CONTACT": "softpro_contact_id"}[self.value]

    @property
    def deletable(self) -> bool:
        """Return whether SoftPro's API can delete such records."""
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
    """The mode of a run: which records it fetches and maps.

    Attributes:
        INCREMENTAL: fetches what changed.
        DELTA: lists all records and maps those that differ.
        FULL: lists and maps all records.
        REMAP: fetches nothing and maps every record that was ever fetched.
        REPLAY: fetches nothing and maps the records in quarantine.
        RECORDS: fetches the named records one by one.
        PUSH: sends local edits to SoftPro.
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
        """Return whether the mode reads the vendor's list and moves the stream's cursor."""
        return self in (Mode.INCREMENTAL, Mode.DELTA, Mode.FULL)

    @property
    def fetches(self) -> bool:
        """Return whether the mode sends requests to the vendor."""
        return self.lists or self in (Mode.RECORDS, Mode.PUSH)


LISTING_MODES = [mode for mode in Mode if mode.lists]


class SyncType(StrEnum):
    """How a run was started: by a user, by the schedule, by a webhook, or by an edit of `roi`."""

    MANUAL = "MANUAL"
    SCHEDULED = "SCHEDULED"
    WEBHOOK = "WEBHOOK"
    EDIT = "EDIT"
