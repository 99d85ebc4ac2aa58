"""Store deliveries in batches: all that wait go into one statement and one commit, over one connection.

A connection for each delivery would cost more than everything else it needs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

import psycopg

from softpro.db.database import OLD_SCHEMA, AsyncConnection, Database
from softpro.errors import DatabaseUnavailable, SchemaError
from softpro.webhooks.deliveries import STORE_DELIVERIES, Delivery, Verdict, parameters

COMMIT_TIMEOUT_SECONDS = 4.0
"""SoftPro waits 5 s for a response."""

MAX_BATCH = 200
MAX_BATCH_CHARACTERS = 4_000_000
"""The most deliveries in one statement, and the most characters; a batch always takes one delivery."""

MAX_PENDING = 2_000
"""The number of waiting deliveries from which on more are refused."""

RETRY_SECONDS = 0.2
# The timeouts keep one blocked statement from using up the time of the others. Sequential scans are off because the
# plan made for a small table would be kept when the table is large.
SETTINGS = {"synchronous_commit": "on", "statement_timeout": "2s", "lock_timeout": "500ms", "enable_seqscan": "off"}
BLOCKING_ERRORS = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
"""Errors of one statement, after which the database and the connection are still good."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PendingDelivery:
    """A delivery, and the future on which its request waits for the verdict."""

    arrival: Delivery
    verdict: asyncio.Future[Verdict]


class DeliveryBlocked(DatabaseUnavailable):
    """The database works, but other activity in it blocks this delivery."""


class BatchWriter:
    """A writer of deliveries on the event loop that calls `put`; it works in the background while deliveries wait.

    Args:
        find: returns the database; it may block, and is called once.
    """

    def __init__(self, find: Callable[[], Database]) -> None:
        self._find = find
        self._database: Database | None = None
        self._connection: AsyncConnection | None = None
        self._waiting: list[PendingDelivery] = []
        self._work: asyncio.Task[None] | None = None
        self._is_away = False

    async def put(self, arrival: Delivery) -> Verdict:
        """Store a delivery and return its verdict once it is committed. Raises the errors of `find` too.

        Raises:
            DatabaseUnavailable: after at most COMMIT_TIMEOUT_SECONDS; the delivery may be stored or not.
            SchemaError: migrations are missing.
        """
        if len(self._waiting) >= MAX_PENDING:
            raise DatabaseUnavailable(f"The database is slow: {MAX_PENDING} deliveries wait for it")
        waiting = PendingDelivery(arrival, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._drain())
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                return await waiting.verdict
        except TimeoutError:
            raise DatabaseUnavailable("The database did not answer in time") from None

    async def close(self) -> None:
        """End the work and the connection; a later `put` begins again."""
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work
        await self._disconnect()

    async def _drain(self) -> None:
        """Store waiting deliveries in batches until none waits."""
        while self._waiting:
            await self._store([waiting for waiting in self._next() if not waiting.verdict.done()])

    def _next(self) -> list[PendingDelivery]:
        """Take the next batch from the waiting deliveries, oldest first."""
        count = characters = 0
        for waiting in self._waiting[:MAX_BATCH]:
            characters += waiting.arrival.size
            if count and characters > MAX_BATCH_CHARACTERS:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _store(self, batch: Sequence[PendingDelivery]) -> None:
        """Store a batch and set its verdicts; while the database is away, retry as long as a request waits."""
        while batch := [waiting for waiting in batch if not waiting.verdict.done()]:
            try:
                verdicts = await self._execute([waiting.arrival for waiting in batch])
            except Exception as failed:  # noqa: BLE001 - every error reaches the waiting requests
                if not isinstance(failed, BLOCKING_ERRORS):
                    await self._disconnect()
                if _is_gone(failed):
                    self._say_away(failed)
                    await asyncio.sleep(RETRY_SECONDS)
                elif len(batch) > 1:
                    await self._store_each(batch)
                else:
                    _fail(batch[0], failed)
            else:
                self._is_away = False
                for waiting, verdict in zip(batch, verdicts, strict=True):
                    if not waiting.verdict.done():
                        waiting.verdict.set_result(verdict)

    async def _store_each(self, batch: Sequence[PendingDelivery]) -> None:
        """Store the deliveries of a batch one by one, after one of them failed.

        Once an integration's delivery is blocked, its others are not tried, because each would delay all the rest.
        """
        blocked: dict[UUID, BaseException] = {}
        for waiting in batch:
            integration_id = waiting.arrival.integration_id
            if integration_id in blocked:
                _fail(waiting, blocked[integration_id])
                continue
            await self._store([waiting])
            if waiting.verdict.done() and not waiting.verdict.cancelled():
                failed = waiting.verdict.exception()
                if isinstance(failed, DeliveryBlocked):
                    blocked[integration_id] = failed

    async def _execute(self, arrivals: Sequence[Delivery]) -> list[Verdict]:
        """Store the deliveries and return the committed verdicts; of equal events, only the first can be STORED."""
        first: dict[tuple[UUID, str, str], Delivery] = {}
        for arrival in arrivals:
            known = first.setdefault(arrival.key, arrival)
            if arrival.timely and not known.timely:
                first[arrival.key] = replace(known, timely=True)
        counts = Counter(arrival.key for arrival in arrivals)
        connection = await self._connected()
        cursor = await connection.execute(
            STORE_DELIVERIES, parameters({each: counts[key] for key, each in first.items()})
        )
        verdicts = dict(zip(first, [Verdict(row["verdict"]) for row in await cursor.fetchall()], strict=True))
        found = []
        for arrival in arrivals:
            found.append(verdicts[arrival.key])
            if verdicts[arrival.key] is Verdict.STORED:
                verdicts[arrival.key] = Verdict.KNOWN
        return found

    async def _connected(self) -> AsyncConnection:
        if self._connection is None:
            if self._database is None:
                self._database = (await asyncio.to_thread(self._checked)).set(**SETTINGS)
            # Without a timeout, a network that drops packets silently would block the writer forever.
            self._connection = await self._database.open_async(
                connect_timeout=2, tcp_user_timeout=3_000, prepare_threshold=0
            )
        return self._connection

    def _checked(self) -> Database:
        """Return the database, once its login proved to be no superuser."""
        database = self._find()
        database.require_plain_login()
        return database

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    def _say_away(self, failed: Exception) -> None:
        """Log once per outage that the database is away."""
        if not self._is_away:
            log.warning("Webhooks can't be stored now; SoftPro sends them again later: %s", failed)
        self._is_away = True


