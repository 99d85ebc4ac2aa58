"""Lease streams to runs, so that only one run at a time moves a stream's cursor.

Each acquisition raises the epoch. A transaction that lands or settles checks its epoch (`fence`), so a run presumed
dead can't overwrite its successor. A lease lives as long as its owner's database session, and at most 30 s without a
heartbeat. Between two Airflow tasks no session exists, so the lease is handed over for a few minutes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import psycopg

from softpro.db import locks, queries
from softpro.db.database import Connection, Database
from softpro.db.locks import Lock
from softpro.entities import EntityType, Mode, Stream
from softpro.errors import LeaseHeld, LeaseLost

LIFETIME_SECONDS = 30
HEARTBEAT_SECONDS = 10
HANDOVER_SECONDS = 120
ANNOUNCEMENT_SECONDS = 120
"""How long an announced run may take to begin before another one may be announced."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run over one stream, under one epoch of its lease.

    A run over named records has no lease and no epoch. It moves no cursor, and runs in parallel with one that does.

    Attributes:
        log_id: the id of its sync log, and the key of its rows in staging.
        records: the ids of the named records; None for a run over the whole stream.
    """

    log_id: UUID
    stream: Stream
    mode: Mode
    epoch: int | None
    records: tuple[str, ...] | None = None

    @property
    def integration_id(self) -> UUID:
        """Return the id of the stream's integration."""
        return self.stream.integration_id

    @property
    def organization_id(self) -> str:
        """Return the organization that the stream belongs to."""
        return self.stream.organization_id

    @property
    def entity_type(self) -> EntityType:
        """Return the stream's entity type."""
        return self.stream.entity_type


def acquire(connection: Connection, stream: Stream, log_id: UUID) -> tuple[int, UUID | None]:
    """Acquire the lease if it is free, expired, or its owner's session is gone. Call it in a transaction.

    Returns:
        The new epoch, and the log id of the run that held the lease before, if any.

    Raises:
        LeaseHeld: another run holds the lease.
    """
    connection.execute(
        """
        insert into softpro.leases (integration_id, entity_type, organization_id)
        values (%(integration_id)s, %(entity_type)s, %(organization_id)s)
        on conflict do nothing
        """,
        stream.parameters,
    )
    # `for update` conflicts with the `for key share` of a transaction that is landing or settling right now.
    row = connection.execute(
        """
        select l.log_id, softpro.is_free(l) or l.log_id = %(log_id)s as free
        from softpro.leases l
        where l.integration_id = %(integration_id)s and l.entity_type = %(entity_type)s
        for update skip locked
        """,
        {**stream.parameters, "log_id": log_id},
    ).fetchone()
    if row is None or not row["free"]:
        raise _held(stream.entity_type, row["log_id"] if row else None)
    taken = queries.one(
        connection,
        """
        update softpro.leases
        set epoch = epoch + 1, log_id = %(log_id)s, backend_pid = null, backend_start = null,
            expires_at = clock_timestamp() + make_interval(secs => %(lifetime)s)
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
        returning epoch
        """,
        {**stream.parameters, "log_id": log_id, "lifetime": LIFETIME_SECONDS},
    )
    return taken["epoch"], row["log_id"] if row["log_id"] != log_id else None


def holder(connection: Connection, stream: Stream) -> UUID | None:
    """Return the log id of the live run that works on the stream, if any."""
    row = connection.execute(
        """
        select log_id from softpro.leases l
        where integration_id = %s and entity_type = %s and not softpro.is_free(l)
        """,
        [stream.integration_id, stream.entity_type.value],
    ).fetchone()
    log_id: UUID | None = row["log_id"] if row else None
    return log_id


def lock_announcements(connection: Connection, stream: Stream) -> None:
    """Keep others from announcing a run over the stream until the surrounding transaction ends.

    Raises:
        LeaseHeld: with the log's id, if a live run works on the stream or an announced one is about to begin.
    """
    locks.lock_in_transaction(connection, Lock.ANNOUNCEMENTS, f"{stream.integration_id} {stream.entity_type.value}")
    # Check announced runs first: a run that begins between the two checks is then found by the second one.
    waiting = connection.execute(
        """
        select id from softpro.sync_logs
        where integration_id = %s and entity_type = %s and status = 'PENDING' and mode not in ('records', 'push')
          and started_at > clock_timestamp() - make_interval(secs => %s)
        order by started_at
        limit 1
        """,
        [stream.integration_id, stream.entity_type.value, ANNOUNCEMENT_SECONDS],
    ).fetchone()
    if waiting is not None:
        raise LeaseHeld(
            f"Another run over these {stream.entity_type.table} is about to begin; its log is {waiting['id']}",
            waiting["id"],
        )
    working = holder(connection, stream)
    if working is not None:
        raise _held(stream.entity_type, working)


