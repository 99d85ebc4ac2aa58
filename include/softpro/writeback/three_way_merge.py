"""Brings together what a run staged with what people changed here, before it is loaded.

Field by field, against the last state that both sides agreed on: what one side alone changed stands. Where both did, a
strategy decides, or a person. What is to be sent to SoftPro stays in the outbox; `softpro.sync.load` merges the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg import sql

from softpro.db import integration_settings, outbox, sync_logs
from softpro.db.database import Connection, disable_planner_nodes
from softpro.db.integration_settings import ConflictStrategy
from softpro.db.leases import Run
from softpro.db.outbox import Edit
from softpro.mapping import repository
from softpro.mapping.columns import COLUMNS
from softpro.mapping.paths import MISSING
from softpro.softpro360 import capabilities
from softpro.softpro360.contract import ROI_SYSTEMS_ID
from softpro.sync.load import MergedEdits
from softpro.writeback import conflicts
from softpro.writeback.field_ownership import FieldOwnership
from softpro.writeback.field_values import Fields, apply_fields, decode, decode_value, encode, fields_of, same_json
from softpro.writeback.merge_input import EditedRow, MergeOutcome, MergeRules, is_unchanged
from softpro.writeback.merge_strategies import ROI, SOFTPRO, Decision, Sides, Strategies, decide
from softpro.writeback.roi_rows import restore

IN_REVIEW = "conflict: waits for a person"

# What SoftPro holds of a record that was made here carries our id.
ADOPT_CREATED = """
with made as (
    select distinct on (t.id) t.id, s.{key} as entity_id
    from {staged} s
    join raw.records r
      on r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = s.{key}
    join {roi} t on t.organization_id = s.organization_id and t.{key} is null
                and t.id::text = r.payload -> 'customFields' ->> %(roi_systems_id)s
    where s.log_id = %(log_id)s
      and not exists (select from {roi} o where o.organization_id = s.organization_id and o.{key} = s.{key})
    order by t.id, s.softpro_created_at, s.{key}
),
adopted as (
    update {roi} t set {key} = made.entity_id from made where t.id = made.id returning t.id, t.{key} as entity_id
),
known as (
    update softpro.creates c
    set softpro_id = a.entity_id, due_at = null, updated_at = now()
    from adopted a
    where c.integration_id = %(integration_id)s and c.entity_type = %(entity_type)s
      and c.roi_systems_id = a.id::text and c.softpro_id is null
)
update softpro.outbox x
set settled_at = clock_timestamp(), outcome = 'SENT', log_id = %(log_id)s
from adopted a
where x.integration_id = %(integration_id)s and x.entity_type = %(entity_type)s and x.roi_entity_id = a.id
  and x.operation = 'CREATE' and x.settled_at is null
returning x.id
"""
SELECT_WORK = """
select exists (select from {roi} where organization_id = %(organization_id)s and {key} is null) as made_here,
       exists (select from softpro.outbox
               where integration_id = %(integration_id)s and entity_type = %(entity_type)s
                 and settled_at is null) as edits
"""

# From what is staged, which is little mostly, however much is to be sent; of a deleted row only its edits tell.
SELECT_EDITED = """
select t.id as roi_entity_id, s.{key} as entity_id
from {staged} s
join {roi} t on t.organization_id = s.organization_id and t.{key} = s.{key}
where s.log_id = %(log_id)s
  and exists (
    select from softpro.outbox o
    where o.integration_id = %(integration_id)s and o.entity_type = %(entity_type)s and o.roi_entity_id = t.id
      and o.settled_at is null and o.id <> all(%(seen)s::bigint[]))
union
select o.roi_entity_id, s.{key}
from {staged} s
join softpro.outbox o
  on o.integration_id = %(integration_id)s and o.entity_type = %(entity_type)s and o.entity_id = s.{key}
 and o.settled_at is null and o.operation = 'DELETE' and o.id <> all(%(seen)s::bigint[])
