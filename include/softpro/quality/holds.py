"""Batches that are held: not loaded, because of what was found in them as a whole, until a person decides.

    WAITING → APPROVED → LOADED    the next run loads it
            → REJECTED             its records are in quarantine
            → CLEARED              a later run found nothing of the kind any more, or something else

A stream has one open hold (WAITING or APPROVED) at most. What a hold is about never changes: where a run finds other
things, it closes that hold and opens another one, so that nobody approves what he has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from softpro.db import leases, queries, schedule
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType, Stream
from softpro.errors import BatchHeld, DecidedAlready, NotFoundHere
from softpro.quality import quarantine
from softpro.quality.batch import Finding
from softpro.timestamps import format_milliseconds


class Status(StrEnum):
    """The first two are open."""

    WAITING = "WAITING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    LOADED = "LOADED"
    CLEARED = "CLEARED"


OPEN = [Status.WAITING.value, Status.APPROVED.value]


@dataclass(frozen=True)
class Hold:
    """One row of `softpro.holds`."""

    id: UUID
    integration_id: UUID
    organization_id: str
    entity_type: str
    log_id: UUID
    status: str
    findings: list[Finding]
    records: int
    created_at: datetime
    updated_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None

    @property
    def stream(self) -> Stream:
        """Return the stream that the batch belongs to."""
        return Stream.of_row(self.integration_id, self.organization_id, self.entity_type)

    @property
    def about(self) -> set[tuple[str | None, str | None]]:
        """Column and rule of each finding."""
        return {(finding["column"], finding["rule"]) for finding in self.findings}

    def covers(self, findings: Sequence[Finding], records: int) -> bool:
        """Whether who approved it has seen as much: the same was found, in a batch that is not much larger, and the
        list fell not much more. How much of a list is there yet says nothing about how far it fell."""
        approved = {(finding["column"], finding["rule"]): finding for finding in self.findings}
        for finding in findings:
            seen = approved.get((finding["column"], finding["rule"]))
            if seen is None:
                return False
            if finding["column"] is None:
                if (finding["fallen"] - seen["fallen"]) * 10 > finding["rows"]:
                    return False
            elif records > 2 * self.records + 100:
                return False
        return True

    @property
    def told(self) -> str:
        """The findings, in one sentence."""
        return "; ".join(str(finding["message"]) for finding in self.findings)

    def line(self) -> str:
        """For the command line."""
        table, by = EntityType(self.entity_type).table, f" by {self.decided_by}" if self.decided_by else ""
        return (
            f"{self.id}  {self.organization_id}  {table}  {self.status}{by}, since "
            f"{format_milliseconds(self.created_at)}, {self.records} records: {self.told}"
            + (f" ({self.reason})" if self.reason else "")
        )

    def as_json(self) -> dict[str, Any]:
        """For the command line and HTTP; times as the vendor writes them."""
        return {
            "id": str(self.id),
            "integrationId": str(self.integration_id),
            "organizationId": self.organization_id,
            "entityType": self.entity_type,
            "logId": str(self.log_id),
            "status": self.status,
            "findings": [{name: finding[name] for name in ("column", "rule", "message")} for finding in self.findings],
            "records": self.records,
            "createdAt": format_milliseconds(self.created_at),
            "updatedAt": format_milliseconds(self.updated_at),
            "decidedBy": self.decided_by,
            "decidedAt": format_milliseconds(self.decided_at) if self.decided_at else None,
            "reason": self.reason,
        }


COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Hold.__dataclass_fields__))


def review(connection: Connection, run: Run, findings: Sequence[Finding], records: int) -> BatchHeld | None:
    """What becomes of a run's batch by what was found in it: None where it may be loaded, else why it is held.

    Call it inside a transaction, under the lease's fence, and raise what it returns once that is committed.
    """
    found = _rows(
        connection,
        """
        select {} from softpro.holds
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status = any(%(open)s)
        for update
        """,
        {**run.stream.parameters, "open": OPEN},
    )
    hold = found[0] if found else None
    about = {(finding["column"], finding["rule"]) for finding in findings}
    if hold is not None and hold.status == Status.APPROVED and hold.covers(findings, records):
        return None
    if hold is not None and (not about or hold.status == Status.APPROVED or about != hold.about):
        _close(connection, hold)
        hold = None
    if not about:
        return None
    again = hold is not None and hold.log_id == run.log_id
    values = {
        **run.stream.parameters,
        "log_id": run.log_id,
        "findings": Jsonb(list(findings)),
        "records": records,
    }
    if hold is None:
        query = """
        insert into softpro.holds (integration_id, organization_id, entity_type, log_id, findings, records)
        values (%(integration_id)s, %(organization_id)s, %(entity_type)s, %(log_id)s, %(findings)s, %(records)s)
        returning {}
        """
    else:
        values["id"] = hold.id
        query = """
        update softpro.holds
        set log_id = %(log_id)s, findings = %(findings)s, records = %(records)s, updated_at = now()
        where id = %(id)s and integration_id = %(integration_id)s
        returning {}
        """
    (hold,) = _rows(connection, query, values)
    return BatchHeld(_message(hold), again=again)


def is_waiting(connection: Connection, run: Run) -> bool:
    """Whether the stream has a hold that nobody has decided about."""
    return bool(
        connection.execute(
            """
            select from softpro.holds
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status = 'WAITING'
            """,
            run.stream.parameters,
        ).rowcount
    )


def close_settled_holds(connection: Connection, run: Run) -> None:
    """Closes what a full sweep, and an approved hold, left open, in the transaction that loads the last of it."""
    left_open = connection.execute(
        """
        select from softpro.cursors
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and sweep_total is not null
        union all
        select from softpro.holds
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status = 'APPROVED'
        """,
        run.stream.parameters,
    ).rowcount
    if not left_open:
        return
    more_to_load = connection.execute(
        """
        select from softpro.cursors
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and sweep_mode is not null
        union all
        (select from raw.pending
         where integration_id = %(integration_id)s and entity_type = %(entity_type)s
         limit 1)
        """,
        run.stream.parameters,
    ).rowcount
    if more_to_load:
        return
    connection.execute(
        """
        update softpro.cursors set sweep_total = null
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and sweep_total is not null
        """,
        run.stream.parameters,
    )
    connection.execute(
        """
        update softpro.holds set status = 'LOADED', updated_at = now()
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status = 'APPROVED'
        """,
        run.stream.parameters,
    )


def get(connection: Connection, integration_id: UUID, hold_id: UUID) -> Hold:
    """One hold of an integration. Raises NotFoundHere."""
    found = _rows(
        connection,
        "select {} from softpro.holds where id = %(id)s and integration_id = %(integration_id)s",
        {"id": hold_id, "integration_id": integration_id},
    )
    if not found:
        raise NotFoundHere(f"The integration has no hold with the id {hold_id}")
    return found[0]


def page(
    connection: Connection, integration_id: UUID, statuses: Sequence[str], limit: int, offset: int
) -> tuple[list[Hold], int]:
    """The integration's holds of these statuses, newest first, and how many there are in all."""
    return queries.page(
        connection,
        Hold,
        columns=COLUMNS,
        source="softpro.holds where integration_id = %(integration_id)s and status = any(%(statuses)s)",
        order="created_at desc, id",
        parameters={"integration_id": integration_id, "statuses": list(statuses)},
        limit=limit,
        offset=offset,
    )


