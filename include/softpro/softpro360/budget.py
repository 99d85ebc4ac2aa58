"""Share the vendor's rate limit among all processes and hosts: one sliding window per integration, in PostgreSQL.

A request occupies a slot until one window after its response arrived, because the vendor counted it at some moment
before that. Without a response, the slot stays occupied until one window after the last moment the response could
arrive. A process that dies therefore frees nothing early, and our count never falls below the vendor's.

A caller without a slot waits in its priority class until the next slot can be free. All times are the database's. If
the database is unavailable nothing is sent, and after a database crash the window counts as full.
See docs/design/rate-limit.md.
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
    """The right to send one request.

    Attributes:
        wait: seconds until the request may be sent.
        left: requests that could follow at once, 0 if this one had to wait.
        asked_at: the database's time when the slot was taken.
        known_at: the monotonic clock at `asked_at`, or slightly later.
    """

    ticket: UUID
    wait: float
    left: int
    asked_at: datetime
    known_at: float


@dataclass(frozen=True)
class Budget:
    """The requests that an integration may send in any window.

    Attributes:
        connection: a connection in autocommit.
        requests: the number of requests in a window.
        window: the length of the window.
        reserve: the share (0 to 1) that bulk work leaves to other calls.
        bulk: this budget is used for bulk work.
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
        """Wait until a request may be sent, and return its slot. The caller settles the slot or gives it back.

        It sleeps until the slot can be free and checks again, because a Retry-After may have arrived in between.

        Args:
            hold: seconds within which the response must arrive.
            patience: longest acceptable wait in seconds, or None.
            waiting: called with the seconds of each wait.

        Raises:
            BudgetExhausted: the wait would exceed `patience`; no slot is kept.
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
        """Record that the response arrived with these headers. The slot is free one window from now.

        If `X-RateLimit-Remaining` is below our own count, other clients use the grant, and as many slots are occupied.
        """
        remaining = _count(headers.get("X-RateLimit-Remaining"))
        if remaining is not None and 0 < slot.left <= remaining:
            remaining = None  # the vendor counts no more than we do, so skip the slow recount
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
        """Free the slot of a request that was not sent and will not be."""
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
        """Return the slot with its remaining wait, or None if a crash of the database removed it."""
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
            f"or it asked to wait: the next request can be sent in {wait:.0f} s",
            retry_after=wait,
        )


def budget_for(connection: Connection, integration_id: UUID, settings: VendorSettings, *, bulk: bool) -> Budget:
    """Return the integration's budget. A limit below one request a minute becomes one request in a longer window."""
    limit = settings.rate_limit
    window = timedelta(seconds=WINDOW_SECONDS if limit >= 1 else WINDOW_SECONDS / limit)
    return Budget(connection, integration_id, max(1, int(limit)), window, settings.reserve_percent / 100, bulk)


def _count(text: str | None) -> int | None:
    """Return a header's whole number, or None if it is missing or invalid."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None
