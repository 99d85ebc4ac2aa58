"""A person's correction of a record that is in quarantine: kept on its case, and landed as if SoftPro had sent it.

It stands in `raw` in the place of the version that it corrects until SoftPro sends another one. It takes no lease, as a
run may go on beside it: whoever loads what is pending next loads it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from softpro.db.database import Connection
from softpro.entities import EntityType
from softpro.errors import OutOfDate, UsageError
from softpro.quality import quarantine_cases
from softpro.quality.quarantine_cases import Case
from softpro.softpro360.records import Record, Unreadable, read
from softpro.sync.raw_store import store
from softpro.timestamps import format_time

# Another version stands there than the one that is in quarantine, and it is the later one.
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
# The moment of its last change tells whether the case is as it was when it was read.
KEEP_CORRECTION = """
update softpro.quarantine
set entity_id = %(entity_id)s, edited_payload = %(payload)s, edited_hash = %(edited_hash)s, edited_by = %(by)s,
    edited_at = now(), updated_at = now(),
    resolved_at = null, resolution = null, resolved_by = null, resolution_reason = null,
    decisions = decisions || softpro.decision('EDIT', %(by)s, null)
where id = %(case_id)s and integration_id = %(integration_id)s and updated_at = %(read)s
"""


def correct(connection: Connection, case_id: UUID, payload: bytes, by: str) -> Case:
    """Corrects a case's record: `payload` is all of it, as JSON. Returns the case, which closes once that loads.

    A discarded case is opened by it. Raises NotFoundHere, UsageError where the correction can't be taken, OutOfDate
    where the case is closed, a newer version of the record is there, or the case changes at this very moment.
    """
    case = quarantine_cases.get(connection, case_id)
    if case.resolution in ("LOADED", "EDITED"):
        quarantine_cases.closed(case)
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
    # In the order in which everybody locks: raw, pending, quarantine.
    with connection.transaction():
        refused = store(connection, case.stream, [record], frozenset([record.key.id]))
        if refused:
            raise UsageError(f"The correction can't be stored: {refused[0].reason}")
        if not connection.execute(MARK_CORRECTION, values).rowcount:
            raise _newer(record)
        if not connection.execute(KEEP_CORRECTION, values).rowcount:
            raise OutOfDate(f"Case {case.id} has changed at this very moment: look at it again")
    return quarantine_cases.get(connection, case_id)


def _readable(connection: Connection, case: Case, payload: bytes) -> Record:
    """The correction as a record of the case. Raises UsageError, OutOfDate."""
    entity_type = EntityType(case.entity_type)
    record = read(payload, entity_type)
    if isinstance(record, Unreadable):
        raise UsageError(f"The correction can't be taken: {record.reason}")
    if case.entity_id is not None and record.key.id != case.entity_id:
        raise UsageError(f"The correction is of another record: this case is that of {case.entity_id}")
    if record.payload_hash == case.payload_hash:
        raise UsageError("The correction is what SoftPro sent; to load that again, replay the case")
    sent = read(quarantine_cases.payloads(connection, case).payload, entity_type)
    # With a later one, SoftPro's next version could pass for an older one.
    if isinstance(sent, Record) and record.key.updated_at != sent.key.updated_at:
        raise UsageError(f"The correction keeps SoftPro's updatedAt, which is {format_time(sent.key.updated_at)}")
    if record.key.updated_at > datetime.now(UTC) and isinstance(sent, Unreadable):
        raise UsageError("The correction's updatedAt is in the future: SoftPro's next version would not replace it")
    newer = connection.execute(
        SELECT_NEWER,
        {**case.stream.parameters, "case_id": case.id, "entity_id": record.key.id, "updated_at": record.key.updated_at},
    ).fetchone()
    if newer is not None:
        raise OutOfDate(f"SoftPro has deleted {record.key.id} meanwhile") if newer["deleted"] else _newer(record)
    return record


def _newer(record: Record) -> OutOfDate:
    return OutOfDate(
        f"A newer version of {record.key.id} is there: SoftPro has sent one since, or an earlier correction has a "
        "later updatedAt. Once a run has loaded it, look at the case again"
    )
