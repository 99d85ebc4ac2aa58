"""The first of the two transactions that matter: a page's records and the cursor that has passed them, together."""

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
"""Pages that may wait to be landed, so that several are landed together where landing is slower than fetching."""


@dataclass(frozen=True)
class Batch:
    """What is landed together: a page, and the cursor that has passed it; None where the records came one by one.

    Of the records, `new` are new to the run and readable; those whose id is in `again` are loaded again although they
    did not change. `requests_made` since the batch before; `answered_at`: the `Date` of the list that they came in;
    `asked_at`: when they were asked for, by the database's clock.
    """

    records: Sequence[Record | Unreadable]
    cursor: Cursor | None
    asked_at: datetime
    new: int = 0
    again: frozenset[str] = frozenset()
    requests_made: int = 0
    answered_at: datetime | None = None


def land(connection: Connection, run: Run, batch: Batch, known: Known | None = None) -> int:
    """Stores a page in `raw.records`, pending where the payload changed or it is wanted again, and the cursor.

    `known` as `raw.store` has it. An older `updatedAt` never replaces a newer one. What can't be stored as a record
    goes to quarantine. Webhook events that wait for these records are settled. Returns how many records are new to the
    stream: the `new` readable ones and those put in quarantine. Raises LeaseLost.
    """
    with connection.transaction():
        # The server may answer before this is on disk: a crash would lose the cursor along with the records it passed.
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
    """Lands batches in order, on a thread of its own: while the next one is fetched, and together with those that came
    while the one before was landed.

    `fetched` counts what `land` does, of the batches that are landed.
    """

    def __init__(self, connection: Connection, run: Run, *, only_new: bool) -> None:
        self.fetched = 0
        self._connection, self._run = connection, run
        self._queue: Queue[Batch | None] = Queue(PAGES_AHEAD)
        self._failed: BaseException | None = None
        # Then only what overlaps with the batch before is there already. Where that is not so, `store` notices.
        self._known: Known | None = {} if only_new else None

    def put(self, batch: Batch) -> None:
        """Has a batch landed. Raises what `land` raised of one before it."""
        if self._failed is not None:
            raise self._failed
        self._queue.put(batch)

    def wait(self) -> int:
        """Waits until all is landed: until another batch is put, the connection is free. Returns `fetched`."""
        self._queue.join()
        if self._failed is not None:
            raise self._failed
        return self.fetched

    def start_over(self) -> None:
        """The list is gone through anew: call it while all is landed."""
        self._known = None

    def work(self) -> None:
        """Lands what is put, until `end`; after a failure nothing more."""
        while batches := self._next():
            if self._failed is None:
                try:
                    batch = joined(batches)
                    self.fetched += land(self._connection, self._run, batch, self._known)
                    if self._known is not None:
                        self._known = {r.key.id: r.payload_hash for r in batch.records if isinstance(r, Record)}
                except BaseException as failed:  # noqa: BLE001 - raised where it is waited for
                    self._failed = failed
            for _ in batches:
                self._queue.task_done()

    def end(self) -> None:
        """Lets `work` end, after what was put before."""
        self._queue.put(None)

    def _next(self) -> list[Batch]:
        """The batches that are there, at least one; none once the end has come."""
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
    """A lander that uses this connection; what it was given is landed when the block ends, however it does.

    `only_new`: no record that is listed should be there yet.
    """
    lander = Lander(connection, run, only_new=only_new)
    thread = Thread(target=lander.work, name="land", daemon=True)
    thread.start()
    try:
        yield lander
    finally:
        lander.end()
        thread.join()


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches that came one after the other, as one."""
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
