"""Store audits: each is one complete sweep of a stream, with the outcome of every difference it found.

    SWEEPING → SWEPT → CONFIRMING → (WAITING →) DELETING → COMPLETED

An audit belongs to its stream, not to its run. Any run that lands the sweep's pages records what they hold, and the
next run continues the audit of a run that died. `run_id` names the run that works on it; other runs get LeaseLost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row

from softpro.db import audit_log
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType, Mode, Stream
from softpro.errors import LeaseLost
from softpro.json_codec import camel_case
from softpro.sync import cursors
from softpro.sync.cursors import Cursor
from softpro.sync.paging import Position

UNFINISHED_MAX_AGE = timedelta(days=1)
"""An interrupted audit is continued until this age; after that, what it saw is too old to be believed."""


class AuditStatus(StrEnum):
    """The state of an audit. WAITING: a user must approve, as the limit is exceeded. The last three end an audit."""

    SWEEPING = "SWEEPING"
    SWEPT = "SWEPT"
    CONFIRMING = "CONFIRMING"
    WAITING = "WAITING"
    DELETING = "DELETING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"


class AuditDecision(StrEnum):
    """The decision about a mass delete that needs a user's approval."""

    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    NO_ANSWER = "NO_ANSWER"


@dataclass(frozen=True)
class Audit:
    """A row of `softpro.audits`; hashes as 128 binary digits. docs/data-model.md explains the counts."""

    id: UUID
    integration_id: UUID
    organization_id: str
    entity_type: str
    run_id: str
    status: str
    started_at: datetime
    completed_at: datetime | None
    vendor_count: int | None
    vendor_hash: str | None
    our_count_before: int | None
    our_hash_before: str | None
    our_count_after: int | None
    our_hash_after: str | None
    in_flux: int
    missing_here: int
    differing: int
    missing_there: int
    not_loaded: int
    unreadable: int
    found: int
    unanswered: int
    deleted: int
    waiting: int
    decision: str | None
    decided_by: str | None
    error_message: str | None

    @property
    def stream(self) -> Stream:
        """Return the stream that the audit is about."""
        return Stream.of_row(self.integration_id, self.organization_id, self.entity_type)

    @property
    def converged(self) -> bool:
        """Return whether both sides hold the same records, apart from those in flux or unreadable."""
        return self.our_hash_after is not None and self.our_hash_after == self.vendor_hash

    def counts(self) -> dict[str, int]:
        """Return the counts of differences and of their outcomes."""
        return {name: getattr(self, name) for name in COUNTS}

    def line(self) -> str:
        """Return the audit in one line, for the command line."""
        sides = (self.vendor_count, self.our_count_before, self.our_count_after)
        vendor, before, after = ("?" if count is None else count for count in sides)
        return (
            f"{EntityType(self.entity_type).table} {self.status}: SoftPro has {vendor}, local before {before} and now "
            f"{after}, {'in sync' if self.converged else 'not in sync'}; {self.missing_here} were missing locally, "
            f"{self.differing} differed, {self.not_loaded} were not loaded, {self.missing_there} were not listed: "
            f"{self.deleted} deleted, {self.found} still exist, {self.waiting} waiting; "
            f"{self.unreadable} unreadable, {self.in_flux} in flux"
        )

    def problems(self) -> list[str]:
        """Return the problems of the audit, each with what to do about it."""
        problems = []
        if self.status == AuditStatus.WAITING:
            problems.append(
                f"SoftPro no longer has {self.waiting} of {self.our_count_after} records, which is more than the limit "
                "allows: nothing was deleted. Check softpro.audit_differences; if the deletes are right, run "
                f"`python -m softpro reconcile {self.organization_id} "
                f"--entity {EntityType(self.entity_type).table} --yes` within a day"
            )
        if self.unanswered:
            problems.append(
                f"SoftPro did not answer for {self.unanswered} records: the next reconcile requests them again"
            )
        if self.status == AuditStatus.FAILED:
            problems.append(str(self.error_message))
        return problems

    def as_json(self) -> dict[str, Any]:
        """Return the audit as JSON: counts, hashes as hexadecimal digits, times in SoftPro's format."""
        return {
            "auditId": str(self.id),
            **camel_case(self, "organization_id", "entity_type", "status", "converged"),
            "vendor": _side(self.vendor_count, self.vendor_hash),
            "before": _side(self.our_count_before, self.our_hash_before),
            "after": _side(self.our_count_after, self.our_hash_after),
            **camel_case(self, *COUNTS, "decision", "decided_by", "error_message", "started_at", "completed_at"),
        }


COUNTS = (
    *("missing_here", "differing", "missing_there", "not_loaded", "in_flux"),
    *("unreadable", "found", "unanswered", "deleted", "waiting"),
)
COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Audit.__dataclass_fields__))
OPEN_STATUSES = ["SWEEPING", "SWEPT", "CONFIRMING", "WAITING", "DELETING"]
RESUMABLE_STATUSES = [status for status in OPEN_STATUSES if status != "WAITING"]


def of_run(connection: Connection, run_id: str) -> list[Audit]:
    """Return the audits that a run works on or worked on last, by organization."""
    query = sql.SQL("select {} from softpro.audits where run_id = %s order by organization_id, entity_type")
    return _rows(connection, query.format(COLUMNS), [run_id])


