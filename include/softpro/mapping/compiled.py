"""A mapping set, compiled once and applied to each record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from softpro.entities import EntityType
from softpro.mapping import paths
from softpro.mapping.columns import COLUMNS, CUSTOM_PREFIX, Type
from softpro.mapping.convert import CONVERTERS, to_json
from softpro.mapping.mapping import Mapping
from softpro.mapping.paths import MISSING
from softpro.mapping.rules import Rule, compile_rule
from softpro.mapping.validate import target_type

Reason = dict[str, str | None]
"""Why a record is rejected: {column, rule, message}; no column where the record as a whole is to blame."""

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True)
class _Step:
    column: str
    path: paths.Path
    rule: Rule | None
    rule_name: str
    default: str | None
    required: bool
    convert: Callable[[Any], Any]


# The one timestamp of the vendor's that is kept whatever the mappings say, and is not part of a record's key.
CREATED_AT = _Step("softpro_created_at", ("createdAt",), None, "createdAt", None, False, CONVERTERS[Type.TIMESTAMP])


@dataclass(frozen=True)
class Compiled:
    """A set ready to be applied; `columns` are those it fills, in the order of the rows it makes."""

    columns: tuple[str, ...]
    steps: tuple[_Step, ...]
    custom_steps: tuple[_Step, ...]


@dataclass(frozen=True)
class Mapped:
    """A record's values in the order of `Compiled.columns`; where there are reasons, it is rejected."""

    values: tuple[Any, ...]
    reasons: list[Reason]


def compile_mappings(entity_type: EntityType, mappings: Sequence[Mapping]) -> Compiled:
    """Compiles the mappings of one entity type that take part in loading. Raises ValueError on an invalid one."""
    steps = [_step(mapping) for mapping in mappings if mapping.inbound and mapping.entity_type is entity_type]
    return Compiled(
        columns=(CREATED_AT.column, *COLUMNS[entity_type]),
        steps=(CREATED_AT, *(step for step in steps if not step.column.startswith(CUSTOM_PREFIX))),
        custom_steps=tuple(step for step in steps if step.column.startswith(CUSTOM_PREFIX)),
    )


def apply(compiled: Compiled, payload: bytes) -> Mapped:
    """Maps one record, given as JSON bytes. Columns without a mapping, and fields that are missing, become None."""
    try:
        record = _decode(payload)
    except (msgspec.DecodeError, RecursionError) as broken:
        # JSON to PostgreSQL, but not to us: a whole number of thousands of digits, or nesting without end.
        message = f"the record can't be read: {broken}"
        return Mapped((None,) * len(compiled.columns), [{"column": None, "rule": "readable", "message": message}])
    row: dict[str, Any] = dict.fromkeys(compiled.columns)
    reasons: list[Reason] = []
    for step in compiled.steps:
        row[step.column] = _value(step, record, payload, reasons)
    if compiled.custom_steps:
        row["custom"] = _custom(compiled.custom_steps, record, payload, row["custom"], reasons)
    return Mapped(tuple(row.values()), reasons)


def _step(mapping: Mapping) -> _Step:
    rule = mapping.transformation_rule
    return _Step(
        column=mapping.roi_systems_field,
        path=paths.parse(mapping.softpro_field),
        rule=compile_rule(rule) if rule is not None else None,
        rule_name=mapping.softpro_field,
        default=mapping.default_value,
        required=mapping.required,
        convert=CONVERTERS[target_type(mapping)],
    )


def _value(step: _Step, record: Any, payload: bytes, reasons: list[Reason]) -> Any:
    value = paths.look_up(record, step.path)
    if step.rule is not None:
        try:
            value = step.rule(value, payload)
        except ValueError as failed:
            reasons.append({"column": step.column, "rule": "transformation", "message": f"{step.rule_name}: {failed}"})
            return None
    if value is MISSING or value is None:
        value = step.default
    if value is None:
        if step.required:
            reasons.append(
                {"column": step.column, "rule": "required", "message": f"{step.rule_name} is missing or null"}
            )
        return None
    try:
        return step.convert(value)
    except ValueError as wrong:
        reasons.append({"column": step.column, "rule": "type", "message": f"{step.rule_name}: {wrong}"})
        return None


def _custom(steps: Sequence[_Step], record: Any, payload: bytes, base: str | None, reasons: list[Reason]) -> str | None:
    """The whole of `customFields`, with the `custom.<name>` targets laid over it."""
    custom = _decode(base) if base is not None else {}
    if not isinstance(custom, dict):
        message = "it is not an object, so custom.<name> has no place in it"
        reasons.append({"column": "custom", "rule": "type", "message": message})
        return base
    for step in steps:
        value = _value(step, record, payload, reasons)
        if value is not None:
            custom[step.column.removeprefix(CUSTOM_PREFIX)] = _decode(value)
    return to_json(custom) if custom or base is not None else None
