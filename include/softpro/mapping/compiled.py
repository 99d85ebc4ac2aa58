"""A mapping set, compiled once and applied to each record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from typing import Any, NamedTuple

import msgspec

from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS, CUSTOM_PREFIX, Type
from softpro.mapping.convert import to_json
from softpro.mapping.mapping import Mapping
from softpro.mapping.plain import Plain, plain
from softpro.mapping.step import CREATED_AT, Reason, Step, compile_step, value

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True)
class Compiled:
    """A set ready to be applied; `columns` are those it fills, in the order of the rows it makes, and what they hold.

    `plain` takes some of the `steps` together; the `others` and the `custom_steps` are left to be taken one by one.
    """

    columns: dict[str, Type]
    plain: Plain
    steps: tuple[Step, ...]
    others: tuple[Step, ...]
    custom_steps: tuple[Step, ...]


class Mapped(NamedTuple):
    """A record's values in the order of `Compiled.columns`; where there are reasons, it is rejected."""

    values: Sequence[Any]
    reasons: list[Reason]


def compile_mappings(entity_type: EntityType, mappings: Sequence[Mapping]) -> Compiled:
    """Compiles the mappings of one entity type that take part in loading. Raises ValueError on an invalid one."""
    compiled = [compile_step(mapping) for mapping in mappings if mapping.inbound and mapping.entity_type is entity_type]
    columns = {CREATED_AT.column: Type.TIMESTAMP, **COLUMNS[entity_type]}
    steps = (CREATED_AT, *(step for step in compiled if not step.custom))
    quick = plain(steps, list(columns))
    return Compiled(
        columns,
        quick,
        steps,
        others=tuple(step for step in steps if step not in quick.steps),
        custom_steps=tuple(step for step in compiled if step.custom),
    )


def apply(compiled: Compiled, payload: bytes) -> Mapped:
    """Maps one record, given as JSON bytes. Columns without a mapping, and fields that are missing, become None."""
    row = compiled.plain.row(payload)
    if row is not None and not compiled.others and not compiled.custom_steps:
        return Mapped(row, [])
    try:
        record = _decode(payload)
    except (msgspec.DecodeError, RecursionError) as broken:
        # JSON to PostgreSQL, but not to us: a whole number of thousands of digits, or nesting without end.
        message = f"the record can't be read: {broken}"
        return Mapped((None,) * len(compiled.columns), [{"column": None, "rule": "readable", "message": message}])
    values: dict[str, Any] = dict(zip(compiled.columns, row or repeat(None), strict=False))
    reasons: list[Reason] = []
    for step in compiled.steps if row is None else compiled.others:
        values[step.column] = value(step, record, payload, reasons)
    if compiled.custom_steps:
        values["custom"] = _custom(compiled.custom_steps, record, payload, values["custom"], reasons)
    return Mapped(tuple(values.values()), reasons)


def mapped(compiled: Compiled, payloads: Iterable[bytes]) -> Iterator[Mapped]:
    """Maps records, each given as JSON bytes, in their order."""
    return (apply(compiled, payload) for payload in payloads)


def _custom(steps: Sequence[Step], record: Any, payload: bytes, base: str | None, reasons: list[Reason]) -> str | None:
    """The whole of `customFields`, with the `custom.<name>` targets laid over it."""
    custom = _decode(base) if base is not None else {}
    if not isinstance(custom, dict):
        message = "it is not an object, so custom.<name> has no place in it"
        reasons.append({"column": "custom", "rule": "type", "message": message})
        return base
    for step in steps:
        found = value(step, record, payload, reasons)
        if found is not None:
            custom[step.column.removeprefix(CUSTOM_PREFIX)] = _decode(found)
    return to_json(custom) if custom or base is not None else None