def lock_free(connection: Connection, stream: Stream) -> None:
    """Keep all runs from the stream until the surrounding transaction ends. Raises LeaseHeld if a run works on it."""
    row = connection.execute(
        """
        select l.log_id, softpro.is_free(l) as free
        from softpro.leases l
        where l.integration_id = %s and l.entity_type = %s
        for update skip locked
        """,
        [stream.integration_id, stream.entity_type.value],
    ).fetchone()
    if row is None or not row["free"]:
        raise _held(stream.entity_type, row["log_id"] if row else None)


class Keeper:
    """A keeper of the leases of any number of runs, with one database session and one heartbeat for all of them."""

    def __init__(self, session: Connection) -> None:
        self._session = session
        self._runs: dict[UUID, Run] = {}
        self._lock = threading.Lock()

    def keep(self, run: Run) -> None:
        """Keep this run's lease too. Raises LeaseLost if another run owns the stream."""
        if run.epoch is None:
            return
        with self._lock:
            _occupy(self._session, run)
            self._runs[run.log_id] = run

    def beat(self) -> None:
        """Renew the leases. A lost one is only dropped here: the run's next fence raises LeaseLost."""
        with self._lock:
            for run in list(self._runs.values()):
                try:
                    _occupy(self._session, run)
                except LeaseLost:
                    del self._runs[run.log_id]

    def hand_over(self) -> None:
        """Hand the leases over to the next task."""
        with self._lock:
            for run in self._runs.values():
                _hand_over(self._session, run)


@contextmanager
def keeping(database: Database) -> Iterator[Keeper]:
    """Yield a keeper whose session lives as long as the block; afterwards, its leases are handed over."""
    with database.connect() as session:
        keeper, stop = Keeper(session), threading.Event()
        heart = threading.Thread(target=_beat, args=(keeper, stop), name="lease-heartbeat", daemon=True)
        heart.start()
        try:
            yield keeper
        finally:
            stop.set()
            heart.join()
            if not session.closed:
                keeper.hand_over()


def fence(connection: Connection, run: Run) -> None:
    """Fail the surrounding transaction unless the run still owns the stream. Raises LeaseLost."""
    if run.epoch is None:
        return
    row = connection.execute(
        """
        select from softpro.leases
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
          and log_id = %(log_id)s and epoch = %(epoch)s
        for key share
        """,
        {**run.stream.parameters, "log_id": run.log_id, "epoch": run.epoch},
    ).fetchone()
    if row is None:
        raise _lease_lost(run)


def release(connection: Connection, run: Run) -> None:
    """Release the lease if the run still owns it."""
    connection.execute(
        """
        update softpro.leases
        set log_id = null, backend_pid = null, backend_start = null, expires_at = null
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
          and log_id = %(log_id)s and epoch = %(epoch)s
        """,
        {**run.stream.parameters, "log_id": run.log_id, "epoch": run.epoch},
    )


def _occupy(session: Connection, run: Run) -> None:
    updated = session.execute(
        """
        update softpro.leases l
        set backend_pid = a.pid, backend_start = a.backend_start,
            expires_at = clock_timestamp() + make_interval(secs => %(lifetime)s)
        from pg_stat_activity a
        where l.integration_id = %(integration_id)s and l.entity_type = %(entity_type)s
          and l.log_id = %(log_id)s and l.epoch = %(epoch)s and a.pid = pg_backend_pid()
        """,
        {**run.stream.parameters, "log_id": run.log_id, "epoch": run.epoch, "lifetime": LIFETIME_SECONDS},
    )
    if updated.rowcount == 0:
        raise _lease_lost(run)


def _beat(keeper: Keeper, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        try:
            keeper.beat()
        except psycopg.Error as trouble:
            # The fence of their next transaction raises LeaseLost in the runs.
            log.warning(
                "lease_heartbeat_stopped: the database session that kept this process's leases is gone",
                extra={"error": type(trouble).__name__},
            )
            return


def _hand_over(session: Connection, run: Run) -> None:
    session.execute(
        """
        update softpro.leases
        set backend_pid = null, backend_start = null,
            expires_at = clock_timestamp() + make_interval(secs => %(handover)s)
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
          and log_id = %(log_id)s and epoch = %(epoch)s
        """,
        {**run.stream.parameters, "log_id": run.log_id, "epoch": run.epoch, "handover": HANDOVER_SECONDS},
    )


def _held(entity_type: EntityType, log_id: UUID | None) -> LeaseHeld:
    return LeaseHeld(
        f"Another run already syncs these {entity_type.table}" + (f"; its log is {log_id}" if log_id else ""), log_id
    )


def _lease_lost(run: Run) -> LeaseLost:
    return LeaseLost(f"Another run took over the {run.entity_type.table} of {run.organization_id}; landed records stay")
