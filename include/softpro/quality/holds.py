"""Hold batches that are suspicious as a whole until a user decides about them.

    WAITING → APPROVED → LOADED    the next run loads it
            → REJECTED             its records are in quarantine
            → CLEARED              a later run no longer found the problem, or found another one

A stream has at most one open hold (WAITING or APPROVED). The subject of a hold never changes. A run that finds other
problems closes the hold and opens another one, so that nothing is approved unseen.
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

from softpro.db import audit_log, leases, queries, schedule
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType, Stream
from softpro.errors import AlreadyDecided, BatchHeld, NotFoundHere
from softpro.json_codec import camel_case
from softpro.quality import quarantine
from softpro.quality.batch import Finding
from softpro.timestamps import format_milliseconds


class HoldStatus(StrEnum):
    """The status of a hold. The first two are open."""

    WAITING = "WAITING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    LOADED = "LOADED"
    CLEARED = "CLEARED"


OPEN = [HoldStatus.WAITING.value, HoldStatus.APPROVED.value]


@dataclass(frozen=True)
class Hold:
    """A row of `softpro.holds`."""

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
        """Return the column and rule of each finding."""
        return {(finding["column"], finding["rule"]) for finding in self.findings}

    def covers(self, findings: Sequence[Finding], records: int) -> bool:
        """Return whether the approval covers these findings.

        The same rules must have been found before, the batch must not have grown much, and the list must not have
        fallen much further. For a fallen list the size of the batch does not count, because it only shows how much is
        fetched so far.
        """
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
    def summary(self) -> str:
        """Return the findings in one sentence."""
        return "; ".join(str(finding["message"]) for finding in self.findings)

    def line(self) -> str:
        """Return the hold as a line for the command line."""
        table, by = EntityType(self.entity_type).table, f" by {self.decided_by}" if self.decided_by else ""
        return (
            f"{self.id}  {self.organization_id}  {table}  {self.status}{by}, since "
            f"{format_milliseconds(self.created_at)}, {self.records} records: {self.summary}"
            + (f" ({self.reason})" if self.reason else "")
        )

    def as_json(self) -> dict[str, Any]:
        """Return the hold for the command line and HTTP, with times as the vendor writes them."""
        findings = [{name: finding[name] for name in ("column", "rule", "message")} for finding in self.findings]
        return {**camel_case(self), "findings": findings}


COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Hold.__dataclass_fields__))


def review(connection: Connection, run: Run, findings: Sequence[Finding], records: int) -> BatchHeld | None:
    """Decide about a run's batch by its findings. Return None if it may load, otherwise the error to raise.

    Call it inside a transaction, under the lease's fence, and raise the returned error after the commit.
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
    if hold is not None and hold.status == HoldStatus.APPROVED and hold.covers(findings, records):
        return None
    if hold is not None and (not about or hold.status == HoldStatus.APPROVED or about != hold.about):
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
    """Return whether the stream has a hold without a decision."""
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
    """Close the stream's approved hold and finished full sweep once nothing is left to load.

    Call it in the transaction that loads the last part.
    """
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
    """Return one hold of an integration.

    Raises:
        NotFoundHere: the integration has no such hold.
    """
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
    """Return a page of the integration's holds of these statuses, newest first, and the number of all such holds."""
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
    """Let the stream's next run load the batch, and make that run due at once.

    Raises:
        NotFoundHere: the integration has no such hold.
        AlreadyDecided: the hold does not wait for a decision.
    """
    with connection.transaction():
        hold = _waiting(connection, integration_id, hold_id)
        return _decide(connection, hold, HoldStatus.APPROVED, by, reason)


def reject(connection: Connection, integration_id: UUID, hold_id: UUID, by: str, reason: str | None) -> Hold:
    """Move the batch's records to quarantine. A change at SoftPro, a replay, a full sync or a remap loads them.

    Records that landed after the batch was last found are not part of it and stay pending.

    Raises:
        NotFoundHere: the integration has no such hold.
        AlreadyDecided: the hold does not wait for a decision.
        LeaseHeld: a run works on the stream.
    """
    with connection.transaction():
        hold = get(connection, integration_id, hold_id)
        leases.lock_free(connection, hold.stream)
        hold = _waiting(connection, integration_id, hold_id)
        why = f"rejected by {by}: {reason}" if reason else f"rejected by {by}"
        quarantine.settle_rejected_batch(
            connection, hold.stream, log_id=hold.log_id, held_at=hold.updated_at, message=f"{why}; {hold.summary}"
        )
        connection.execute(
            """
            update softpro.cursors set sweep_total = null
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s
            """,
            hold.stream.parameters,
        )
        return _decide(connection, hold, HoldStatus.REJECTED, by, reason)


def claim_unasked(connection: Connection, run_id: str, patience: timedelta, most: int) -> list[Hold]:
    """Claim waiting holds of all organizations for this run to ask about, and return them, oldest first.

    A hold is free if no run asks about it, or if a run asked longer than `patience` ago without a decision. Claiming
    again in the same run returns the same holds.
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


def ask_again(connection: Connection, hold_id: UUID) -> None:
    """Let the next run ask about the hold again."""
    connection.execute("update softpro.holds set asked_in = null where id = %s", [hold_id])


def count_unasked(connection: Connection, log_ids: Sequence[UUID]) -> int:
    """Count the holds of these runs for which no decision was requested yet."""
    query = """
        select count(*) from softpro.holds where status = 'WAITING' and asked_in is null and log_id = any(%s)
    """
    return int(queries.value(connection, query, [list(log_ids)]))


def _message(hold: Hold) -> str:
    decide = f"python -m softpro holds approve {hold.organization_id} {hold.id}"
    return (
        f"The batch of {hold.records} {EntityType(hold.entity_type).table} of {hold.organization_id} is held, and "
        f"nothing of it was loaded: {hold.summary}. If the batch is correct, run `{decide}` or approve it in Airflow. "
        "Otherwise run `holds reject`, or correct the cause: the next run checks again"
    )


def _close(connection: Connection, hold: Hold) -> None:
    connection.execute(
        "update softpro.holds set status = 'CLEARED', updated_at = now() where id = %s and integration_id = %s",
        [hold.id, hold.integration_id],
    )


def _decide(connection: Connection, hold: Hold, status: HoldStatus, by: str, reason: str | None) -> Hold:
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
    decision = {"status": status.value, "reason": reason}
    audit_log.record(connection, "hold.decide", integration_id=hold.integration_id, subject=hold.id, after=decision)
    return decided


def _waiting(connection: Connection, integration_id: UUID, hold_id: UUID) -> Hold:
    """Lock the hold for the transaction, and return it.

    Raises:
        NotFoundHere: the integration has no such hold.
        AlreadyDecided: the hold does not wait for a decision.
    """
    connection.execute(
        "select from softpro.holds where id = %s and integration_id = %s for update", [hold_id, integration_id]
    )
    hold = get(connection, integration_id, hold_id)
    if hold.status != HoldStatus.WAITING:
        by = f" by {hold.decided_by}" if hold.decided_by else ""
        raise AlreadyDecided(f"The hold {hold_id} is {hold.status}{by}: nothing is left to decide")
    return hold


def _rows(connection: Connection, query: str, parameters: dict[str, Any]) -> list[Hold]:
    composed = sql.SQL(query).format(COLUMNS)
    return connection.cursor(row_factory=class_row(Hold)).execute(composed, parameters).fetchall()
