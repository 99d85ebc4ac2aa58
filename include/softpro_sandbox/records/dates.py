"""Generate dates over two years, including bulk changes that share one moment."""

import random
from dataclasses import dataclass

from softpro_sandbox.clock import DAY_MS, parse_ms

EPOCH_MS = parse_ms("2025-11-01T00:00:00Z")
"""The latest time in seeded data. It is fixed, so that the same seed gives the same bytes on any day."""

_SPAN_MS = 2 * 365 * DAY_MS
HOUR_MS = DAY_MS // 24
_BULK_SHARE = 0.015
_BULK_MOMENTS = tuple(parse_ms(day) for day in ("2024-07-06T06:00:00Z", "2025-03-01T06:00:00Z"))


@dataclass(frozen=True, slots=True)
class OrderDates:
    """The dates of an order in milliseconds, and the status that fits them."""

    created: int
    opened: int
    estimated_closing: int
    actual_closing: int | None
    updated: int
    status: str


def updated_ms(rng: random.Random) -> int:
    """Return a random time of last change. Recent ones are likelier, and some fall on a bulk change."""
    if rng.random() < _BULK_SHARE * len(_BULK_MOMENTS):
        return rng.choice(_BULK_MOMENTS)
    moment = EPOCH_MS - int(rng.random() ** 1.7 * _SPAN_MS)
    # Some changes come from jobs that stamp whole minutes. They create small ties.
    return moment - moment % 60_000 if rng.random() < 0.02 else moment


def created_ms(rng: random.Random, updated: int) -> int:
    """Return a creation time at or before the last change."""
    return updated if rng.random() < 0.3 else updated - int(rng.random() * 500 * DAY_MS)


def order_dates(rng: random.Random) -> OrderDates:
    """Return consistent dates: created ≤ opened < closing ≤ last change, as far as the order has progressed."""
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
    """Return a likely status for an order last changed at `updated`: old orders are finished."""
    draw = rng.random()
    if draw < 0.003:
        return "FUNDED"  # not in the contract: enums can grow
    if EPOCH_MS - updated > 100 * DAY_MS:
        return "CLOSED" if draw < 0.85 else "CANCELLED" if draw < 0.98 else "ON_HOLD"
    for status, edge in (("OPENED", 0.16), ("IN_PROGRESS", 0.45), ("PENDING_CLOSING", 0.6), ("CLOSED", 0.88)):
        if draw < edge:
            return status
    return "CANCELLED" if draw < 0.96 else "ON_HOLD"


def _business_hour(moment: int) -> int:
    """Return 17:00 UTC of the same day (late morning in the United States); a weekend becomes the Friday before."""
    day = moment // DAY_MS
    weekday = (day + 3) % 7
    return (day - max(0, weekday - 4)) * DAY_MS + 17 * HOUR_MS
