"""Compare what a proposed mapping set makes of real records with what the set in force makes of them.

A preview maps and checks as a run does. It writes only to `staging`, where the checks read the rows, and removes them
afterwards. It takes no lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from softpro.db import locks, queries, sync_logs
from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.db.locks import Lock
from softpro.entities import EntityType
from softpro.errors import MappingError, PreviewRunning, UsageError
from softpro.mapping import repository
from softpro.mapping.compiler import Compiled, Mapped, compile_mappings, map_records
from softpro.mapping.mapping import Mapping
from softpro.mapping.outbound import compile_outbound, outbound_values
from softpro.mapping.preview_diff import (
    Effect,
    Outcome,
    RoundTrip,
    effect,
    outcome,
    round_trip_mappings,
    round_trips,
    summary,
)
from softpro.mapping.rules.account import RuleBudget, never
from softpro.mapping.rules.evaluator import evaluating
from softpro.mapping.set_validation import warnings
from softpro.mapping.step import Reason
from softpro.quality.check import judge_staged, reject
from softpro.softpro360 import records as vendor
from softpro.sync.check_rules import value_demands
from softpro.sync.raw_store import REFUSED_MESSAGE
from softpro.sync.transform import clear_staging

MAX_RECORDS = 100
DEFAULT_RECORDS = 10
STATEMENT_SECONDS = 10.0
"""The limit for each statement of a preview."""

MAX_SECONDS, MAX_RULE_SECONDS = 20.0, 5.0
"""The time of a preview, and the budget of slow and stopped evaluations of rules in it."""
TOO_SLOW = f"The preview was ended after {MAX_SECONDS:.0f} s: choose fewer records, or make the rules simpler"
WITHOUT_ID = ""  # an id that no record of SoftPro has

SELECT_LATEST = """
select entity_id
from raw.records
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and deleted_at is null
order by last_seen_at desc, entity_id
limit %(latest)s
"""
SELECT_NAMED = """
select entity_id, convert_to(payload::text, 'UTF8') as payload, payload_hash, softpro_updated_at as updated_at
from raw.records
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and deleted_at is null
  and entity_id = any(%(ids)s)
