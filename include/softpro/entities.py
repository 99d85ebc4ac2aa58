"""The kinds of things that are synced, and what each is called where."""

from __future__ import annotations

from enum import StrEnum


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


class Mode(StrEnum):
    """Incremental fetches what changed; delta lists all and maps what differs; full lists and maps all.

    Remap fetches nothing, and maps all that was ever fetched; replay, what of it is in quarantine.
    """

    INCREMENTAL = "incremental"
    DELTA = "delta"
    FULL = "full"
    REMAP = "remap"
    REPLAY = "replay"

    @property
    def fetches(self) -> bool:
        return self not in (Mode.REMAP, Mode.REPLAY)


FETCHING = [mode for mode in Mode if mode.fetches]


class SyncType(StrEnum):
    """Who began a run."""

    MANUAL = "MANUAL"
    SCHEDULED = "SCHEDULED"
