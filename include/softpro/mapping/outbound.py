"""The way back: from a row of ours to the fields of the vendor's record that its mappings name.

In a `toSoftPro` rule `$` is the column's value and `$record` the whole row, by column.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from softpro.entities import EntityType
from softpro.mapping.columns import CUSTOM_PREFIX
from softpro.mapping.mapping import TO_SOFTPRO, Mapping
from softpro.mapping.paths import MISSING, Path, look_up
from softpro.mapping.rules.evaluator import Rules
from softpro.mapping.rules.inputs import Asking, asking
from softpro.mapping.rules.messages import Evaluation
from softpro.timestamps import format_time

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Sent(NamedTuple):
    """`values`: JSON by the vendor's field, none where there is nothing to say; `failures`: why a field has none."""

    values: dict[str, str]
    failures: dict[str, str]


@dataclass(frozen=True)
class Outbound:
    """What takes part in sending: of each mapping the vendor's field; and where its value stands, or the number of its
    rule among those of `asking`."""

    fields: tuple[tuple[str, Path | int], ...]
    asking: Asking


def outbound(entity_type: EntityType, mappings: Sequence[Mapping]) -> Outbound:
    """Compiles the mappings of one entity type that take part in sending to SoftPro."""
    rules: list[tuple[str, Path]] = []
    fields: list[tuple[str, Path | int]] = []
    for mapping in mappings:
        if mapping.outbound and mapping.entity_type is entity_type:
            place, rule = _place(mapping.roi_systems_field), mapping.rules.get(TO_SOFTPRO)
            fields.append((mapping.softpro_field, place if rule is None else len(rules)))
            if rule is not None:
                rules.append((rule, place))
    return Outbound(tuple(fields), asking(rules))


def sent(compiled: Outbound, rows: Iterable[Dict[str, Any]], rules: Rules) -> Iterator[Sent]:
    """What the vendor would be sent of each row, given by column as psycopg reads it. Raises RulesUnavailable."""
    ahead: deque[Dict[str, Any]] = deque()

    def asked() -> Iterator[Evaluation]:
        for row in rows:
            ahead.append({column: _json_ready(value) for column, value in row.items()})
            yield compiled.asking.of(ahead[-1], _encode(ahead[-1]))

    for evaluated in rules.evaluate(asked()):
        row, values, failures = ahead.popleft(), dict[str, str](), dict[str, str]()
        for field, where in compiled.fields:
            if isinstance(where, tuple):
                found = look_up(row, where)
                result = None if found is MISSING else _encode(found).decode()
            elif where in evaluated.failures:
                failures[field] = evaluated.failures[where]
                continue
            else:
                result = evaluated.results[where]
            if result is not None:
                values[field] = result
        yield Sent(values, failures)


def _place(target: str) -> Path:
    """Where a target's value stands in a row."""
    if target.startswith(CUSTOM_PREFIX):
        return "custom", target.removeprefix(CUSTOM_PREFIX)
    return (target,)


def _json_ready(value: Any) -> Any:
    return format_time(value) if isinstance(value, datetime) else value