order by array_position(%(ids)s, entity_id)
"""


@dataclass(frozen=True)
class RecordSelection:
    """The records to preview: those with these ids, one pasted as JSON, or the latest landed ones."""

    ids: Sequence[str] | None = None
    pasted: bytes | None = None
    latest: int = DEFAULT_RECORDS


@dataclass(frozen=True)
class Preview:
    """The result of a preview.

    Attributes:
        effects: the effect on each record.
        unknown: requested ids that no stored record has.
        version: the version of the set in force.
        warnings: parts of the proposed set that are valid but will not work.
    """

    effects: list[Effect]
    unknown: list[str]
    version: int | None
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        return {
            "records": [effect.as_json() for effect in self.effects],
            "unknownIds": self.unknown,
            "mappingVersion": self.version,
            "warnings": self.warnings,
            "summary": summary(self.effects),
        }


@dataclass(frozen=True)
class _Record:
    """A record to preview; `reason` says why it could not be landed, if so."""

    entity_id: str
    payload: bytes
    payload_hash: bytes
    updated_at: datetime
    reason: str | None = None


@dataclass(frozen=True)
class _Side:
    """A mapping set and the rows that it makes of the records; `name` distinguishes the two sets in staging."""

    name: str
    mappings: Sequence[Mapping]
    compiled: Compiled
    rows: list[Mapped]


def preview(
    database: Database,
    integration: Integration,
    entity_type: EntityType,
    proposed: Sequence[Mapping],
    chosen: RecordSelection,
    cancelled: Callable[[], bool] = never,
    *,
    replace: bool = False,
) -> Preview:
    """Compare the proposed set of the entity type with the one in force.

    Args:
        database: the database.
        integration: the integration whose records are shown.
        entity_type: the entity type.
        proposed: the mappings to show.
        chosen: the records to show.
        cancelled: returns whether nobody waits for the result any more. A thread calls it repeatedly.
        replace: the mappings are the whole set. Otherwise they update the set in force.

    Raises:
        MappingError: the set is invalid.
        PreviewRunning: another preview of the stream is running.
        CheckFailed: a check could not run.
        UsageError: the preview took too long, or was cancelled.
    """
    deadline = time.monotonic() + MAX_SECONDS
    budget = RuleBudget(MAX_RULE_SECONDS, cancelled=lambda: cancelled() or time.monotonic() > deadline)
    misplaced = [number for number, each in enumerate(proposed, 1) if each.entity_type is not entity_type]
    if misplaced:
        raise MappingError([f"mapping {number}: entityType should be {entity_type.value}" for number in misplaced])
    with database.connect() as connection:
        new = repository.proposal(connection, integration.id, integration.organization_id, proposed, replace=replace)
        # Previews of a stream stage under the same log ids, so that each clears the rows of one that died.
        with locks.try_locked(connection, Lock.PREVIEW, f"{integration.id} {entity_type.value}") as held:
            if not held:
                raise PreviewRunning(
                    f"Another preview of the {entity_type.table} of {integration.organization_id} is running: "
                    "try again when it has ended"
                )
            in_force = repository.current(connection, integration.stream(entity_type))
            records = _records(connection, integration, entity_type, chosen)
            before = _side("before", entity_type, in_force.mappings, records, budget)
            after = _side("after", entity_type, new.mappings, records, budget)
            against = {
                side.name: _judged(database, connection, integration, entity_type, side, records)
                for side in (before, after)
            }
    one, other = (
        [
            outcome(side.compiled, row, [*_unlanded(record), *against[side.name].get(record.entity_id, [])])
            for record, row in zip(records, side.rows, strict=True)
        ]
        for side in (before, after)
    )
    returns = _returns(entity_type, new.mappings, records, other, budget)
    effects = [
        effect(record.entity_id or None, before.mappings, after.mappings, was, will_be, back)
        for record, was, will_be, back in zip(records, one, other, returns, strict=True)
    ]
    found = {record.entity_id for record in records}
    unknown = [entity_id for entity_id in dict.fromkeys(chosen.ids or []) if entity_id not in found]
    return Preview(effects, unknown, in_force.version, warnings(new.mappings, new.names))


def _records(
    connection: Connection, integration: Integration, entity_type: EntityType, chosen: RecordSelection
) -> list[_Record]:
    """Return the selected records in the order of the ids, or the latest first."""
    if chosen.pasted is not None:
        return [_pasted(connection, entity_type, chosen.pasted)]
    stream = integration.stream(entity_type)
    if chosen.ids is None:
        ids = [
            row["entity_id"]
            for row in connection.execute(SELECT_LATEST, {**stream.parameters, "latest": chosen.latest})
        ]
    else:
        ids = [entity_id for entity_id in chosen.ids if "\x00" not in entity_id]
    return (
        connection.cursor(row_factory=class_row(_Record))
        .execute(SELECT_NAMED, {**stream.parameters, "ids": ids})
        .fetchall()
    )


def _pasted(connection: Connection, entity_type: EntityType, payload: bytes) -> _Record:
    """Return a pasted record as `raw` would hold it, with a reason if `raw` could not."""
    read = vendor.read(payload, entity_type)
    reason = read.reason if isinstance(read, vendor.Unreadable) else None
    try:
        stored = queries.one(
            connection, "select convert_to(%s::jsonb::text, 'UTF8') as payload", [payload.decode(errors="replace")]
        )
        payload = stored["payload"]
    except psycopg.DataError:
        reason = reason or REFUSED_MESSAGE
    if isinstance(read, vendor.Unreadable):
        return _Record(read.entity_id or WITHOUT_ID, payload, read.payload_hash, datetime.now(UTC), reason)
    return _Record(read.key.id, payload, read.payload_hash, read.key.updated_at, reason)


def _unlanded(record: _Record) -> list[Reason]:
    return [{"column": None, "rule": "readable", "message": record.reason}] if record.reason else []


def _side(
    name: str, entity_type: EntityType, mappings: Sequence[Mapping], records: Sequence[_Record], budget: RuleBudget
) -> _Side:
    compiled = compile_mappings(entity_type, mappings)
    with evaluating(compiled.rule_inputs.rules, budget) as rules:
        rows = list(map_records(compiled, ((record.payload, None) for record in records), rules))
    _require_time(budget)
    return _Side(name, mappings, compiled, rows)


def _require_time(budget: RuleBudget) -> None:
    """Raise UsageError if the preview has no time left, or was cancelled."""
    if budget.cancelled():
        raise UsageError(TOO_SLOW)


def _returns(
    entity_type: EntityType,
    mappings: Sequence[Mapping],
    records: Sequence[_Record],
    outcomes: Sequence[Outcome],
    budget: RuleBudget,
) -> list[dict[str, RoundTrip]]:
    """Return for each record, by target, the results of its outbound rules."""
    both_ways = round_trip_mappings(mappings)
    back = compile_outbound(entity_type, both_ways)
    with evaluating(back.rule_inputs.rules, budget) as rules:
        all_sent = list(outbound_values(back, (outcome.values for outcome in outcomes), rules))
    _require_time(budget)
    return [round_trips(both_ways, record.payload, each) for record, each in zip(records, all_sent, strict=True)]


def _judged(
    database: Database,
    connection: Connection,
    integration: Integration,
    entity_type: EntityType,
    side: _Side,
    records: Sequence[_Record],
) -> dict[str, list[Reason]]:
    """Return the checks' reasons to reject the records, by id, and leave staging as it was."""
    log_id = sync_logs.log_id_of("preview", integration.stream(entity_type), side.name)
    try:
        with connection.transaction():
            clear_staging(connection, entity_type, log_id)  # rows of a preview that died
            _stage(connection, integration, entity_type, log_id, side, records)
        demands = value_demands(side.mappings)
        judged = judge_staged(database, entity_type, log_id, demands, STATEMENT_SECONDS) if records else []
        with connection.transaction():
            reject(connection, entity_type, log_id, judged, STATEMENT_SECONDS)
        rejected = connection.execute(
            """
            select entity_id, reason
            from staging.rejects, jsonb_array_elements(reasons) reason
            where log_id = %s and organization_id = %s
            """,
            [log_id, integration.organization_id],
        ).fetchall()
    finally:
        clear_staging(connection, entity_type, log_id)
    found: dict[str, list[Reason]] = {}
    for row in rejected:
        found.setdefault(row["entity_id"], []).append(row["reason"])
    return found


def _stage(
    connection: Connection,
    integration: Integration,
    entity_type: EntityType,
    log_id: UUID,
    side: _Side,
    records: Sequence[_Record],
) -> None:
    columns = ["log_id", "organization_id", entity_type.key, "payload_hash", "softpro_updated_at"]
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier("staging", entity_type.table),
        sql.SQL(", ").join(map(sql.Identifier, [*columns, *side.compiled.columns])),
    )
    with connection.cursor().copy(statement) as copy:
        for record, row in zip(records, side.rows, strict=True):
            key = (record.entity_id, record.payload_hash, record.updated_at)
            copy.write_row((log_id, integration.organization_id, *key, *row.values))
