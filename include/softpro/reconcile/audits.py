"""Audits: one complete sweep of a stream each, from its first page to what became of the differences it found.

    SWEEPING → SWEPT → CONFIRMING → (WAITING →) DELETING → COMPLETED

An audit is its stream's, not its run's: whatever run lands the sweep's pages notes what they hold, and a run that died
leaves its audit to the next one. `run_id` names the run that works on it; the steps of any other find it gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row

from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType, Mode, Stream
from softpro.errors import LeaseLost
from softpro.sync import cursors
from softpro.sync.cursors import Cursor
from softpro.sync.paging import Position
from softpro.timestamps import format_milliseconds

UNFINISHED_MAX_AGE = timedelta(days=1)
"""An audit that was left alone is gone on with for so long; what it saw before that says too little about today."""


class Status(StrEnum):
    """`WAITING`: for a person, as more would be deleted than the limit allows. The last three end an audit."""

    SWEEPING = "SWEEPING"
    SWEPT = "SWEPT"
    CONFIRMING = "CONFIRMING"
    WAITING = "WAITING"
    DELETING = "DELETING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"


class Decision(StrEnum):
    """What became of a mass delete that a person was asked about."""

    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    NO_ANSWER = "NO_ANSWER"


@dataclass(frozen=True)
class Audit:
    """One row of `softpro.audits`; hashes as 128 binary digits. The counts are explained in docs/data-model.md."""

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
        """Both sides hold the same, so far as nothing is in flux or can't be read."""
        return self.our_hash_after is not None and self.our_hash_after == self.vendor_hash

    def counts(self) -> dict[str, int]:
        """What it found, and what became of it."""
        return {name: getattr(self, name) for name in COUNTS}

    def line(self) -> str:
        """For the command line."""
        sides = (self.vendor_count, self.our_count_before, self.our_count_after)
        vendor, before, after = ("?" if count is None else count for count in sides)
        return (
            f"{EntityType(self.entity_type).table} {self.status}: SoftPro has {vendor}, here were {before} and are "
            f"{after}, {'the same' if self.converged else 'not the same'}; {self.missing_here} were missing here, "
            f"{self.differing} differed, {self.not_loaded} had not been loaded, {self.missing_there} were not listed: "
            f"{self.deleted} deleted, {self.found} there after all, {self.waiting} waiting; "
            f"{self.unreadable} unreadable, {self.in_flux} in flux"
        )

    def problems(self) -> list[str]:
        """What keeps it from having ended well, and what to do about it."""
        told = []
        if self.status == Status.WAITING:
            told.append(
                f"SoftPro no longer has {self.waiting} of {self.our_count_after} records, which is more than the limit "
                "allows: nothing was deleted. Have a look at softpro.audit_differences; if it is right, run "
                f"`python -m softpro reconcile {self.organization_id} "
                f"--entity {EntityType(self.entity_type).table} --yes` within a day"
            )
        if self.unanswered:
            told.append(f"SoftPro did not answer for {self.unanswered} records: the next reconcile asks for them again")
        if self.status == Status.FAILED:
            told.append(str(self.error_message))
        return told

    def as_json(self) -> dict[str, Any]:
        """For the command line: counts, hashes as hexadecimal digits, times as the vendor writes them."""
        return {
            "auditId": str(self.id),
            "organizationId": self.organization_id,
            "entityType": self.entity_type,
            "status": self.status,
            "converged": self.converged,
            "vendor": _side(self.vendor_count, self.vendor_hash),
            "before": _side(self.our_count_before, self.our_hash_before),
            "after": _side(self.our_count_after, self.our_hash_after),
            **{_camel(name): count for name, count in self.counts().items()},
            "decision": self.decision,
            "decidedBy": self.decided_by,
            "errorMessage": self.error_message,
            "startedAt": format_milliseconds(self.started_at),
            "completedAt": format_milliseconds(self.completed_at) if self.completed_at else None,
        }


