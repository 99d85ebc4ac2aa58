"""Merge staged records with edits of `roi` before they are loaded.

The merge compares each field with the last value that both sides agreed on. A change of one side wins. If both sides
changed the field, a strategy or a user decides. Values for SoftPro stay in the outbox, and `softpro.sync.load` writes
the rest.
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

# SoftPro's version of a record that was created in ROI carries the row's id.
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

# Starts from staging, which is usually small, unlike the outbox. Deleted rows are found by their edits.
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
# The row was deleted after a load had read it, and that load has restored it.
KEEP_DELETED = """
update {roi} set deleted_at = now()
where organization_id = %(organization_id)s and {key} = any(%(entity_ids)s) and deleted_at is null
"""


@dataclass
class ThreeWayMerge:
    """The merge of one run's load.

    Attributes:
        connection: The connection of the load.
        run: The run.
        just_sent: For a load of responses to a push, the sent fields of each record. SoftPro has no other change of
            them.
        merged: The staged records have already been merged once.
        seen: The ids of the edits that were merged. Edits that arrive during the merge are merged by another pass.
    """

    connection: Connection
    run: Run
    just_sent: Mapping[UUID, Collection[str | None]] = field(default_factory=dict)
    merged: bool = False
    seen: set[int] = field(default_factory=set)

    def __call__(self) -> MergedEdits:
        """Merge the staged records with the open edits. Call it inside the transaction of the load.

        Records that wait for a user's decision leave staging, and so do records that were deleted in ROI.
        """
        connection, run = self.connection, self.run
        merged, self.merged = self.merged, True
        work = self._execute(SELECT_WORK).fetchone()
        if work["made_here"]:
            with disable_planner_nodes(connection, "nestloop"):
                self._adopt_created()
        touched = self._execute(SELECT_EDITED, seen=list(self.seen)).fetchall() if work["edits"] else []
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
                self._merge_delete(rules, record, outcome)
            elif record.row is not None:
                self._merge_edits(rules, record, outcome)
        self._write(outcome)
        return MergedEdits(
            [entity_id for entity_id in entity_ids.values() if entity_id is not None], len(outcome.left_out)
        )

    def _adopt_created(self) -> None:
        """Link rows that were created in ROI to their SoftPro records, which are loaded for the first time."""
        creates = [row["id"] for row in self._execute(ADOPT_CREATED, roi_systems_id=ROI_SYSTEMS_ID)]
        owners = FieldOwnership.of(
            self.run.entity_type,
            repository.current(self.connection, self.run.stream).mappings,
        )
        outbox.settle_unmapped_fields(self.connection, creates, self.run.entity_type.key, owners.mapped)

    def _merge_edits(self, rules: MergeRules, record: EditedRow, outcome: MergeOutcome) -> None:
        softpro = fields_of(self.run.entity_type, record.staged)
        changes: Fields = {}
        decisions: dict[str, Decision] = {}
        sides: dict[str, Sides] = {}
        agreed: list[tuple[str, list[Edit]]] = []
        for name, edits in record.by_field().items():
            # Not from the row: if another load was faster than this lock, the row already has SoftPro's value.
            three = Sides(
                decode_value(edits[0].old_value), softpro.get(name, MISSING), decode_value(edits[-1].new_value)
            )
            if rules.owners.softpro_owns(name):
                agreed.append(("OVERRULED", edits))
            elif rules.owners.roi_owns(name):
                changes[name] = three.roi
                if len(edits) > 1 and not rules.owners.outbound(name):  # one entry is enough, as it is never sent
                    self._rebase(three.base, edits, three.roi, name)
            elif same_json(three.softpro, three.roi):
                agreed.append(("AGREED", edits))
            elif is_unchanged(three, edits):
                changes[name] = three.roi
            elif same_json(three.roi, three.base):  # edited and edited back
                agreed.append(("WITHDRAWN", edits))
            elif name in self.just_sent.get(record.roi_id, ()) or record.is_same_version:
                changes |= self._rebase(three.softpro, edits, three.roi, name)
            else:
                sides[name] = three
                strategy = rules.strategies.of(self.run.entity_type, name)
                decisions[name] = decide(three, strategy, rules.times(record.updated_at, edits))
        in_review = [name for name, decision in decisions.items() if decision.winner is None]
        if in_review:
            self._record_conflict(record, "FIELDS", sides, decisions, in_review=True)
            outcome.in_review += 1
            outcome.left_out.append(record.entity_id)
            return
        for how, edits in agreed:
            outbox.settle_edits(self.connection, [edit.id for edit in edits], how, self.run.log_id)
        for name, decision in decisions.items():
            changes |= self._apply_decision(record.by_field()[name], sides[name], decision, name)
        if decisions:
            self._record_conflict(record, "FIELDS", sides, decisions, in_review=False)
        else:
            self._close_conflict(record)
        if changes:
            outcome.changes[record.entity_id] = apply_fields(record.staged, changes)

    def _apply_decision(self, edits: list[Edit], sides: Sides, decision: Decision, name: str) -> Fields:
        """Settle or replace the edits by the decision, and return the changes of the staged record."""
        if same_json(decision.result, sides.softpro):
            outbox.settle_edits(self.connection, [edit.id for edit in edits], "OVERRULED", self.run.log_id)
            return {}
        return self._rebase(sides.softpro, edits, decision.result, name)

    def _rebase(self, softpro: Any, edits: list[Edit], result: Any, name: str) -> Fields:
        """Replace the edits by one from SoftPro's value to the result, which is to be sent. Return the change."""
        self.seen.add(outbox.replace(self.connection, edits, encode(softpro), encode(result), self.run.log_id))
        return {name: result}

    def _merge_delete(self, rules: MergeRules, record: EditedRow, outcome: MergeOutcome) -> None:
        """Merge a record that was deleted in ROI and still exists at SoftPro, possibly in another version."""
        delete = [edit for edit in record.edits if edit.operation == "DELETE"]
        was = decode(delete[-1].old_value or "{}")
        if not rules.push_deletes:
            self._close_conflict(record)
            self._restore_row(record, was, "RESTORED", outcome)
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
            self._close_conflict(record)
            outcome.keep_deleted(record)
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
            "a change wins over a delete"
            if strategy is ConflictStrategy.MERGE
            else ("a user must decide" if wins is None else f"by the strategy: {times}")
        )
        decisions = {
            name: Decision(strategy, wins, three.softpro if wins == SOFTPRO else MISSING, why)
            for name, three in changed.items()
        }
        self._record_conflict(record, "DELETED_IN_ROI", changed, decisions, in_review=wins is None)
        outcome.in_review += wins is None
        if wins == SOFTPRO:
            self._restore_row(record, was, "OVERRULED", outcome)
            return
        outcome.keep_deleted(record)
        if wins == ROI:  # SoftPro has this version now, so a later change there is a new conflict
            held = {**was, **{column: record.staged[column] for column in COLUMNS[self.run.entity_type]}}
            outbox.settle_edits(
                self.connection,
                [edit.id for edit in record.edits if edit.operation != "DELETE"],
                "REPLACED",
                self.run.log_id,
            )
            self.seen.add(outbox.replace(self.connection, delete, encode(held), None, self.run.log_id))

    def _restore_row(self, record: EditedRow, was: dict[str, Any], how: str, outcome: MergeOutcome) -> None:
        outbox.settle_edits(self.connection, [edit.id for edit in record.edits], how, self.run.log_id)
        if record.row is None:
            outcome.restored.append(was)

    def _close_conflict(self, record: EditedRow) -> None:
        """Close the record's conflict, if it is in review."""
        conflicts.close_open(self.connection, self.run.stream, record.roi_id, "Both sides agree")

    def _record_conflict(
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
        restore(self.connection, self.run.entity_type, outcome.restored)
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
