"""Plan the push of edited records: only the mapped fields that were edited are sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import set_json_loads

from softpro.db import outbox
from softpro.db.database import Connection
from softpro.db.outbox import Edit
from softpro.entities import Stream
from softpro.mapping import paths, repository
from softpro.mapping.columns import CUSTOM, CUSTOM_PREFIX
from softpro.mapping.mapping import TO_SOFTPRO
from softpro.mapping.mapping import Mapping as FieldMapping
from softpro.mapping.outbound import OutboundValues, compile_outbound, outbound_values
from softpro.mapping.paths import MISSING
from softpro.mapping.rules.evaluator import evaluating
from softpro.writeback.field_ownership import FieldOwnership
from softpro.writeback.field_values import decode, same_json

SELECT_ROWS = "select t.* from {roi} t where t.organization_id = %(organization_id)s and t.id = any(%(ids)s)"
SELECT_HELD = """
select r.entity_id, r.payload::text as payload, r.payload_hash, r.softpro_updated_at, r.etag, r.deleted_at,
       exists (
           select from raw.pending p
           where p.integration_id = r.integration_id and p.entity_type = r.entity_type
             and p.entity_id = r.entity_id) as pending,
       exists (
           select from softpro.quarantine q
           where q.integration_id = r.integration_id and q.entity_type = r.entity_type
             and q.record_key = r.entity_id and q.resolved_at is null) as quarantined
from raw.records r
where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = any(%(entity_ids)s)
"""


@dataclass(frozen=True)
class RemoteRecord:
    """SoftPro's record as last landed. `pending`: not loaded yet. `quarantined`: it could not be loaded."""

    payload: Any
    payload_hash: bytes
    updated_at: datetime
    etag: str | None
    deleted_at: datetime | None
    pending: bool
    quarantined: bool


@dataclass(frozen=True)
class EditedRecord:
    """A record with open edits.

    Attributes:
        roi_id: The row's id in `roi`.
        entity_id: The SoftPro id; None for a record that SoftPro does not have yet.
        row: The present row, by column; None if it was deleted.
        remote: SoftPro's record; None if it never landed.
        edits: The open edits, in order.
    """

    roi_id: UUID
    entity_id: str | None
    row: Mapping[str, Any] | None
    remote: RemoteRecord | None
    edits: Sequence[Edit]

    @property
    def operation(self) -> str:
        """Return CREATE, UPDATE or DELETE."""
        if any(edit.operation == "DELETE" for edit in self.edits):
            return "DELETE"
        return "CREATE" if self.entity_id is None else "UPDATE"

    @property
    def edited(self) -> set[str]:
        """Return the edited fields."""
        return {edit.field for edit in self.edits if edit.field is not None}


@dataclass(frozen=True)
class Plan:
    """The plan of one record's push.

    Attributes:
        record: The edited record.
        fields: The fields to send, nested as in SoftPro's record. None clears a field.
        changes: By dotted path of the mapping, SoftPro's present value and the new one.
        edits: The edits that the push settles: all except those of unmapped fields, which stay in the outbox.
        problem: The reason why the record cannot be sent, if any.
    """

    record: EditedRecord
    fields: Mapping[str, Any]
    changes: Mapping[str, tuple[Any, Any]]
    edits: Sequence[Edit]
    problem: str | None = None


def edited_records(connection: Connection, stream: Stream, ids: Sequence[UUID]) -> list[EditedRecord]:
    """Return the records with open edits among these ids, in the order of the ids."""
    entity_type = stream.entity_type
    edits = outbox.open_edits(connection, stream, ids)
    exact = connection.cursor()
    set_json_loads(decode, exact)
    rows = {
        row["id"]: row
        for row in exact.execute(
            sql.SQL(SELECT_ROWS).format(roi=sql.Identifier("roi", entity_type.table)),
            {"organization_id": stream.organization_id, "ids": list(ids)},
        )
    }
    entity_ids = {
        roi_id: rows[roi_id][entity_type.key] if roi_id in rows else mine[-1].entity_id
        for roi_id, mine in edits.items()
    }
    held = {
        row["entity_id"]: RemoteRecord(
            decode(row["payload"]),
            row["payload_hash"],
            row["softpro_updated_at"],
            row["etag"],
            row["deleted_at"],
            row["pending"],
            row["quarantined"],
        )
        for row in connection.execute(
            SELECT_HELD, {**stream.parameters, "entity_ids": [each for each in entity_ids.values() if each is not None]}
        )
    }
    return [
        EditedRecord(roi_id, entity_ids[roi_id], rows.get(roi_id), held.get(entity_ids[roi_id] or ""), edits[roi_id])
        for roi_id in ids
        if roi_id in edits
    ]


