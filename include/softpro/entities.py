"""The kinds of things that are synced, and what each is called where."""

from __future__ import annotations

from enum import StrEnum

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
