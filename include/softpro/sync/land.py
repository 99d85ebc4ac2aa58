"""Land a page's records together with the cursor that has passed them, in one transaction.

This is the first of the two transactions that a sync depends on; `load.py` holds the second. See docs/design/sync.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from queue import Queue
from threading import Thread

from psycopg.types.json import Jsonb

from softpro.db import inbox, leases, sync_logs
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.quality import quarantine
from softpro.softpro360.contract import LAG
from softpro.softpro360.records import Record, Unreadable
from softpro.sync import cursors, sightings
from softpro.sync.cursors import Cursor
from softpro.sync.raw_store import Known, store

PAGES_AHEAD = 4
"""The number of pages that may wait to be landed. Several are landed together where landing is slower than fetching."""


@dataclass(frozen=True)
class Batch:
    """Records that are landed together, with the cursor that has passed them.

    Attributes:
        records: the records of a page.
        cursor: the cursor to store; None where the records were fetched one by one.
        asked_at: when the records were requested, by the database's clock.
        new: the number of readable records that are new to the run.
        again: ids of records to load again even if they did not change.
        requests_made: the number of requests since the batch before.
        answered_at: the `Date` header of the list; None where the records were fetched one by one.
    """

    records: Sequence[Record | Unreadable]
    cursor: Cursor | None
    asked_at: datetime
    new: int = 0
    again: frozenset[str] = frozenset()
    requests_made: int = 0
    answered_at: datetime | None = None


def land(connection: Connection, run: Run, batch: Batch, known: Known | None = None) -> int:
    """Store a batch in `raw.records` together with its cursor, and return how many records are new to the stream.

    A record becomes pending if its payload changed or its id is in `again`. An older `updatedAt` never replaces a newer
    one. A record that can't be stored goes to quarantine. Webhook events that wait for these records are settled.

    Args:
        known: see `raw_store.store`.

    Returns:
        The number of `new` readable records plus the records that went to quarantine.

    Raises:
        LeaseLost: another run took over the stream.
    """
    with connection.transaction():
        # No wait for the disk: a crash would lose the cursor along with the records it passed, so nothing is skipped.
        connection.execute("set local synchronous_commit = off")
        leases.fence(connection, run)
        unreadable = [record for record in batch.records if isinstance(record, Unreadable)]
        readable = [record for record in batch.records if isinstance(record, Record)]
        audit_id = sightings.open_audit(connection, run) if batch.cursor is not None else None
        if audit_id is not None:
            sightings.record(connection, run, audit_id, readable, batch.answered_at)
        refused = store(connection, run.stream, readable, batch.again, known, batch.asked_at)
        if batch.cursor is not None and audit_id is not None:
            sightings.record_landed(connection, run, audit_id, [*unreadable, *refused], batch.cursor)
        opened = [_quarantine(connection, run, record, bool(batch.again)) for record in [*unreadable, *refused]]
        fetched = batch.new + sum(opened[: len(unreadable)])
        if batch.cursor is not None:
            cursors.write(connection, run, batch.cursor)
        if inbox.has_unsettled(connection, run.stream):
            _settle(connection, run, batch)
        sync_logs.add_counts(
            connection,
            run.log_id,
            records_fetched=fetched,
            api_requests=batch.requests_made,
            records_processed=sum(opened),
            records_failed=sum(opened),
        )
        return fetched


class Lander:
    """A thread's work that lands batches in order while the next one is fetched.

    Batches that arrive while another one is being landed are landed together.

    Attributes:
        fetched: the sum of what `land` returned for the batches landed so far.
    """

    def __init__(self, connection: Connection, run: Run, *, only_new: bool) -> None:
        self.fetched = 0
        self._connection, self._run = connection, run
        self._queue: Queue[Batch | None] = Queue(PAGES_AHEAD)
        self._failed: BaseException | None = None
        # With `only_new`, only the overlap with the previous batch is stored already. `store` notices if more is.
        self._known: Known | None = {} if only_new else None

    def put(self, batch: Batch) -> None:
        """Queue a batch to be landed. Raises what `land` raised for an earlier one."""
        if self._failed is not None:
            raise self._failed
        self._queue.put(batch)

    def wait(self) -> int:
        """Wait until every batch is landed and return `fetched`. The connection is free until another batch is put."""
        self._queue.join()
        if self._failed is not None:
            raise self._failed
        return self.fetched

    def start_over(self) -> None:
        """Prepare for reading the list again from its start. Call it while no batch is waiting."""
        self._known = None

    def work(self) -> None:
        """Land the queued batches until `end` is called; after a failure, land no more."""
        while batches := self._next():
            if self._failed is None:
                try:
                    batch = join_batches(batches)
                    self.fetched += land(self._connection, self._run, batch, self._known)
                    if self._known is not None:
                        self._known = {r.key.id: r.payload_hash for r in batch.records if isinstance(r, Record)}
                except BaseException as failed:  # noqa: BLE001 - `put` and `wait` raise it
                    self._failed = failed
            for _ in batches:
                self._queue.task_done()

    def end(self) -> None:
        """Let `work` end after the batches queued so far."""
        self._queue.put(None)

    def _next(self) -> list[Batch]:
        """Return the queued batches, at least one; none after the end."""
        batches = []
        batch = self._queue.get()
        while batch is not None:
            batches.append(batch)
            if self._queue.empty() or self._queue.queue[0] is None:
                break
            batch = self._queue.get()
        return batches


@contextmanager
def landing(connection: Connection, run: Run, *, only_new: bool = False) -> Iterator[Lander]:
    """Start a lander on this connection; every batch put is landed when the block ends, also after an error.

    Args:
        only_new: no listed record is expected to be stored yet.
    """
    lander = Lander(connection, run, only_new=only_new)
    thread = Thread(target=lander.work, name="land", daemon=True)
    thread.start()
    try:
        yield lander
    finally:
        lander.end()
        thread.join()


def join_batches(batches: Sequence[Batch]) -> Batch:
    """Return consecutive batches as one."""
    return Batch(
        [record for batch in batches for record in batch.records],
        batches[-1].cursor,
        min(batch.asked_at for batch in batches),
        sum(batch.new for batch in batches),
        frozenset[str]().union(*(batch.again for batch in batches)),
        sum(batch.requests_made for batch in batches),
        batches[0].answered_at,
    )


def _settle(connection: Connection, run: Run, batch: Batch) -> None:
    returned = {
        record.key.id if isinstance(record, Record) else record.entity_id: (
            record.key.updated_at if isinstance(record, Record) else None
        )
        for record in batch.records
    }
    named = {entity_id: updated_at for entity_id, updated_at in returned.items() if entity_id is not None}
    inbox.settle_events(
        connection,
        run.stream,
        log_id=run.log_id,
        ids=list(named),
        versions=list(named.values()),
        asked_at=batch.asked_at,
        lag=LAG,
    )


def _quarantine(connection: Connection, run: Run, record: Unreadable, again: bool) -> int:
    return quarantine.quarantine_record(
        connection,
        run,
        payload=record.payload,
        payload_hash=record.payload_hash,
        entity_id=record.entity_id,
        reasons=Jsonb([{"column": None, "rule": "readable", "message": record.reason}]),
        again=again,
    )
