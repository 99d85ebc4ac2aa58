"""Send edited records to SoftPro, each only if SoftPro still has the version that it was compared with.

Records whose version at SoftPro is unknown are fetched first. Changes are loaded, so both sides are merged before
anything is sent. See docs/design/write-back.md.
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
from softpro.sync.raw_store import forget_etags
from softpro.writeback import conflicts, push_attempts
from softpro.writeback.plan import EditedRecord, Plan, edited_records, plan_pushes
from softpro.writeback.settle import PushResponse, settle_deleted_remotely, settle_missing, settle_sent

SETTLE_BATCH = 25
"""Number of responses that are settled in one transaction."""


BLOCKED_RETRY_DELAY = timedelta(minutes=5)
"""How long a record waits that only a user or another run can release."""

T = TypeVar("T")

LoadRecords = Callable[[Collection[str]], None]
"""Maps, checks and loads the pending records with these SoftPro ids."""

DeleteGuard = Callable[[EditedRecord], str | None]
"""Returns the reason why a delete is not sent, or None."""


@dataclass
class Counts:
    """The results of a push. `waiting` records are retried automatically; `failed` ones only after the next edit."""

    sent: int = 0
    agreed: int = 0
    deleted: int = 0
    waiting: set[UUID] = field(default_factory=set)
    failed: set[UUID] = field(default_factory=set)


@dataclass
class Sender:
    """Sends the records of one run.

    `connection`, in autocommit, holds a lock on each record while it is sent, so no other process sends it.
    """

    connection: Connection
    client: Client
    run: Run
    load: LoadRecords
    deletes: DeleteGuard
    counts: Counts = field(default_factory=Counts)
    _responses: list[PushResponse] = field(default_factory=list)
    _etags: dict[UUID, str | None] = field(default_factory=dict)

    def send(self, ids: Sequence[UUID]) -> None:
        """Send these records, as far as they have changes to send.

        Raises an error that concerns all records, after the responses received so far are settled.
        """
        self.counts.waiting.difference_update(ids)
        self.counts.failed.difference_update(ids)
        mine = [roi_id for roi_id in ids if self._lock(roi_id)]
        self.counts.waiting.update(set(ids) - set(mine))
        try:
            self._refresh_stale(mine)
            for plan in self._plan(mine):
                self._send(plan)
                if len(self._responses) >= SETTLE_BATCH:
                    self._settle_responses()
        finally:
            self._settle_responses()
            for roi_id in mine:
                locks.unlock(self.connection, Lock.PUSH, roi_id)

    def _lock(self, roi_id: UUID) -> bool:
        return locks.try_lock(self.connection, Lock.PUSH, roi_id)

    def _edited_records(self, ids: Sequence[UUID]) -> list[EditedRecord]:
        return edited_records(self.connection, self.run.stream, ids)

    def _refresh_stale(self, ids: Sequence[UUID]) -> None:
        """Fetch records whose version at SoftPro is unknown, and load those that changed."""
        newer: list[str] = []
        for record in self._edited_records(ids):
            if record.operation != "UPDATE" or record.entity_id is None:
                continue
            held = record.remote
            if held is not None and (held.pending or held.deleted_at is not None):
                newer.append(record.entity_id)
            if (held is None or held.etag is None or held.pending) and self._fetch(record, record.entity_id):
                newer.append(record.entity_id)
        if newer:
            self.load(newer)

    def _fetch(self, changed: EditedRecord, entity_id: str) -> bool:
        """Fetch a record, and land it if it differs from the stored version. Return whether it was landed."""
        try:
            record = self._counting_requests(lambda: self.client.record(self.run.entity_type, entity_id))
        except RecordNotFound as missing:
            self._handle_missing(changed, missing)
            return False
        except (ServerError, NetworkError, ForbiddenError) as failed:
            self._record_failure(changed, failed)
            return False
        if isinstance(record, Unreadable):
            self._record_failure(changed, UsageError(f"SoftPro's record cannot be read: {record.reason}"))
            return False
        if changed.remote is not None:
            if record.key.updated_at < changed.remote.updated_at:  # a replica that lags
                self._postpone(changed, "SoftPro does not return its latest version yet", LAG)
                return False
            if record.payload_hash == changed.remote.payload_hash:
                self._etags[changed.roi_id] = record.etag
                return False
        with self.connection.transaction():
            cursors.mark_load_due(self.connection, self.run.stream)
            land(self.connection, self.run, Batch([record], None, self.client.asked_at, 1))
        self._etags[changed.roi_id] = record.etag
        return True

    def _plan(self, ids: Sequence[UUID]) -> list[Plan]:
        in_review = conflicts.records_in_review(self.connection, self.run.stream)
        left = [
            record
            for record in self._edited_records(ids)
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
            self._handle_missing(record, missing)
        except ConflictError as conflict:
            self._refetch_later(record, conflict)
        except (ValidationError, ForbiddenError, UsageError, ValueError, TypeError) as refused:
            self._record_failure(record, refused, for_good=not isinstance(refused, ForbiddenError))
        except (ServerError, NetworkError) as failed:
            if may_have_happened(failed):
                self._postpone(record, f"{failed}: the next attempt checks if the change was made", SURFACING_DELAY)
            else:
                self._record_failure(record, failed)

    def _update(self, plan: Plan) -> None:
        record, entity_id = plan.record, plan.record.entity_id
        assert entity_id is not None
        if record.remote is None or record.remote.deleted_at is not None:
            self._postpone(record, "SoftPro's version is not loaded", LAG)
            return
        if record.remote.pending or record.remote.quarantined:
            why = "is in quarantine" if record.remote.quarantined else "is not loaded"
            self._postpone(record, f"SoftPro's version {why}, so its changes are unknown", BLOCKED_RETRY_DELAY)
            return
        if not plan.fields:
            self._settle_unneeded(plan)
            return
        etag = self._etags.get(record.roi_id, record.remote.etag)
        known = [name for name, value in record.remote.payload.items() if value is not None]
        response = self._counting_requests(
            lambda: self.client.change(self.run.entity_type, entity_id, plan.fields, etag, known)
        )
        self._add_response(plan, entity_id, response)

    def _create(self, plan: Plan) -> None:
        record, responses = plan.record, list[Record | Unreadable]()
        wanted = creates.record_spec(self.run.entity_type, str(record.roi_id), plan.fields, responses.append)
        entity_id = self._counting_requests(
            lambda: creates.create(self.connection, self.client, self.run.integration_id, wanted)
        )
        # If an earlier create succeeded and its response was lost, it is unknown which later edits it contained.
        edits = plan.edits if responses else [edit for edit in plan.edits if edit.operation == "CREATE"]
        self._add_response(plan, entity_id, responses[0] if responses else None, edits)

    def _delete(self, plan: Plan) -> None:
        record, entity_id = plan.record, plan.record.entity_id
        if record.row is not None and record.row["deleted_at"] is None:
            raise UsageError("The outbox has a delete, but the row still exists in roi: nothing is deleted at SoftPro")
        if entity_id is None:
            integration_id = self.run.integration_id
            entity_id = self._counting_requests(
                lambda: creates.find_earlier_create(
                    self.connection, self.client, integration_id, self.run.entity_type, str(record.roi_id)
                )
            )
        if entity_id is None:  # SoftPro never had it
            self._settle_unneeded(plan)
            return
        if why := self.deletes(record):
            self._postpone(record, why, BLOCKED_RETRY_DELAY)
            return
        try:
            self._counting_requests(lambda: self.client.delete(self.run.entity_type, entity_id))
        except RecordNotFound as missing:
            if not missing.error_code:
                raise
        settle_deleted_remotely(self.connection, self.run, record.roi_id, entity_id, record.edits, self.client.asked_at)
        self.counts.deleted += 1

    def _add_response(
        self, plan: Plan, entity_id: str, response: Record | Unreadable | None, edits: Sequence[Edit] | None = None
    ) -> None:
        record = response if isinstance(response, Record) else None
        sent = plan.edits if edits is None else edits
        self._responses.append(PushResponse(plan.record.roi_id, entity_id, sent, record, self.client.asked_at))
        self.counts.sent += 1

    def _settle_unneeded(self, plan: Plan) -> None:
        """Settle edits that need not be sent: SoftPro has the values already, or never had the record."""
        outbox.settle_edits(self.connection, [edit.id for edit in plan.edits], "AGREED", self.run.log_id)
        push_attempts.clear(self.connection, self.run.stream, [plan.record.roi_id])
        self.counts.agreed += 1

    def _settle_responses(self) -> None:
        responses, self._responses = self._responses, []
        if responses:
            settle_sent(self.connection, self.run, responses)

    def _refetch_later(self, record: EditedRecord, conflict: ConflictError) -> None:
        """Postpone a record that changed at SoftPro since it was fetched, and fetch it again after the vendor's lag.

        SoftPro can refuse a record with the same status for longer, such as a locked order. So the wait doubles.
        """
        if record.entity_id is not None:
            forget_etags(self.connection, self.run.stream, [record.entity_id])
        self.counts.waiting.add(record.roi_id)
        why, last_id = f"{conflict}: it is fetched again", record.edits[-1].id
        push_attempts.record_failure(self.connection, self.run.stream, record.roi_id, why, last_id, after=LAG)

    def _handle_missing(self, record: EditedRecord, missing: RecordNotFound) -> None:
        """Treat a record as deleted after two 404 responses, at least the vendor's lag apart."""
        if not missing.error_code:
            self._record_failure(record, missing)
            return
        before = push_attempts.find_blocked(self.connection, self.run.stream, [record.roi_id]).get(record.roi_id)
        first = before.missing_at if before is not None else None
        if first is not None and record.entity_id is not None and self.client.asked_at - first >= LAG:
            self._postpone(record, "SoftPro has deleted it", BLOCKED_RETRY_DELAY)  # unless the conflict is settled now
            settle_missing(self.connection, self.run, record.entity_id, self.client.asked_at)
            return
        self._record_failure(record, missing, after=LAG, missing_at=first or self.client.asked_at)

    def _postpone(self, record: EditedRecord, why: str, until: datetime | timedelta | None) -> None:
        self.counts.waiting.add(record.roi_id)
        push_attempts.postpone(self.connection, self.run.stream, record.roi_id, why, until or SURFACING_DELAY)

    def _record_failure(
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

    def _counting_requests(self, ask: Callable[[], T]) -> T:
        before = self.client.requests_made
        try:
            return ask()
        finally:
            sync_logs.add_counts(self.connection, self.run.log_id, api_requests=self.client.requests_made - before)
