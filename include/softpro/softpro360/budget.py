"""The vendor's rate limit, shared by all processes and hosts: one sliding window per integration, kept in PostgreSQL.

A request takes one of the limit's slots until a window after its answer *arrived*: the vendor counted it at some moment
before that. While it is out, its slot is taken until a window after the last moment its answer could come, so a process
that dies frees nothing early. So whatever the vendor counts in any window stood in our count together, and that was
never above the limit.

Who finds no slot queues behind its like, sleeps until the first moment one can be free, and looks again. All times are
the database's. Where it is away nothing is sent; after it crashed, the window counts as full.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from softpro.db import queries
from softpro.db.database import Connection
from softpro.errors import BudgetExhausted
from softpro.settings import VendorSettings
from softpro.softpro360.contract import WINDOW_SECONDS


@dataclass(frozen=True)
class Slot:
    """The right to send one request in `wait` seconds; `left` more could follow at once, 0 where it had to wait.

    `known_at`: seconds of the monotonic clock at which the database's time was `asked_at`, or a little later.
    """

    ticket: UUID
    wait: float
    left: int
    asked_at: datetime
    known_at: float


@dataclass(frozen=True)
class Budget:
    """What an integration may ask of the vendor: so many requests in any window.

    `connection` is in autocommit. `bulk` work leaves the `reserve` (a share, 0 to 1) to everybody else.
    """

    connection: Connection
    integration_id: UUID
    requests: int
    window: timedelta
    reserve: float
    bulk: bool

    def take(
        self, hold: float, patience: float | None, waiting: Callable[[float], None] = lambda seconds: None
    ) -> Slot:
        """Waits until a request may be sent; its answer must come within `hold` seconds, and be settled.

        Sleeps until the first moment it can go and looks again: Retry-After may have come meanwhile; `waiting` is told
        for how long. Raises BudgetExhausted, and keeps nothing, where that is more than `patience` seconds away.
        """
        deadline = None if patience is None else time.monotonic() + patience
        slot = self._reserve(hold, deadline)
        while slot.wait > 0:
            try:
                waiting(slot.wait)
                time.sleep(slot.wait)
                slot = self._confirm(slot, hold, deadline) or self._reserve(hold, deadline)
            except BaseException:
                self.give_back(slot)
                raise
        return slot

    def settle(self, slot: Slot, headers: Mapping[str, str], retry_after: float | None) -> None:
        """The answer is there, with these headers: the slot is free a window from now, and what they say is heeded.

        `X-RateLimit-Remaining` below what we believe means that others use the grant: as many slots are taken.
        """
        remaining = _count(headers.get("X-RateLimit-Remaining"))
        if remaining is not None and 0 < slot.left <= remaining:
            remaining = None  # no fewer than we believed when it was sent: nothing to count, which takes its time
        self.connection.execute(
            "select softpro.settle_slot(%s, %s, %s, %s, %s, %s, %s)",
            [
                self.integration_id,
                slot.ticket,
                self.requests,
                self.window,
                _count(headers.get("X-RateLimit-Limit")) or None,
                remaining,
                None if retry_after is None else timedelta(seconds=retry_after),
            ],
        )

    def give_back(self, slot: Slot) -> None:
        """Nothing was sent, and will not be."""
        self.connection.execute(
            "delete from softpro.budget_requests where ticket = %s and integration_id = %s",
            [slot.ticket, self.integration_id],
        )

    def _reserve(self, hold: float, deadline: float | None) -> Slot:
        ticket = uuid4()
        patience = None if deadline is None else timedelta(seconds=max(0.0, deadline - time.monotonic()))
        row = queries.one(
            self.connection,
            "select *, clock_timestamp() as asked_at from softpro.take_slot(%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                self.integration_id,
                ticket,
                self.requests,
                self.reserve,
                self.bulk,
                timedelta(seconds=hold),
                self.window,
                patience,
            ],
        )
        slot = Slot(ticket, row["wait"].total_seconds(), row["left_over"], row["asked_at"], time.monotonic())
        if not row["taken"]:
            raise self._exhausted(slot.wait)
        return slot

    def _confirm(self, slot: Slot, hold: float, deadline: float | None) -> Slot | None:
        """The slot with what is still to wait; None where a crash took it."""
        row = queries.one(
            self.connection,
            "select softpro.confirm_slot(%s, %s, %s, %s, %s, %s) as wait",
            [
                self.integration_id,
                slot.ticket,
                self.requests,
                self.reserve,
                timedelta(seconds=hold),
                self.window,
            ],
        )
        if row["wait"] is None:
            return None
        wait = row["wait"].total_seconds()
        if deadline is not None and time.monotonic() + wait > deadline:
            raise self._exhausted(wait)
        return replace(slot, wait=wait, left=0)

    def _exhausted(self, wait: float) -> BudgetExhausted:
        return BudgetExhausted(
            f"The {self.requests} requests that SoftPro allows in {self.window.total_seconds():.0f} s are used up, "
            f"or it asked to wait: the next one can be sent in {wait:.0f} s",
            retry_after=wait,
        )


def budget_for(connection: Connection, integration_id: UUID, settings: VendorSettings, *, bulk: bool) -> Budget:
    """The integration's budget as the settings have it. A limit below one a minute becomes one in a longer window."""
    limit = settings.rate_limit
    window = timedelta(seconds=WINDOW_SECONDS if limit >= 1 else WINDOW_SECONDS / limit)
    return Budget(connection, integration_id, max(1, int(limit)), window, settings.reserve_percent / 100, bulk)


def _count(text: str | None) -> int | None:
    """A header's whole number; None where it is missing or no such number."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None
