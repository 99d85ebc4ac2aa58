"""The limit above which deletes wait for a user's approval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeleteLimit:
    """How many records of a stream are deleted without approval; either limit suffices to ask for it.

    Attributes:
        percent: greatest share of the stream's live records, 0-100.
        records: greatest number of records.
    """

    percent: float
    records: int

    def is_exceeded_by(self, count: int, live: int) -> bool:
        """Return whether `count` deletes exceed one of the limits in a stream of `live` records."""
        return count > self.records or count * 100 > self.percent * live
