"""Compile a mapping set once, and apply it to each record."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import msgspec

from softpro import json_codec
from softpro.entities import EntityType
from softpro.mapping import paths
from softpro.mapping.columns import COLUMNS, CUSTOM_PREFIX, Type
from softpro.mapping.convert import to_json
from softpro.mapping.fast_path import FastPath, build_fast_path
from softpro.mapping.mapping import Mapping
from softpro.mapping.paths import MISSING
from softpro.mapping.rules.evaluator import Rules
from softpro.mapping.rules.inputs import RuleInputs, rule_inputs
from softpro.mapping.rules.messages import Evaluated, Evaluation
from softpro.mapping.step import CREATED_AT, Reason, Step, compile_step, value

NO_RULES = Evaluated([], {})


@dataclass(frozen=True)
class Compiled:
    """A compiled mapping set.

    Attributes:
        columns: the columns that it fills and their types, in the order of a mapped row.
        fast_path: reads several steps in one pass.
        steps: all steps except those for `custom.<name>`.
        others: the steps that `fast_path` does not read.
        custom_steps: the steps for `custom.<name>`.
        rule_inputs: the rules, and the paths that they read. A step's rule is an index into them.
    """

    columns: dict[str, Type]
    fast_path: FastPath
    steps: tuple[Step, ...]
    others: tuple[Step, ...]
    custom_steps: tuple[Step, ...]
    rule_inputs: RuleInputs


class Mapped(NamedTuple):
    """A record's values in the order of `Compiled.columns`. A record with reasons is rejected."""

    values: Sequence[Any]
    reasons: list[Reason]


class _Unreadable(NamedTuple):
    message: str


def compile_mappings(entity_type: EntityType, mappings: Sequence[Mapping]) -> Compiled:
    """Compile the inbound mappings of one entity type.

    Raises:
        ValueError: a mapping is invalid.
    """
    rules: list[tuple[str, paths.Path]] = []
    compiled = [
        compile_step(mapping, rules) for mapping in mappings if mapping.inbound and mapping.entity_type is entity_type
    ]
    columns = {CREATED_AT.column: Type.TIMESTAMP, **COLUMNS[entity_type]}
    steps = (CREATED_AT, *(step for step in compiled if not step.custom))
    fast = build_fast_path(steps, list(columns))
    return Compiled(
        columns,
        fast,
        steps,
        others=tuple(step for step in steps if step not in fast.steps),
        custom_steps=tuple(step for step in compiled if step.custom),
        rule_inputs=rule_inputs(rules),
    )


def map_records(
    compiled: Compiled, records: Iterable[tuple[bytes, Evaluated | None]], rules: Rules
) -> Iterator[Mapped]:
    """Map records, reading some of them ahead. Columns without a mapping and missing fields become None.

    Args:
        compiled: the compiled set.
        records: each record as JSON bytes, with the results of the set's rules if they are already known.
        rules: evaluates the rules of the other records.

    Raises:
        RulesUnavailable: the process that evaluates rules keeps ending.
    """
    if not compiled.rule_inputs.rules:
        yield from (_apply(compiled, payload) for payload, _ in records)
        return
    ahead: deque[tuple[bytes, Any, Evaluated | None]] = deque()

    def evaluations() -> Iterator[Evaluation]:
        for payload, known in records:
            record = _read(payload)
            ahead.append((payload, record, known))
            if known is not None or isinstance(record, _Unreadable):
                yield Evaluation([], list(range(len(compiled.rule_inputs.rules))))
            else:
                yield compiled.rule_inputs.evaluation(record, payload)

    for evaluated in rules.evaluate(evaluations()):
        payload, record, known = ahead.popleft()
        yield _finish(compiled, record, compiled.fast_path.row(payload), known or evaluated)


def _apply(compiled: Compiled, payload: bytes) -> Mapped:
    """Map a record by a set without rules."""
    row = compiled.fast_path.row(payload)
    if row is not None and not compiled.others and not compiled.custom_steps:
        return Mapped(row, [])
    return _finish(compiled, _read(payload), row, NO_RULES)


def _read(payload: bytes) -> Any:
    try:
        return json_codec.decode(payload)
    except (msgspec.DecodeError, RecursionError) as broken:
        # PostgreSQL accepts JSON that we refuse: integers of thousands of digits, and very deep nesting.
        return _Unreadable(f"the record can't be read: {broken}")


def _finish(compiled: Compiled, record: Any, row: Sequence[Any] | None, evaluated: Evaluated) -> Mapped:
    """Complete the record's values. `row` holds the values of the fast path, or is None if it gave up."""
    if isinstance(record, _Unreadable):
        reason: Reason = {"column": None, "rule": "readable", "message": record.message}
        return Mapped((None,) * len(compiled.columns), [reason])
    values: dict[str, Any] = dict(zip(compiled.columns, row or repeat(None), strict=False))
    reasons: list[Reason] = []
    for step in compiled.steps if row is None else compiled.others:
        values[step.column] = _value(step, record, evaluated, reasons)
    if compiled.custom_steps:
        values["custom"] = _custom(compiled.custom_steps, record, evaluated, values["custom"], reasons)
    return Mapped(tuple(values.values()), reasons)


def _value(step: Step, record: Any, evaluated: Evaluated, reasons: list[Reason]) -> Any:
    if step.rule is None:
        return value(step, paths.look_up(record, step.path), reasons)
    if step.rule in evaluated.failures:
        message = f"{step.rule_name}: {evaluated.failures[step.rule]}"
        reasons.append({"column": step.column, "rule": "transformation", "message": message})
        return None
    result = evaluated.results[step.rule]
    return value(step, MISSING if result is None else json_codec.decode(result), reasons)


def _custom(
    steps: Sequence[Step], record: Any, evaluated: Evaluated, base: str | None, reasons: list[Reason]
) -> str | None:
    """Return the mapped `customFields`, with the values of the `custom.<name>` targets added."""
    custom = json_codec.decode(base) if base is not None else {}
    if not isinstance(custom, dict):
        message = "it is not an object, so custom.<name> has no place in it"
        reasons.append({"column": "custom", "rule": "type", "message": message})
        return base
    for step in steps:
        found = _value(step, record, evaluated, reasons)
        if found is not None:
            custom[step.column.removeprefix(CUSTOM_PREFIX)] = json_codec.decode(found)
    return to_json(custom) if custom or base is not None else None
