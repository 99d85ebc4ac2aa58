"""Sends records that were changed here to SoftPro: each compared with what stands there now, and only where nobody else
changed it meanwhile.

A batch is fetched first, where the version that stands there is not known. What changed there is loaded, so that both
sides are brought together before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from softpro.db import locks, outbox, sync_logs
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.db.locks import Lock
from softpro.db.outbox import Edit
from softpro.errors import (
    ConflictError,
    ForbiddenError,
    NetworkError,
    OutcomeUnknown,
    RecordNotFound,
    ServerError,
    UsageError,
    ValidationError,
)
from softpro.softpro360 import creates
from softpro.softpro360.calls import may_have_happened
from softpro.softpro360.client import Client
from softpro.softpro360.contract import LAG
from softpro.softpro360.creates import SURFACING_DELAY
from softpro.softpro360.records import Record, Unreadable
from softpro.sync import cursors
from softpro.sync.land import Batch, land
from softpro.writeback import conflicts, push_attempts
from softpro.writeback.plan import EditedRecord, Plan, edited_records, plan_pushes
from softpro.writeback.settle import PushResponse, settle_deleted_remotely, settle_missing, settle_sent

SETTLE_BATCH = 25
"""Answers that are settled in one transaction."""


BLOCKED_RETRY_DELAY = timedelta(minutes=5)
"""What waits for a person is looked at so often."""

T = TypeVar("T")

LoadRecords = Callable[[Collection[str]], None]
"""Maps, checks and loads what is pending of the records of these ids."""

DeleteGuard = Callable[[EditedRecord], str | None]
"""Why a delete is not sent; None where it is."""


@dataclass
class Counts:
    """What became of the records of a push. `waiting`: they are tried again later; `failed`: not by themselves."""

    sent: int = 0
    agreed: int = 0
    deleted: int = 0
    waiting: set[UUID] = field(default_factory=set)
    failed: set[UUID] = field(default_factory=set)


@dataclass
class Sender:
    """Sends the records of one run. `connection`, in autocommit, holds a lock on each while it is sent; nobody else
    sends it meanwhile."""

    connection: Connection
    client: Client
    run: Run
    load: LoadRecords
    deletes: DeleteGuard
    counts: Counts = field(default_factory=Counts)
    _answered: list[PushResponse] = field(default_factory=list)
    _etags: dict[UUID, str | None] = field(default_factory=dict)

    def send(self, ids: Sequence[UUID]) -> None:
        """Sends what is to be sent of these records. Raises what keeps all of them from being sent; what was sent
        before is settled."""
        self.counts.waiting.difference_update(ids)
        self.counts.failed.difference_update(ids)
        mine = [roi_id for roi_id in ids if self._lock(roi_id)]
        self.counts.waiting.update(set(ids) - set(mine))
        try:
            self._bring_together(mine)
            for plan in self._plans(mine):
                self._send(plan)
                if len(self._answered) >= SETTLE_BATCH:
                    self._settle()
        finally:
            self._settle()
            for roi_id in mine:
                locks.unlock(self.connection, Lock.PUSH, roi_id)

    def _lock(self, roi_id: UUID) -> bool:
        return locks.try_lock(self.connection, Lock.PUSH, roi_id)

    def _changed(self, ids: Sequence[UUID]) -> list[EditedRecord]:
        return edited_records(self.connection, self.run.stream, ids)

    def _bring_together(self, ids: Sequence[UUID]) -> None:
        """Fetches what stands at SoftPro where that is not known, and loads what changed there."""
        newer: list[str] = []
        for record in self._changed(ids):
            if record.operation != "UPDATE" or record.entity_id is None:
                continue
            held = record.held
            if held is not None and (held.pending or held.deleted_at is not None):
                newer.append(record.entity_id)
            if (held is None or held.etag is None or held.pending) and self._fetch(record, record.entity_id):
                newer.append(record.entity_id)
        if newer:
            self.load(newer)

    def _fetch(self, changed: EditedRecord, entity_id: str) -> bool:
        """Asks for a record; one that differs from what we hold is landed. Returns whether it was."""
        try:
            record = self._asking(lambda: self.client.record(self.run.entity_type, entity_id))
        except RecordNotFound as missing:
            self._missing(changed, missing)
            return False
        except (ServerError, NetworkError, ForbiddenError) as failed:
            self._failed(changed, failed)
            return False
        if isinstance(record, Unreadable):
            self._failed(changed, UsageError(f"What SoftPro has of it can't be read: {record.reason}"))
            return False
        if changed.held is not None:
            if record.key.updated_at < changed.held.updated_at:  # a replica that is behind
                self._postpone(changed, "SoftPro does not show its latest version yet", LAG)
                return False
            if record.payload_hash == changed.held.payload_hash:
                self._etags[changed.roi_id] = record.etag
                return False
        with self.connection.transaction():
            cursors.mark_load_due(self.connection, self.run.stream)
            land(self.connection, self.run, Batch([record], None, self.client.asked_at, 1))
        self._etags[changed.roi_id] = record.etag
        return True

    def _plans(self, ids: Sequence[UUID]) -> list[Plan]:
        in_review = conflicts.records_in_review(self.connection, self.run.stream)
        left = [
            record
            for record in self._changed(ids)
            if record.roi_id not in in_review | self.counts.waiting | self.counts.failed
        ]
        settled = set(ids) - {record.roi_id for record in left} - self.counts.waiting - self.counts.failed
        push_attempts.clear(self.connection, self.run.stream, settled - in_review)
        self.counts.agreed += len(settled - in_review)
        return plan_pushes(self.connection, self.run.stream, left)

    def _send(self, plan: Plan) -> None:
        record = plan.record
        try:
            if plan.problem is not None:
                raise UsageError(plan.problem)
            match record.operation:
                case "DELETE":
                    self._delete(plan)
                case "CREATE":
                    self._create(plan)
                case _:
                    self._update(plan)
        except OutcomeUnknown as unknown:
            self._postpone(record, str(unknown), unknown.due_at)
        except RecordNotFound as missing:
            self._missing(record, missing)
        except ConflictError:
            self._conflict(record)
        except (ValidationError, ForbiddenError, UsageError, ValueError, TypeError) as refused:
            self._failed(record, refused, for_good=not isinstance(refused, ForbiddenError))
        except (ServerError, NetworkError) as failed:
            if may_have_happened(failed):
                self._postpone(record, f"{failed}: whether it was done will be seen", SURFACING_DELAY)
            else:
                self._failed(record, failed)

    def _update(self, plan: Plan) -> None:
        record, entity_id = plan.record, plan.record.entity_id
        assert entity_id is not None
        if record.held is None or record.held.deleted_at is not None:
            self._postpone(record, "what SoftPro has of it was not loaded", LAG)
            return
        if record.held.pending or record.held.quarantined:
            why = "is in quarantine" if record.held.quarantined else "was not loaded"
            self._postpone(
                record, f"What SoftPro has of it {why}, so nobody can tell what it changed", BLOCKED_RETRY_DELAY
            )
            return
        if not plan.fields:
            self._agree(plan)
            return
        etag = self._etags.get(record.roi_id, record.held.etag)
        answer = self._asking(lambda: self.client.change(self.run.entity_type, entity_id, plan.fields, etag))
        self._answer(plan, entity_id, answer)

    def _create(self, plan: Plan) -> None:
        record, answers = plan.record, list[Record | Unreadable]()
        wanted = creates.record_spec(self.run.entity_type, str(record.roi_id), plan.fields, answers.append)
        entity_id = self._asking(lambda: creates.create(self.connection, self.client, self.run.integration_id, wanted))
        # Where it was made before, and the answer lost, nobody knows what of the later edits went with it.
        edits = plan.edits if answers else [edit for edit in plan.edits if edit.operation == "CREATE"]
        self._answer(plan, entity_id, answers[0] if answers else None, edits)

    def _delete(self, plan: Plan) -> None:
        record, entity_id = plan.record, plan.record.entity_id
        if entity_id is None:
            integration_id = self.run.integration_id
            entity_id = self._asking(
                lambda: creates.find_earlier_create(
                    self.connection, self.client, integration_id, self.run.entity_type, str(record.roi_id)
                )
            )
        if entity_id is None:  # SoftPro never had it
            self._agree(plan)
            return
        if why := self.deletes(record):
            self._postpone(record, why, BLOCKED_RETRY_DELAY)
            return
        try:
            self._asking(lambda: self.client.delete(self.run.entity_type, entity_id))
        except RecordNotFound as missing:
            if not missing.error_code:
                raise
        settle_deleted_remotely(self.connection, self.run, record.roi_id, entity_id, record.edits, self.client.asked_at)
        self.counts.deleted += 1

    def _answer(
        self, plan: Plan, entity_id: str, answer: Record | Unreadable | None, edits: Sequence[Edit] | None = None
    ) -> None:
        told = answer if isinstance(answer, Record) else None
        sent = plan.edits if edits is None else edits
        self._answered.append(PushResponse(plan.record.roi_id, entity_id, sent, told, self.client.asked_at))
        self.counts.sent += 1

    def _agree(self, plan: Plan) -> None:
        """There is nothing to send: SoftPro holds it, or never had it."""
        outbox.settle_edits(self.connection, [edit.id for edit in plan.edits], "AGREED", self.run.log_id)
        push_attempts.clear(self.connection, self.run.stream, [plan.record.roi_id])
        self.counts.agreed += 1

    def _settle(self) -> None:
        answered, self._answered = self._answered, []
        if answered:
            settle_sent(self.connection, self.run, answered)

    def _conflict(self, record: EditedRecord) -> None:
        """Somebody changed it there since it was fetched: it is fetched again, once what changed must show."""
        self.connection.execute(
            """
            update raw.records set etag = null
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s and entity_id = %(entity_id)s
            """,
            {**self.run.stream.parameters, "entity_id": record.entity_id},
        )
        self._postpone(record, "it changed at SoftPro meanwhile, and is fetched again", LAG)

    def _missing(self, record: EditedRecord, missing: RecordNotFound) -> None:
        """A 404 is believed when it is repeated at least the vendor's lag later."""
        if not missing.error_code:
            self._failed(record, missing)
            return
        before = push_attempts.find_blocked(self.connection, self.run.stream, [record.roi_id]).get(record.roi_id)
        first = before.missing_at if before is not None else None
        if first is not None and record.entity_id is not None and self.client.asked_at - first >= LAG:
            self._postpone(record, "SoftPro has deleted it", BLOCKED_RETRY_DELAY)  # unless that is decided about now
            settle_missing(self.connection, self.run, record.entity_id, self.client.asked_at)
            return
        self._failed(record, missing, after=LAG, missing_at=first or self.client.asked_at)

    def _postpone(self, record: EditedRecord, why: str, until: datetime | timedelta | None) -> None:
        self.counts.waiting.add(record.roi_id)
        push_attempts.postpone(self.connection, self.run.stream, record.roi_id, why, until or SURFACING_DELAY)

    def _failed(
        self,
        record: EditedRecord,
        error: Exception,
        *,
        for_good: bool = False,
        after: timedelta = push_attempts.FIRST_WAIT,
        missing_at: datetime | None = None,
    ) -> None:
        (self.counts.failed if for_good else self.counts.waiting).add(record.roi_id)
        push_attempts.record_failure(
            self.connection,
            self.run.stream,
            record.roi_id,
            str(error),
            record.edits[-1].id,
            after=None if for_good else after,
            missing_at=missing_at,
        )
        if missing_at is None:
            sync_logs.add_counts(self.connection, self.run.log_id, records_processed=1, records_failed=1)

    def _asking(self, ask: Callable[[], T]) -> T:
        before = self.client.requests_made
        try:
            return ask()
        finally:
            sync_logs.add_counts(self.connection, self.run.log_id, api_requests=self.client.requests_made - before)