def get(connection: Connection, audit_id: UUID) -> Audit:
    """Return the current state of an audit."""
    (audit,) = _rows(connection, sql.SQL("select {} from softpro.audits where id = %s").format(COLUMNS), [audit_id])
    return audit


def lock_owned(connection: Connection, audit: Audit, *statuses: AuditStatus) -> Audit:
    """Lock the audit for the transaction and return its current state.

    Raises:
        LeaseLost: another run took it over, or it left these statuses.
    """
    query = sql.SQL("select {} from softpro.audits where id = %s for update").format(COLUMNS)
    (found,) = _rows(connection, query, [audit.id])
    if found.run_id != audit.run_id or found.status not in statuses:
        raise LeaseLost(
            f"The audit of the {EntityType(audit.entity_type).table} of {audit.organization_id} is {found.status} in "
            f"run {found.run_id}: this run deletes nothing"
        )
    return found


def begin(connection: Connection, run: Run, run_id: str, *, approving: bool = False) -> Audit:
    """Take over the stream's unfinished audit of the last day, or begin a new one, and return it.

    A new audit resets the stream's cursor to the first record in the same transaction. The records that any run sees
    from then on form a sweep from its start. Call it in a transaction, under the lease's fence.

    Args:
        approving: also take over an audit that waits for approval.
    """
    statuses = OPEN_STATUSES if approving else RESUMABLE_STATUSES
    query = sql.SQL(
        """
        update softpro.audits set run_id = %(run_id)s
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
          and status = any(%(statuses)s) and started_at > now() - %(patience)s
        returning {}
        """
    ).format(COLUMNS)
    left = _rows(
        connection,
        query,
        {**run.stream.parameters, "run_id": run_id, "statuses": statuses, "patience": UNFINISHED_MAX_AGE},
    )
    if left:
        return left[0]
    for audit in _open(connection, run):
        close(connection, audit, AuditStatus.SUPERSEDED, "A later audit of the stream began before this one ended")
    cursor = cursors.read(connection, run)
    sweep = Mode.FULL if cursor.sweep is Mode.FULL else Mode.DELTA  # a full sweep includes a delta sweep
    cursors.write(connection, run, Cursor(Position(), sweep, True))
    query = sql.SQL(
        """
        insert into softpro.audits
            (integration_id, organization_id, entity_type, run_id, log_id, synced_until)
        values (%(integration_id)s, %(organization_id)s, %(entity_type)s, %(run_id)s, %(log_id)s, %(synced_until)s)
        returning {}
        """
    ).format(COLUMNS)
    (audit,) = _rows(
        connection,
        query,
        {
            **run.stream.parameters,
            "run_id": run_id,
            "log_id": run.log_id,
            "synced_until": cursor.position.updated_from,
        },
    )
    connection.execute(  # a marker: without it, a crash has emptied the unlogged table
        "insert into softpro.audit_seen (audit_id, organization_id, entity_id) values (%s, %s, '')",
        [audit.id, audit.organization_id],
    )
    return audit


def decide(connection: Connection, audit: Audit, decision: AuditDecision, by: str | None) -> Audit:
    """Record the decision about a mass delete and the user who made it. Raises LeaseLost."""
    with connection.transaction():
        lock_owned(connection, audit, AuditStatus.WAITING)
        connection.execute(
            """
            update softpro.audits
            set status = 'DELETING', decision = %(decision)s, decided_by = %(by)s, decided_at = now()
            where id = %(id)s
            """,
            {"id": audit.id, "decision": decision, "by": by},
        )
        if decision is not AuditDecision.APPROVED:
            connection.execute(
                "update softpro.audit_differences set outcome = 'SPARED' where audit_id = %s and outcome = 'CONFIRMED'",
                [audit.id],
            )
        audit_log.record(
            connection,
            "reconcile.decide",
            integration_id=audit.integration_id,
            subject=audit.id,
            after={"decision": decision, "deletes": audit.waiting},
        )
    return get(connection, audit.id)


def close(connection: Connection, audit: Audit, status: AuditStatus, message: str | None = None) -> None:
    """Close an audit and delete its sightings."""
    connection.execute(
        "update softpro.audits set status = %s, completed_at = now(), error_message = %s where id = %s",
        [status, message, audit.id],
    )
    connection.execute("delete from softpro.audit_seen where audit_id = %s", [audit.id])


def waiting_ids(connection: Connection, audit: Audit, most: int) -> list[str]:
    """Return at most `most` of the ids that would be deleted."""
    rows = connection.execute(
        """
        select entity_id from softpro.audit_differences
        where audit_id = %s and outcome = 'CONFIRMED'
        order by entity_id
        limit %s
        """,
        [audit.id, most],
    ).fetchall()
    return [row["entity_id"] for row in rows]


def _open(connection: Connection, run: Run) -> list[Audit]:
    query = sql.SQL(
        """
        select {} from softpro.audits
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status = any(%(statuses)s)
        """
    ).format(COLUMNS)
    return _rows(connection, query, {**run.stream.parameters, "statuses": OPEN_STATUSES})


def _rows(connection: Connection, query: sql.Composed, parameters: Any) -> list[Audit]:
    return connection.cursor(row_factory=class_row(Audit)).execute(query, parameters).fetchall()


def _side(count: int | None, digits: str | None) -> dict[str, Any] | None:
    return None if count is None or digits is None else {"records": count, "hash": f"{int(digits, 2):032x}"}