COUNTS = (
    *("missing_here", "differing", "missing_there", "not_loaded", "in_flux"),
    *("unreadable", "found", "unanswered", "deleted", "waiting"),
)
COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Audit.__dataclass_fields__))
OPEN = ["SWEEPING", "SWEPT", "CONFIRMING", "WAITING", "DELETING"]
LEFT_BY_THE_DEAD = [status for status in OPEN if status != "WAITING"]


def of_run(connection: Connection, run_id: str) -> list[Audit]:
    """The audits that a run works on, or worked on last, by organization."""
    query = sql.SQL("select {} from softpro.audits where run_id = %s order by organization_id, entity_type")
    return _rows(connection, query.format(COLUMNS), [run_id])


def get(connection: Connection, audit_id: UUID) -> Audit:
    """An audit as it stands now."""
    (audit,) = _rows(connection, sql.SQL("select {} from softpro.audits where id = %s").format(COLUMNS), [audit_id])
    return audit


def owned(connection: Connection, audit: Audit, *statuses: Status) -> Audit:
    """The audit as it stands now, locked for the transaction. Raises LeaseLost where it is another run's by now, or has
    left these statuses."""
    query = sql.SQL("select {} from softpro.audits where id = %s for update").format(COLUMNS)
    (found,) = _rows(connection, query, [audit.id])
    if found.run_id != audit.run_id or found.status not in statuses:
        raise LeaseLost(
            f"The audit of the {EntityType(audit.entity_type).table} of {audit.organization_id} is {found.status}, in "
            f"the run {found.run_id}: nothing is deleted by this one"
        )
    return found


def begin(connection: Connection, run: Run, run_id: str, *, approving: bool = False) -> Audit:
    """The stream's audit under this run: the one that a run left unfinished within a day, or a new one.

    With `approving`, also one that waits for a person, who has just come. A new audit sends the stream's cursor back to
    the first record, in the same transaction: what is noted from then on, by whatever run, is a sweep from its start.
    Call it inside a transaction, under the lease's fence.
    """
    statuses = OPEN if approving else LEFT_BY_THE_DEAD
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
        end(connection, audit, Status.SUPERSEDED, "A later audit of the stream began before this one had ended")
    cursor = cursors.read(connection, run)
    sweep = Mode.FULL if cursor.sweep is Mode.FULL else Mode.DELTA  # a full one does all that a delta one does
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
    connection.execute(  # what shows that the table was not emptied by a crash
        "insert into softpro.audit_seen (audit_id, organization_id, entity_id) values (%s, %s, '')",
        [audit.id, audit.organization_id],
    )
    return audit


def decide(connection: Connection, audit: Audit, decision: Decision, by: str | None) -> Audit:
    """Notes what was decided about a mass delete, and by whom: approved, it can go on. Raises LeaseLost."""
    with connection.transaction():
        owned(connection, audit, Status.WAITING)
        connection.execute(
            """
            update softpro.audits
            set status = 'DELETING', decision = %(decision)s, decided_by = %(by)s, decided_at = now()
            where id = %(id)s
            """,
            {"id": audit.id, "decision": decision, "by": by},
        )
        if decision is not Decision.APPROVED:
            connection.execute(
                "update softpro.audit_differences set outcome = 'SPARED' where audit_id = %s and outcome = 'CONFIRMED'",
                [audit.id],
            )
    return get(connection, audit.id)


def end(connection: Connection, audit: Audit, status: Status, message: str | None = None) -> None:
    """Closes an audit and throws away what it has seen."""
    connection.execute(
        "update softpro.audits set status = %s, completed_at = now(), error_message = %s where id = %s",
        [status, message, audit.id],
    )
    connection.execute("delete from softpro.audit_seen where audit_id = %s", [audit.id])


def waiting_ids(connection: Connection, audit: Audit, most: int) -> list[str]:
    """Some of the ids that would be deleted."""
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
    return _rows(connection, query, {**run.stream.parameters, "statuses": OPEN})


def _rows(connection: Connection, query: sql.Composed, parameters: Any) -> list[Audit]:
    return connection.cursor(row_factory=class_row(Audit)).execute(query, parameters).fetchall()


def _side(count: int | None, digits: str | None) -> dict[str, Any] | None:
    return None if count is None or digits is None else {"records": count, "hash": f"{int(digits, 2):032x}"}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