where s.log_id = %(log_id)s
order by 1
"""
SELECT_STAGED = """
select s.{key} as entity_id, to_jsonb(s)::text as staged, s.softpro_updated_at
from {staged} s
where s.log_id = %(log_id)s and s.{key} = any(%(entity_ids)s)
"""
LOCK_ROWS = "select id, to_jsonb(t)::text as row from {roi} t where id = any(%(ids)s) order by id for update"
UPDATE_STAGED = """
update {staged} s
set ({columns}) = (
    select {new_columns}
    from jsonb_populate_record(null::{staged}, to_jsonb(s) || u.changes) n)
from unnest(%(entity_ids)s::text[], %(changes)s::jsonb[]) u (entity_id, changes)
where s.log_id = %(log_id)s and s.{key} = u.entity_id
"""
DELETE_STAGED = "delete from {staged} where log_id = %(log_id)s and {key} = any(%(entity_ids)s)"
# It was deleted after a load had looked at it, and that load has brought it back.
KEEP_DELETED = """
update {roi} set deleted_at = now()
where organization_id = %(organization_id)s and {key} = any(%(entity_ids)s) and deleted_at is null
"""


@dataclass
class ThreeWayMerge:
    """Of one run's load. `just_sent`: where it loads what SoftPro answered to a push, the fields that were sent of each
    record, which nobody else has changed there. `seen`: the edits that it has looked at; what comes meanwhile is looked
    at once more. `merged`: what was staged was merged since it was looked at first."""

    connection: Connection
    run: Run
    just_sent: Mapping[UUID, Collection[str | None]] = field(default_factory=dict)
    merged: bool = False
    seen: set[int] = field(default_factory=set)

    def __call__(self) -> MergedEdits:
        """What is staged becomes what both sides come to; what a person is to decide about leaves staging, and so does
        what was deleted here. Call it inside the transaction that loads."""
        connection, run = self.connection, self.run
        merged, self.merged = self.merged, True
        there_is = self._execute(SELECT_WORK).fetchone()
        if there_is["made_here"]:
            with disable_planner_nodes(connection, "nestloop"):
                self._adopt()
        touched = self._execute(SELECT_EDITED, seen=list(self.seen)).fetchall() if there_is["edits"] else []
        if not touched:
            return MergedEdits([], 0)
        ids = [row["roi_entity_id"] for row in touched]
        entity_ids = {row["roi_entity_id"]: row["entity_id"] for row in touched}
        rows = {row["id"]: decode(row["row"]) for row in self._execute(LOCK_ROWS, ids=ids)}
        edits = outbox.open_edits(connection, run.stream, ids)
        staged = {
            row["entity_id"]: (decode(row["staged"]), row["softpro_updated_at"])
            for row in self._execute(SELECT_STAGED, entity_ids=list(entity_ids.values()))
        }
        in_force = repository.current(connection, run.stream)
        chosen = integration_settings.read(connection, run.integration_id)
        rules = MergeRules(
            FieldOwnership.of(run.entity_type, in_force.mappings),
            Strategies(ConflictStrategy(chosen.conflict_strategy), chosen.conflict_overrides),
            timedelta(seconds=capabilities.read(connection, run.integration_id).clock_ahead_seconds),
            chosen.push_deletes and run.entity_type.deletable,
        )
        outcome = MergeOutcome()
        for roi_id in ids:
            softpro, updated_at = staged[entity_ids[roi_id]]
            record = EditedRow(
                entity_ids[roi_id], roi_id, softpro, updated_at, rows.get(roi_id), edits.get(roi_id, []), merged
            )
            self.seen.update(edit.id for edit in record.edits)
            if any(edit.operation == "DELETE" for edit in record.edits):
                self._deleted_here(rules, record, outcome)
            elif record.row is not None:
                self._edited(rules, record, outcome)
        self._write(outcome)
        return MergedEdits(
            [entity_id for entity_id in entity_ids.values() if entity_id is not None], len(outcome.left_out)
        )

    def _adopt(self) -> None:
        """What was made here, and is loaded for the first time, is one record."""
        creates = [row["id"] for row in self._execute(ADOPT_CREATED, roi_systems_id=ROI_SYSTEMS_ID)]
        owners = FieldOwnership.of(
            self.run.entity_type,
            repository.current(self.connection, self.run.stream).mappings,
        )
        outbox.settle_unmapped_fields(self.connection, creates, self.run.entity_type.key, owners.named)

    def _edited(self, rules: MergeRules, record: EditedRow, outcome: MergeOutcome) -> None:
        softpro = fields_of(self.run.entity_type, record.staged)
        changes: Fields = {}
        decisions: dict[str, Decision] = {}
        sides: dict[str, Sides] = {}
        agreed: list[tuple[str, list[Edit]]] = []
        for name, edits in record.by_field().items():
            # Not what the row holds: where somebody was quicker than this load's lock, that is SoftPro's by now.
            three = Sides(
                decode_value(edits[0].old_value), softpro.get(name, MISSING), decode_value(edits[-1].new_value)
            )
            if rules.owners.softpro_owns(name):
                agreed.append(("OVERRULED", edits))
            elif rules.owners.roi_owns(name):
                changes[name] = three.roi
                if len(edits) > 1 and not rules.owners.outbound(name):  # it is never sent: one entry says what it is
                    self._start_from(three.base, edits, three.roi, name)
            elif same_json(three.softpro, three.roi):
                agreed.append(("AGREED", edits))
            elif is_unchanged(three, edits):
                changes[name] = three.roi
            elif same_json(three.roi, three.base):  # somebody changed it, and changed it back
                agreed.append(("WITHDRAWN", edits))
            elif name in self.just_sent.get(record.roi_id, ()) or record.is_same_version:
                changes |= self._start_from(three.softpro, edits, three.roi, name)
            else:
                sides[name] = three
                strategy = rules.strategies.of(self.run.entity_type, name)
                decisions[name] = decide(three, strategy, rules.times(record.updated_at, edits))
        in_review = [name for name, decision in decisions.items() if decision.winner is None]
        if in_review:
            self._note(record, "FIELDS", sides, decisions, in_review=True)
            outcome.in_review += 1
            outcome.left_out.append(record.entity_id)
            return
        for how, edits in agreed:
            outbox.settle_edits(self.connection, [edit.id for edit in edits], how, self.run.log_id)
        for name, decision in decisions.items():
            changes |= self._carry_out(record.by_field()[name], sides[name], decision, name)
        if decisions:
            self._note(record, "FIELDS", sides, decisions, in_review=False)
        else:
            self._settled(record)
        if changes:
            outcome.changes[record.entity_id] = apply_fields(record.staged, changes)

    def _carry_out(self, edits: list[Edit], sides: Sides, decision: Decision, name: str) -> Fields:
        """What stays of the edits in the outbox, and what of the staged record changes."""
        if same_json(decision.result, sides.softpro):
            outbox.settle_edits(self.connection, [edit.id for edit in edits], "OVERRULED", self.run.log_id)
            return {}
        return self._start_from(sides.softpro, edits, decision.result, name)

    def _start_from(self, softpro: Any, edits: list[Edit], result: Any, name: str) -> Fields:
        """What SoftPro holds is what both sides agreed on last; the result is to be sent."""
        self.seen.add(outbox.replace(self.connection, edits, encode(softpro), encode(result), self.run.log_id))
        return {name: result}

    def _deleted_here(self, rules: MergeRules, record: EditedRow, outcome: MergeOutcome) -> None:
        """The record was deleted here, and SoftPro has it, perhaps in another version."""
        delete = [edit for edit in record.edits if edit.operation == "DELETE"]
        was = decode(delete[-1].old_value or "{}")
        if not rules.deletes:
            self._settled(record)
            self._bring_back(record, was, "RESTORED", outcome)
            return
        base = fields_of(self.run.entity_type, was) | {
            name: decode_value(edits[0].old_value) for name, edits in record.by_field().items()
        }
        softpro = fields_of(self.run.entity_type, record.staged)
        changed = {
            name: Sides(base.get(name, MISSING), softpro.get(name, MISSING), MISSING)
            for name in dict.fromkeys([*softpro, *base])
            if rules.owners.inbound(name) and not same_json(softpro.get(name, MISSING), base.get(name, MISSING))
        }
        if not changed or record.is_same_version:
            self._settled(record)
            outcome.stays_deleted(record)
            return
        strategy, times = rules.strategies.of(self.run.entity_type), rules.times(record.updated_at, delete)
        wins = {
            ConflictStrategy.SOFTPRO_WINS: SOFTPRO,
            ConflictStrategy.ROI_WINS: ROI,
            ConflictStrategy.NEWEST_WINS: times.newest,
            ConflictStrategy.MERGE: SOFTPRO,
            ConflictStrategy.MANUAL_REVIEW: None,
        }[strategy]
        why = (
            "a change is kept rather than a delete"
            if strategy is ConflictStrategy.MERGE
            else ("a person is to decide" if wins is None else f"the strategy says so: {times}")
        )
        decisions = {
            name: Decision(strategy, wins, three.softpro if wins == SOFTPRO else MISSING, why)
            for name, three in changed.items()
        }
        self._note(record, "DELETED_IN_ROI", changed, decisions, in_review=wins is None)
        outcome.in_review += wins is None
        if wins == SOFTPRO:
            self._bring_back(record, was, "OVERRULED", outcome)
            return
        outcome.stays_deleted(record)
        if wins == ROI:  # by now SoftPro holds this: a later change there is a conflict anew
            held = {**was, **{column: record.staged[column] for column in COLUMNS[self.run.entity_type]}}
            outbox.settle_edits(
                self.connection,
                [edit.id for edit in record.edits if edit.operation != "DELETE"],
                "REPLACED",
                self.run.log_id,
            )
            self.seen.add(outbox.replace(self.connection, delete, encode(held), None, self.run.log_id))

    def _bring_back(self, record: EditedRow, was: dict[str, Any], how: str, outcome: MergeOutcome) -> None:
        outbox.settle_edits(self.connection, [edit.id for edit in record.edits], how, self.run.log_id)
        if record.row is None:
            outcome.brought_back.append(was)

    def _settled(self, record: EditedRow) -> None:
        """What was in review, if it was, is no conflict any more."""
        conflicts.close_open(self.connection, self.run.stream, record.roi_id, "Both sides came to agree")

    def _note(
        self,
        record: EditedRow,
        kind: str,
        sides: Mapping[str, Sides],
        decisions: Mapping[str, Decision],
        *,
        in_review: bool,
    ) -> None:
        last = record.edits[-1]
        conflicts.record_conflict(
            self.connection,
            self.run.stream,
            entity_id=record.entity_id,
            roi_entity_id=record.roi_id,
            kind=kind,
            base=_encode_fields({name: three.base for name, three in sides.items()}),
            softpro=_encode_fields({name: three.softpro for name, three in sides.items()}),
            roi=_encode_fields({name: three.roi for name, three in sides.items()}),
            result=None if in_review else _encode_fields({name: each.result for name, each in decisions.items()}),
            decisions=encode({name: each.as_json() for name, each in decisions.items()}) or "{}",
            softpro_updated_at=record.updated_at,
            roi_changed_at=last.changed_at,
            roi_changed_by=last.changed_by,
            reason=None if in_review else "By the strategy",
            log_id=self.run.log_id,
        )

    def _write(self, outcome: MergeOutcome) -> None:
        restore(self.connection, self.run.entity_type, outcome.brought_back)
        if outcome.changes:
            self._execute(
                UPDATE_STAGED,
                entity_ids=list(outcome.changes),
                changes=[encode(changes) for changes in outcome.changes.values()],
            )
        if outcome.left_out:
            self._execute(DELETE_STAGED, entity_ids=outcome.left_out)
        if outcome.deleted:
            self._execute(KEEP_DELETED, entity_ids=outcome.deleted)
        if outcome.in_review:
            sync_logs.add_warnings(self.connection, self.run.log_id, {IN_REVIEW: outcome.in_review})

    def _execute(self, query: str, **parameters: object) -> Any:
        columns = COLUMNS[self.run.entity_type]
        composed = sql.SQL(query).format(
            staged=sql.Identifier("staging", self.run.entity_type.table),
            roi=sql.Identifier("roi", self.run.entity_type.table),
            key=sql.Identifier(self.run.entity_type.key),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            new_columns=sql.SQL(", ").join(sql.Identifier("n", column) for column in columns),
        )
        known = {
            **self.run.stream.parameters,
            "log_id": self.run.log_id,
        }
        return self.connection.execute(composed, {**known, **parameters})


def _encode_fields(fields: Fields) -> str:
    return encode({name: value for name, value in fields.items() if value is not MISSING}) or "{}"
