"""Stores deliveries as they come: whatever waits goes into one statement and one commit, over one connection.

A connection for each would cost more than all the rest of a delivery.
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
from psycopg.rows import DictRow, dict_row

from softpro.db.database import OLD_SCHEMA, Database
from softpro.errors import DatabaseUnavailable, SchemaError
from softpro.webhooks.deliveries import STORE_DELIVERIES, Delivery, Verdict, parameters

COMMIT_TIMEOUT_SECONDS = 4.0
"""SoftPro waits 5 s for an answer."""

MAX_BATCH = 200
MAX_BATCH_CHARACTERS = 4_000_000
"""Deliveries in one statement, and what they may come to; one is always taken."""

MAX_WAITING = 2_000
"""Deliveries that wait, before more are turned away."""

RETRY_SECONDS = 0.2
# A statement that somebody is in the way of leaves time for the others. No plan may read all of a table that is small
# now: it would be kept when it is large.
SETTINGS = {"synchronous_commit": "on", "statement_timeout": "2s", "lock_timeout": "500ms", "enable_seqscan": "off"}
IN_THE_WAY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
"""Of one statement only: the database is there, and the connection good."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """A delivery, and where its request waits for the verdict."""

    arrival: Delivery
    verdict: asyncio.Future[Verdict]


class Blocked(DatabaseUnavailable):
    """The database is there, and something else that goes on in it keeps this delivery from being stored."""


class Writer:
    """Stores deliveries, on the one event loop that `put` is called on. It works by itself while something waits.

    `find` says where the database is; it may block, and is asked once.
    """

    def __init__(self, find: Callable[[], Database]) -> None:
        self._find = find
        self._conninfo: str | None = None
        self._connection: psycopg.AsyncConnection[DictRow] | None = None
        self._waiting: list[Waiting] = []
        self._work: asyncio.Task[None] | None = None
        self._is_away = False

    async def put(self, arrival: Delivery) -> Verdict:
        """What became of the delivery, once that is committed. Raises DatabaseUnavailable within PATIENCE_SECONDS:
        then it may be stored, or not. Raises SchemaError, and whatever `find` raises."""
        if len(self._waiting) >= MAX_WAITING:
            raise DatabaseUnavailable(f"The database is slow: {MAX_WAITING} deliveries wait for it")
        waiting = Waiting(arrival, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._drain())
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                return await waiting.verdict
        except TimeoutError:
            raise DatabaseUnavailable("The database did not answer in time") from None

    async def close(self) -> None:
        """Ends the work and the connection; a later `put` begins again."""
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work
        await self._disconnect()

    async def _drain(self) -> None:
        """Stores what waits until nothing does. What came meanwhile goes together."""
        while self._waiting:
            await self._store([waiting for waiting in self._next() if not waiting.verdict.done()])

    def _next(self) -> list[Waiting]:
        """Takes as many as go together from those that wait, those first that came first."""
        count = characters = 0
        for waiting in self._waiting[:MAX_BATCH]:
            characters += waiting.arrival.size
            if count and characters > MAX_BATCH_CHARACTERS:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _store(self, batch: Sequence[Waiting]) -> None:
        """Stores a batch and tells who waits. Where the database is away it is tried again, while anybody waits."""
        while batch := [waiting for waiting in batch if not waiting.verdict.done()]:
            try:
                verdicts = await self._execute([waiting.arrival for waiting in batch])
            except Exception as failed:  # noqa: BLE001 - whatever it is, whoever waits is told
                if not isinstance(failed, IN_THE_WAY):
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

    async def _store_each(self, batch: Sequence[Waiting]) -> None:
        """One of them can't be stored, or not now: the others can. Where somebody is in an integration's way, its
        others are not tried: everybody else would wait for each."""
        blocked: dict[UUID, BaseException] = {}
        for waiting in batch:
            integration_id = waiting.arrival.integration_id
            if integration_id in blocked:
                _fail(waiting, blocked[integration_id])
                continue
            await self._store([waiting])
            if waiting.verdict.done() and not waiting.verdict.cancelled():
                failed = waiting.verdict.exception()
                if isinstance(failed, Blocked):
                    blocked[integration_id] = failed

    async def _execute(self, arrivals: Sequence[Delivery]) -> list[Verdict]:
        """The verdict on each, committed. The same event twice among them is one row, which one of them made."""
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
        told = []
        for arrival in arrivals:
            told.append(verdicts[arrival.key])
            if verdicts[arrival.key] is Verdict.STORED:
                verdicts[arrival.key] = Verdict.KNOWN
        return told

    async def _connected(self) -> psycopg.AsyncConnection[DictRow]:
        if self._connection is None:
            if self._conninfo is None:
                found = await asyncio.to_thread(self._find)
                # Where the network swallows what is sent, an answer would be waited for without end.
                self._conninfo = psycopg.conninfo.make_conninfo(
                    found.set(**SETTINGS).conninfo, connect_timeout=2, tcp_user_timeout=3_000
                )
            self._connection = await psycopg.AsyncConnection.connect(
                self._conninfo, autocommit=True, row_factory=dict_row, prepare_threshold=0
            )
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    def _say_away(self, failed: Exception) -> None:
        """Once for each time that it is away."""
        if not self._is_away:
            log.warning("No webhook can be stored, and SoftPro sends them again later: %s", failed)
        self._is_away = True


class Writers:
    """One writer for each event loop, made when it is first asked for: its connection lives no longer than the loop."""

    def __init__(self, find: Callable[[], Database]) -> None:
        self._find = find
        self._of_loops: dict[asyncio.AbstractEventLoop, Writer] = {}

    def here(self) -> Writer:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            self._of_loops[loop] = Writer(self._find)
        return self._of_loops[loop]

    async def close_here(self) -> None:
        """Closes the running loop's; the loop may end then."""
        writer = self._of_loops.pop(asyncio.get_running_loop(), None)
        if writer is not None:
            await writer.close()


def _is_gone(failed: Exception) -> bool:
    """Whether the database is away, or has no room, or became a standby: no fault of what was to be stored."""
    if isinstance(failed, IN_THE_WAY):
        return False
    if isinstance(failed, psycopg.OperationalError):
        return not (failed.sqlstate or "").startswith("54")  # JSON, say, that is nested deeper than PostgreSQL can read
    return isinstance(failed, DatabaseUnavailable | psycopg.errors.ReadOnlySqlTransaction)


def _fail(waiting: Waiting, failed: BaseException) -> None:
    if isinstance(failed, OLD_SCHEMA):
        failed = SchemaError("The database lacks the product's tables: run `python -m softpro migrate`")
    if isinstance(failed, IN_THE_WAY):
        failed = Blocked(f"The event can't be stored now, as something else in the database is in its way: {failed}")
    if not waiting.verdict.done():
        waiting.verdict.set_exception(failed)