class BatchWriters:
    """One writer per event loop, created on first use; its connection lives no longer than the loop."""

    def __init__(self, find: Callable[[], Database]) -> None:
        self._find = find
        self._of_loops: dict[asyncio.AbstractEventLoop, BatchWriter] = {}

    def here(self) -> BatchWriter:
        """Return the writer of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            self._of_loops[loop] = BatchWriter(self._find)
        return self._of_loops[loop]

    async def close_here(self) -> None:
        """Close the writer of the running loop, so that the loop can end."""
        writer = self._of_loops.pop(asyncio.get_running_loop(), None)
        if writer is not None:
            await writer.close()


def _is_gone(failed: Exception) -> bool:
    """Return whether the database is away, full or a standby, so that the deliveries themselves are not at fault."""
    if isinstance(failed, BLOCKING_ERRORS):
        return False
    if isinstance(failed, psycopg.OperationalError):
        # Class 54 is a limit of PostgreSQL, such as the nesting of JSON, which the delivery exceeds.
        return not (failed.sqlstate or "").startswith("54")
    return isinstance(failed, DatabaseUnavailable | psycopg.errors.ReadOnlySqlTransaction)


def _fail(waiting: PendingDelivery, failed: BaseException) -> None:
    if isinstance(failed, OLD_SCHEMA):
        failed = SchemaError("The database lacks the product's tables: run `python -m softpro migrate`")
    if isinstance(failed, BLOCKING_ERRORS):
        failed = DeliveryBlocked(f"The event can't be stored now, because other database activity blocks it: {failed}")
    if not waiting.verdict.done():
        waiting.verdict.set_exception(failed)