def approve(connection: Connection, integration_id: UUID, hold_id: UUID, by: str, reason: str | None) -> Hold:
    """Lets the stream's next run load the batch, which is due at once. Raises NotFoundHere, DecidedAlready."""
    with connection.transaction():
        hold = _waiting(connection, integration_id, hold_id)
        return _decide(connection, hold, Status.APPROVED, by, reason)


def reject(connection: Connection, integration_id: UUID, hold_id: UUID, by: str, reason: str | None) -> Hold:
    """Moves the batch's records to quarantine, where they wait for a change at SoftPro, a replay, a full sync or a
    remap. What landed after it was found last is none of it, and stays pending.

    Raises NotFoundHere, DecidedAlready, LeaseHeld while a run has the records in its hands.
    """
    with connection.transaction():
        hold = get(connection, integration_id, hold_id)
        leases.lock_free(connection, hold.stream)
        hold = _waiting(connection, integration_id, hold_id)
        why = f"rejected by {by}: {reason}" if reason else f"rejected by {by}"
        quarantine.settle_rejected_batch(
            connection, hold.stream, log_id=hold.log_id, held_at=hold.updated_at, message=f"{why}; {hold.told}"
        )
        connection.execute(
            """
            update softpro.cursors set sweep_total = null
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s
            """,
            hold.stream.parameters,
        )
        return _decide(connection, hold, Status.REJECTED, by, reason)


