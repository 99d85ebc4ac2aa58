"""When things happened: moments of change spread over two years, bulk changes that share one."""

import random
from dataclasses import dataclass

from softpro_sandbox.clock import DAY_MS, parse_ms

EPOCH_MS = parse_ms("2025-11-01T00:00:00Z")
"""The newest moment in seeded data. Fixed, so that the same seed gives the same bytes on any day."""

_SPAN_MS = 2 * 365 * DAY_MS
HOUR_MS = DAY_MS // 24
_BULK_SHARE = 0.015
_BULK_MOMENTS = tuple(parse_ms(day) for day in ("2024-07-06T06:00:00Z", "2025-03-01T06:00:00Z"))


@dataclass(frozen=True, slots=True)
class OrderDates:
    """The dates of one order in milliseconds, and the status they imply."""

    created: int
    opened: int
    estimated_closing: int
    actual_closing: int | None
    updated: int
    status: str


def updated_ms(rng: random.Random) -> int:
    """A moment of last change, recent ones likelier; now and then the moment of a bulk change."""
    if rng.random() < _BULK_SHARE * len(_BULK_MOMENTS):
        return rng.choice(_BULK_MOMENTS)
    moment = EPOCH_MS - int(rng.random() ** 1.7 * _SPAN_MS)
    # A few changes come from jobs that stamp whole minutes, which makes small ties.
    return moment - moment % 60_000 if rng.random() < 0.02 else moment


def created_ms(rng: random.Random, updated: int) -> int:
    """A moment of creation before the last change, often the same."""
    return updated if rng.random() < 0.3 else updated - int(rng.random() * 500 * DAY_MS)


def order_dates(rng: random.Random) -> OrderDates:
    """Dates that agree with each other: created ≤ opened < closing ≤ last change, as far as the order has come."""
    updated = updated_ms(rng)
    status = _status(rng, updated)
    actual: int | None = None
    if status in ("CLOSED", "FUNDED"):
        actual = _business_hour(updated - rng.randrange(1, 10) * DAY_MS)
        opened = _business_hour(actual - rng.randrange(20, 75) * DAY_MS)
        estimated = _business_hour(actual + rng.randrange(-5, 6) * DAY_MS)
    elif status == "PENDING_CLOSING":
        estimated = _business_hour(updated + rng.randrange(1, 8) * DAY_MS)
        opened = _business_hour(updated - rng.randrange(25, 50) * DAY_MS)
    else:
        first, last = {"OPENED": (1, 5), "IN_PROGRESS": (3, 30), "CANCELLED": (5, 60)}.get(status, (10, 90))
        opened = _business_hour(updated - rng.randrange(first, last) * DAY_MS)
        estimated = _business_hour(opened + rng.randrange(30, 61) * DAY_MS)
    return OrderDates(opened - rng.randrange(HOUR_MS), opened, estimated, actual, updated, status)


def _status(rng: random.Random, updated: int) -> str:
    """A status likely for an order last touched at `updated`: old ones are over."""
    draw = rng.random()
    if draw < 0.003:
        return "FUNDED"  # not on the contract's list: an enum can grow a value
    if EPOCH_MS - updated > 100 * DAY_MS:
        return "CLOSED" if draw < 0.85 else "CANCELLED" if draw < 0.98 else "ON_HOLD"
    for status, edge in (("OPENED", 0.16), ("IN_PROGRESS", 0.45), ("PENDING_CLOSING", 0.6), ("CLOSED", 0.88)):
        if draw < edge:
            return status
    return "CANCELLED" if draw < 0.96 else "ON_HOLD"


def _business_hour(moment: int) -> int:
    """The same day at 17:00 UTC, late morning in the United States, moved off the weekend backwards."""
    day = moment // DAY_MS
    weekday = (day + 3) % 7
    return (day - max(0, weekday - 4)) * DAY_MS + 17 * HOUR_MS
