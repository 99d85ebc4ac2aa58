"""A mapping set, compiled once and applied to each record."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from typing import Any, NamedTuple

import msgspec

from softpro.entities import EntityType
from softpro.mapping import paths
from softpro.mapping.columns import COLUMNS, CUSTOM_PREFIX, Type
from softpro.mapping.convert import to_json
from softpro.mapping.fast_path import Plain, plain
from softpro.mapping.mapping import Mapping
from softpro.mapping.paths import MISSING
from softpro.mapping.rules.evaluator import Rules
from softpro.mapping.rules.inputs import Asking, asking
from softpro.mapping.rules.messages import Evaluated, Evaluation
from softpro.mapping.step import CREATED_AT, Reason, Step, compile_step, value

_decode = msgspec.json.Decoder(float_hook=Decimal).decode

NOTHING = Evaluated([], {})


@dataclass(frozen=True)
class Compiled:
    """A set ready to be applied; `columns` are those it fills, in the order of the rows it makes, and what they hold.

    `plain` takes some of the `steps` together; the `others` and the `custom_steps` are left to be taken one by one.
    A step's rule is told by its number among those of `asking`.
    """

    columns: dict[str, Type]
    plain: Plain
    steps: tuple[Step, ...]
    others: tuple[Step, ...]
    custom_steps: tuple[Step, ...]
    asking: Asking


class Mapped(NamedTuple):
    """A record's values in the order of `Compiled.columns`; where there are reasons, it is rejected."""

    values: Sequence[Any]
    reasons: list[Reason]


class _Unreadable(NamedTuple):
    message: str


def compile_mappings(entity_type: EntityType, mappings: Sequence[Mapping]) -> Compiled:
    """Compiles the mappings of one entity type that take part in loading. Raises ValueError on an invalid one."""
    rules: list[tuple[str, paths.Path]] = []
    compiled = [
        compile_step(mapping, rules) for mapping in mappings if mapping.inbound and mapping.entity_type is entity_type
    ]
    columns = {CREATED_AT.column: Type.TIMESTAMP, **COLUMNS[entity_type]}
    steps = (CREATED_AT, *(step for step in compiled if not step.custom))
    quick = plain(steps, list(columns))
    return Compiled(
        columns,
        quick,
        steps,
        others=tuple(step for step in steps if step not in quick.steps),
        custom_steps=tuple(step for step in compiled if step.custom),
        asking=asking(rules),
    )


def mapped(compiled: Compiled, records: Iterable[tuple[bytes, Evaluated | None]], rules: Rules) -> Iterator[Mapped]:
    """Maps records, given as JSON bytes, and what the set's rules come to, where that is known already. Columns without
    a mapping, and fields that are missing, become None. Some records are taken ahead. Raises RulesUnavailable.
    """
    if not compiled.asking.rules:
        yield from (_apply(compiled, payload) for payload, _ in records)
        return
    ahead: deque[tuple[bytes, Any, Evaluated | None]] = deque()

    def asked() -> Iterator[Evaluation]:
        for payload, known in records:
            record = _read(payload)
            ahead.append((payload, record, known))
            if known is not None or isinstance(record, _Unreadable):
                yield Evaluation([], list(range(len(compiled.asking.rules))))
            else:
                yield compiled.asking.of(record, payload)

    for evaluated in rules.evaluate(asked()):
        payload, record, known = ahead.popleft()
        yield _finish(compiled, record, compiled.plain.row(payload), known or evaluated)


def _apply(compiled: Compiled, payload: bytes) -> Mapped:
    """Maps a record by a set without rules."""
    row = compiled.plain.row(payload)
    if row is not None and not compiled.others and not compiled.custom_steps:
        return Mapped(row, [])
    return _finish(compiled, _read(payload), row, NOTHING)


def _read(payload: bytes) -> Any:
    try:
        return _decode(payload)
    except (msgspec.DecodeError, RecursionError) as broken:
        # JSON to PostgreSQL, but not to us: a whole number of thousands of digits, or nesting without end.
        return _Unreadable(f"the record can't be read: {broken}")


def _finish(compiled: Compiled, record: Any, row: Sequence[Any] | None, evaluated: Evaluated) -> Mapped:
    """The record's values; `row` holds those that the plain steps made, if they did."""
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
    return value(step, MISSING if result is None else _decode(result), reasons)


def _custom(
    steps: Sequence[Step], record: Any, evaluated: Evaluated, base: str | None, reasons: list[Reason]
) -> str | None:
    """The whole of `customFields`, with the `custom.<name>` targets laid over it."""
    custom = _decode(base) if base is not None else {}
    if not isinstance(custom, dict):
        message = "it is not an object, so custom.<name> has no place in it"
        reasons.append({"column": "custom", "rule": "type", "message": message})
        return base
    for step in steps:
        found = _value(step, record, evaluated, reasons)
        if found is not None:
            custom[step.column.removeprefix(CUSTOM_PREFIX)] = _decode(found)
    return to_json(custom) if custom or base is not None else None