def to_ask(connection: Connection, run_id: str, patience: timedelta, most: int) -> list[Hold]:
    """Holds that wait, and that nobody is asked about, of all organizations, oldest first: this run asks from now on.

    One whose question was left unanswered for longer than `patience` is asked about again. Asked again by the same run,
    the answer is the same.
    """
    with connection.transaction():
        return _rows(
            connection,
            """
            with asked as (
                update softpro.holds
                set asked_in = %(run_id)s, asked_at = case when asked_in = %(run_id)s then asked_at else now() end
                where id = any(array(
                    select id from softpro.holds
                    where status = 'WAITING'
                      and (asked_in is null or asked_in = %(run_id)s or asked_at < now() - %(patience)s)
                    order by created_at, id
                    limit %(most)s
                    for update
                ))
                returning *
            )
            select {} from asked order by created_at, id
            """,
            {"run_id": run_id, "patience": patience, "most": most},
        )


def unasked(connection: Connection, log_ids: Sequence[UUID]) -> int:
    """How many of these runs ended in a hold that nobody is asked about yet."""
    return int(
        queries.value(
            connection,
            """
        select count(*) as n from softpro.holds
        where status = 'WAITING' and asked_in is null and log_id = any(%s)
        """,
            [list(log_ids)],
        )
    )


def _message(hold: Hold) -> str:
    decide = f"python -m softpro holds approve {hold.organization_id} {hold.id}"
    return (
        f"The batch of {hold.records} {EntityType(hold.entity_type).table} of {hold.organization_id} is held, and "
        f"nothing of it was loaded: {hold.told}. If that is right, run `{decide}`, or answer in Airflow; if it is not, "
        "`holds reject`, or mend what is wrong: the next run looks again"
    )


def _close(connection: Connection, hold: Hold) -> None:
    connection.execute(
        "update softpro.holds set status = 'CLEARED', updated_at = now() where id = %s and integration_id = %s",
        [hold.id, hold.integration_id],
    )


def _decide(connection: Connection, hold: Hold, status: Status, by: str, reason: str | None) -> Hold:
    schedule.mark_due_now(connection, hold.integration_id, EntityType(hold.entity_type), settled=str(hold.id))
    (decided,) = _rows(
        connection,
        """
        update softpro.holds
        set status = %(status)s, decided_by = %(by)s, decided_at = now(), reason = %(reason)s, updated_at = now()
        where id = %(id)s and integration_id = %(integration_id)s
        returning {}
        """,
        {
            "id": hold.id,
            "integration_id": hold.integration_id,
            "status": status.value,
            "by": by,
            "reason": reason,
        },
    )
    return decided


def _waiting(connection: Connection, integration_id: UUID, hold_id: UUID) -> Hold:
    """The hold, locked for the transaction. Raises NotFoundHere, DecidedAlready."""
    connection.execute(
        "select from softpro.holds where id = %s and integration_id = %s for update", [hold_id, integration_id]
    )
    hold = get(connection, integration_id, hold_id)
    if hold.status != Status.WAITING:
        by = f" by {hold.decided_by}" if hold.decided_by else ""
        raise DecidedAlready(f"The hold {hold_id} is {hold.status}{by}: there is nothing to decide any more")
    return hold


def _rows(connection: Connection, query: str, parameters: dict[str, Any]) -> list[Hold]:
    composed = sql.SQL(query).format(COLUMNS)
    return connection.cursor(row_factory=class_row(Hold)).execute(composed, parameters).fetchall()
