"""Limit concurrent work and the rate of requests. A request without a place is refused at once; none waits.

The counts are those of one process, and are used only on its event loop.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from softpro.errors import Busy, TooManyRequests

MAX_ADDRESSES = 10_000
"""Addresses whose rate is remembered; the one that sent nothing for the longest time is forgotten first."""

BUSY = "The server is busy with as much of this work as it allows: try again in a few seconds"


class Places:
    """A number of places for concurrent work, in all and for each key, such as a user."""

    def __init__(self, total: int, each: int) -> None:
        self._total, self._each = total, each
        self._taken: Counter[str] = Counter()

    def is_free(self, key: str = "") -> bool:
        """Return whether a place is free for the key."""
        return self._taken.total() < self._total and self._taken[key] < self._each

    @contextmanager
    def take(self, key: str = "") -> Iterator[None]:
        """Hold a place during the block. Raises Busy if none is free."""
        if not self.is_free(key):
            raise Busy(BUSY)
        self._taken[key] += 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


class Rate:
    """A rate of requests for each key: `burst` at once, refilled by `per_second`."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, key: str, cost: float = 1) -> None:
        """Count a request. Raises TooManyRequests if the key has none left."""
        left = self._refilled(key)
        if left < 1:
            raise TooManyRequests(
                "Too many requests from this address: try again later", math.ceil((1 - left) / self._per_second)
            )
        self.charge(key, cost)

    def charge(self, key: str, cost: float) -> None:
        """Count more for a request that was already admitted."""
        self._left[key] = (max(0.0, self._refilled(key) - cost), self._clock())
        self._left.move_to_end(key)
        while len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)

    def _refilled(self, key: str) -> float:
        left, at = self._left.get(key, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - at) * self._per_second)


class Brake:
    """The limits of a route without a login: concurrent requests, and the rate of each client.

    Args:
        at_once: concurrent requests of all clients.
        at_once_each: concurrent requests of one client.
        per_second: requests of one client per second.
        burst: requests of one client at once, before the rate applies.
        refused_cost: what a refused request counts as.
    """

    def __init__(
        self, *, at_once: int, at_once_each: int, per_second: float, burst: float, refused_cost: float = 1
    ) -> None:
        self._places = Places(at_once, at_once_each)
        self._rate = Rate(per_second, burst)
        self._refused_cost = refused_cost

    @contextmanager
    def take(self, client: str) -> Iterator[None]:
        """Hold a place for a request of this client. Raises Busy, or TooManyRequests."""
        self._rate.spend(client)
        with self._places.take(client):
            yield

    def refused(self, client: str) -> None:
        """Count a request that the route refused."""
        self._rate.charge(client, self._refused_cost - 1)


def network(address: str) -> str:
    """Return what one client can choose its addresses from: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