def plan_pushes(connection: Connection, stream: Stream, records: Sequence[EditedRecord]) -> list[Plan]:
    """Plan the push of these records by the mappings in force.

    Raises:
        RulesUnavailable: The process that evaluates mapping rules keeps ending.
    """
    entity_type = stream.entity_type
    in_force = repository.current(connection, stream)
    mappings = [mapping for mapping in in_force.mappings if mapping.outbound and mapping.entity_type is entity_type]
    owners = FieldOwnership.of(entity_type, in_force.mappings)
    with_rows = [record for record in records if record.row is not None]
    back = compile_outbound(entity_type, mappings)
    with evaluating(back.rule_inputs.rules) as rules:
        all_sent = dict(
            zip(
                (record.roi_id for record in with_rows),
                outbound_values(back, (record.row or {} for record in with_rows), rules),
                strict=True,
            )
        )
    return [_plan(record, mappings, owners, all_sent.get(record.roi_id)) for record in records]


def _plan(
    record: EditedRecord, mappings: Iterable[FieldMapping], owners: FieldOwnership, values: OutboundValues | None
) -> Plan:
    if record.operation == "DELETE" or values is None:
        return Plan(record, {}, {}, record.edits)
    fields: dict[str, Any] = {}
    changes: dict[str, tuple[Any, Any]] = {}
    problems: list[str] = []
    for mapping in mappings:
        if record.operation == "UPDATE" and not _is_edited(mapping, record.edited):
            continue
        path = paths.parse(mapping.softpro_field)
        there = MISSING if record.remote is None else paths.look_up(record.remote.payload, path)
        try:
            wanted = _value_to_send(mapping, record, owners, values, there)
            if wanted is MISSING or same_json(wanted, there) or (wanted is None and there is MISSING):
                continue
            _set_field(fields, path, wanted)
        except ValueError as wrong:
            problems.append(f"{mapping.softpro_field}: {wrong}")
        else:
            changes[mapping.softpro_field] = there, wanted
    settled = [
        edit for edit in record.edits if edit.field is None or owners.inbound(edit.field) or owners.outbound(edit.field)
    ]
    return Plan(record, fields, changes, settled, "; ".join(problems) or None)


def _is_edited(mapping: FieldMapping, edited: set[str]) -> bool:
    target = mapping.roi_systems_field
    return target in edited or (target == CUSTOM and any(field.startswith(CUSTOM_PREFIX) for field in edited))


def _value_to_send(
    mapping: FieldMapping, record: EditedRecord, owners: FieldOwnership, values: OutboundValues, there: Any
) -> Any:
    """Return the value to send for a mapping's field, or MISSING for nothing.

    `there` is SoftPro's present value. Only the differences of an object are sent.

    Raises:
        ValueError: The rule fails, or returns nothing for a changed value.
    """
    if mapping.softpro_field in values.failures:
        raise ValueError(values.failures[mapping.softpro_field])
    text = values.values.get(mapping.softpro_field)
    if TO_SOFTPRO in mapping.rules:
        if text is None:
            if record.operation == "CREATE":
                return MISSING
            raise ValueError("toSoftPro returns nothing for the changed value")
        return _difference(there, decode(text), clearing=False)
    wanted = None if text is None else decode(text)
    if wanted is None and record.operation == "CREATE":
        return MISSING
    if mapping.roi_systems_field == CUSTOM and isinstance(wanted, dict | None):
        return _custom_to_send(record, owners, wanted or {}, there)
    return _difference(there, wanted, clearing=True)


def _custom_to_send(record: EditedRecord, owners: FieldOwnership, custom: Mapping[str, Any], there: Any) -> Any:
    """Return the edited names of `custom`, without those that have mappings of their own."""
    own = {name for name in custom if CUSTOM_PREFIX + name in owners.mapped}
    if record.operation == "CREATE":
        wanted = {name: value for name, value in custom.items() if name not in own}
        return wanted or MISSING
    names = [field.removeprefix(CUSTOM_PREFIX) for field in record.edited if field.startswith(CUSTOM_PREFIX)]
    held = there if isinstance(there, dict) else {}
    wanted = {
        name: _difference(held.get(name, MISSING), custom.get(name), clearing=True)
        for name in sorted(names)
        if CUSTOM_PREFIX + name not in owners.mapped and not same_json(held.get(name), custom.get(name))
    }
    return wanted or MISSING


def _difference(there: Any, wanted: Any, *, clearing: bool) -> Any:
    """Return the merge patch (RFC 7396) that turns `there` into `wanted`, or MISSING if they are equal."""
    if not isinstance(there, dict) or not isinstance(wanted, dict):
        return MISSING if same_json(there, wanted) else wanted
    changes = {name: _difference(there.get(name, MISSING), value, clearing=clearing) for name, value in wanted.items()}
    if clearing:
        changes |= {name: None for name in there if name not in wanted}
    return {name: value for name, value in changes.items() if value is not MISSING} or MISSING


def _set_field(fields: dict[str, Any], path: paths.Path, value: Any) -> None:
    """Set a field at its path.

    Raises:
        ValueError: The path leads into a list, which can only be sent as a whole.
    """
    *way, last = path
    place = fields
    for step in way:
        if isinstance(step, int):
            break
        place = place.setdefault(step, {})
    if isinstance(last, int) or any(isinstance(step, int) for step in way):
        raise ValueError("it is an item of a list, which can only be sent as a whole")
    place[last] = {**place[last], **value} if isinstance(place.get(last), dict) and isinstance(value, dict) else value
