"""Store a user's correction of a quarantined record on its case, and land it as if SoftPro had sent it.

In `raw`, the correction replaces the version that it corrects until SoftPro sends another version. It takes no lease,
because a run may continue in parallel: the next load of the pending records includes the correction.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from softpro.db import audit_log
from softpro.db.database import Connection
from softpro.entities import EntityType
from softpro.errors import OutOfDate, UsageError
from softpro.quality import quarantine_cases
from softpro.quality.quarantine_cases import Case
from softpro.softpro360.records import Record, Unreadable, read
from softpro.sync.raw_store import store
from softpro.timestamps import format_time

# `raw` holds a later version than the one in quarantine.
SELECT_NEWER = """
select r.deleted_at is not null as deleted
from raw.records r
join softpro.quarantine q on q.id = %(case_id)s
where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = %(entity_id)s
  and (r.deleted_at is not null
       or (r.payload_hash <> q.payload_hash and r.payload_hash is distinct from q.edited_hash
           and (r.softpro_updated_at > %(updated_at)s or r.last_seen_at > q.updated_at)))
"""
MARK_CORRECTION = """
update raw.records
set corrects = %(payload_hash)s
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and entity_id = %(entity_id)s
  and payload_hash = %(edited_hash)s
"""
# `updated_at` shows whether the case changed after it was read.
KEEP_CORRECTION = """
update softpro.quarantine
set entity_id = %(entity_id)s, edited_payload = %(payload)s, edited_hash = %(edited_hash)s, edited_by = %(by)s,
    edited_at = now(), updated_at = now(),
    resolved_at = null, resolution = null, resolved_by = null, resolution_reason = null,
    decisions = decisions || softpro.decision('EDIT', %(by)s, null)
where id = %(case_id)s and integration_id = %(integration_id)s and updated_at = %(read)s
"""


def correct(connection: Connection, case_id: UUID, payload: bytes, by: str) -> Case:
    """Correct a case's record and return the case, which closes once the correction is loaded.

    A correction reopens a discarded case.

    Args:
        payload: the complete record as JSON.
        by: the user who corrects it.

    Raises:
        NotFoundHere: no such case exists.
        UsageError: the correction can't be accepted.
        OutOfDate: the case is closed or changed just now, or a newer version of the record exists.
    """
    case = quarantine_cases.get(connection, case_id)
    if case.resolution in ("LOADED", "EDITED"):
        quarantine_cases.raise_closed(case)
    record = _readable(connection, case, payload.strip())
    values = {
        **case.stream.parameters,
        "case_id": case.id,
        "entity_id": record.key.id,
        "updated_at": record.key.updated_at,
        "payload": record.payload,
        "payload_hash": case.payload_hash,
        "edited_hash": record.payload_hash,
        "by": by,
        "read": case.updated_at,
    }
    # Every writer locks in this order: raw, pending, quarantine.
    with connection.transaction():
        refused = store(connection, case.stream, [record], frozenset([record.key.id]))
        if refused:
            raise UsageError(f"The correction can't be stored: {refused[0].reason}")
        if not connection.execute(MARK_CORRECTION, values).rowcount:
            raise _newer(record)
        if not connection.execute(KEEP_CORRECTION, values).rowcount:
            raise OutOfDate(f"Case {case.id} was changed just now: look at it again")
        audit_log.record(connection, "case.correct", integration_id=case.integration_id, subject=case.id)
    return quarantine_cases.get(connection, case_id)


def _readable(connection: Connection, case: Case, payload: bytes) -> Record:
    """Return the correction as a record of the case. Raises UsageError, OutOfDate."""
    entity_type = EntityType(case.entity_type)
    record = read(payload, entity_type)
    if isinstance(record, Unreadable):
        raise UsageError(f"The correction can't be accepted: {record.reason}")
    if case.entity_id is not None and record.key.id != case.entity_id:
        raise UsageError(f"The correction is for another record: this case is about {case.entity_id}")
    if record.payload_hash == case.payload_hash:
        raise UsageError("The correction equals what SoftPro sent: replay the case to load that again")
    sent = read(quarantine_cases.payloads(connection, case).payload, entity_type)
    # With a later updatedAt, SoftPro's next version could look like an older one.
    if isinstance(sent, Record) and record.key.updated_at != sent.key.updated_at:
        raise UsageError(f"The correction must keep SoftPro's updatedAt, {format_time(sent.key.updated_at)}")
    if record.key.updated_at > datetime.now(UTC) and isinstance(sent, Unreadable):
        raise UsageError("The correction's updatedAt is in the future: SoftPro's next version would not replace it")
    newer = connection.execute(
        SELECT_NEWER,
        {**case.stream.parameters, "case_id": case.id, "entity_id": record.key.id, "updated_at": record.key.updated_at},
    ).fetchone()
    if newer is not None:
        if newer["deleted"]:
            raise OutOfDate(f"SoftPro has deleted {record.key.id} since")
        raise _newer(record)
    return record


def _newer(record: Record) -> OutOfDate:
    return OutOfDate(
        f"A newer version of {record.key.id} exists: SoftPro has sent one since, or an earlier correction has a "
        "later updatedAt. Look at the case again once a run has loaded it"
    )
