"""Deliver an organization's events: a few at a time, repeated until a 2xx, for at most a day."""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from softpro_sandbox.clock import Clock, now_ms
from softpro_sandbox.webhooks.wire_format import WebhookEvent, encode_body, headers

Post = Callable[[str, bytes, dict[str, str]], Awaitable[bool]]
"""Posts a body with headers to an address and returns whether it was accepted."""

GIVE_UP_SECONDS = 86_400.0
_MAX_IN_FLIGHT = 16
_MAX_RETRY_DELAY_SECONDS = 900.0
_IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class Receiver:
    """The address of an organization's receiver, and the secret that signs its events."""

    url: str
    secret: str


@dataclass
class Delivery:
    """An event to deliver.

    Attributes:
        first: when the event was created, in seconds of the machine's clock.
        forged: sign with a wrong secret, and try once.
        attempts: how often delivery was tried.
    """

    event: WebhookEvent
    first: float
    forged: bool = False
    attempts: int = 0


def retry_delay(attempts: int) -> float:
    """Return the seconds to wait after this number of failed attempts: 1, 2, 4, … up to 15 minutes."""
    return min(_MAX_RETRY_DELAY_SECONDS, 2.0 ** (min(attempts, 20) - 1))


@dataclass
class WebhookSender:
    """Delivers events to one receiver, in a background task that runs while deliveries exist.

    Attributes:
        clock: the machine's clock, which limits how long an event is retried.
        vendor: the vendor's clock, which stamps events.
        counts: counts of deliveries, failures and forgeries.
        open_post: opens HTTP connections, which are kept while the task runs.
    """

    receiver: Receiver
    clock: Clock
    vendor: Clock
    counts: Counter[str]
    open_post: Callable[[], AbstractAsyncContextManager[Post]]
    _due: list[tuple[float, int, Delivery]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _in_flight: set["asyncio.Task[None]"] = field(default_factory=set)
    _worker: "asyncio.Task[None] | None" = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waiting(self) -> int:
        """Return the number of deliveries that are due later or in flight."""
        return len(self._due) + len(self._in_flight)

    def enqueue(self, delivery: Delivery, delay: float = 0.0) -> None:
        """Deliver after a delay in seconds. Return at once; call this on the event loop only."""
        due = asyncio.get_running_loop().time() + delay
        heapq.heappush(self._due, (due, next(self._numbers), delivery))
        self._wake.set()
        if self._worker is None or self._worker.done():
            self._start()

    def stop(self) -> None:
        """Cancel all deliveries."""
        self._due.clear()
        for task in (*self._in_flight, self._worker):
            if task is not None:
                task.cancel()

    def _start(self) -> None:
        def ended(worker: "asyncio.Task[None]") -> None:
            # A delivery may have been enqueued while the worker closed its connections.
            if self._due and self._worker is worker and not worker.cancelled():
                self._start()

        self._worker = asyncio.create_task(self._work())
        self._worker.add_done_callback(ended)

    async def _work(self) -> None:
        """Send due deliveries, until none is left and none was added for a moment."""
        loop = asyncio.get_running_loop()
        async with self.open_post() as post:
            while True:
                self._wake.clear()
                now = loop.time()
                while self._due and self._due[0][0] <= now and len(self._in_flight) < _MAX_IN_FLIGHT:
                    self._send(post, heapq.heappop(self._due)[2])
                if not self.waiting and not await self._wait_for_wake(_IDLE_SECONDS):
                    return
                full = len(self._in_flight) >= _MAX_IN_FLIGHT
                await self._wait_for_wake(None if full or not self._due else max(0.0, self._due[0][0] - loop.time()))

    async def _wait_for_wake(self, seconds: float | None) -> bool:
        """Wait for a new or a finished delivery. Return False when none came within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def _send(self, post: Post, delivery: Delivery) -> None:
        task = asyncio.create_task(self._attempt(post, delivery))
        self._in_flight.add(task)

        def finished(done: "asyncio.Task[None]") -> None:
            self._in_flight.discard(done)
            self._wake.set()

        task.add_done_callback(finished)

    async def _attempt(self, post: Post, delivery: Delivery) -> None:
        """Attempt one delivery; after a failure, enqueue the next attempt."""
        delivery.attempts += 1
        body = encode_body(delivery.event, now_ms(self.vendor))
        secret = f"not {self.receiver.secret}" if delivery.forged else self.receiver.secret
        accepted = await post(self.receiver.url, body, headers(secret, body))
        if delivery.forged:
            self.counts["forged"] += 1
            self.counts["forgedTaken"] += accepted
            return
        self.counts["deliveries" if accepted else "failures"] += 1
        if accepted:
            return
        if self.clock() - delivery.first + retry_delay(delivery.attempts) > GIVE_UP_SECONDS:
            self.counts["givenUp"] += 1
            return
        self.enqueue(delivery, retry_delay(delivery.attempts))
