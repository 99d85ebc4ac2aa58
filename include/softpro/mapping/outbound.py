"""Map a row of ours to the fields of the vendor's record.

In a `toSoftPro` rule, `$` is the column's value and `$record` the whole row, by column.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from softpro import json_codec
from softpro.entities import EntityType
from softpro.mapping.columns import CUSTOM_PREFIX
from softpro.mapping.mapping import TO_SOFTPRO, Mapping
from softpro.mapping.paths import MISSING, Path, look_up
from softpro.mapping.rules.evaluator import Rules
from softpro.mapping.rules.inputs import RuleInputs, rule_inputs
from softpro.mapping.rules.messages import Evaluation
from softpro.timestamps import format_time


class OutboundValues(NamedTuple):
    """JSON by the vendor's field, without fields that have no value, and `failures` by field."""

    values: dict[str, str]
    failures: dict[str, str]


@dataclass(frozen=True)
class Outbound:
    """The compiled outbound mappings of an entity type.

    Attributes:
        fields: the vendor's field of each mapping, with the path of its value in a row or the index of its rule.
        rule_inputs: the rules, and the paths that they read.
    """

    fields: tuple[tuple[str, Path | int], ...]
    rule_inputs: RuleInputs


def compile_outbound(entity_type: EntityType, mappings: Sequence[Mapping]) -> Outbound:
    """Compile the outbound mappings of one entity type."""
    rules: list[tuple[str, Path]] = []
    fields: list[tuple[str, Path | int]] = []
    for mapping in mappings:
        if mapping.outbound and mapping.entity_type is entity_type:
            place, rule = _row_path(mapping.roi_systems_field), mapping.rules.get(TO_SOFTPRO)
            fields.append((mapping.softpro_field, place if rule is None else len(rules)))
            if rule is not None:
                rules.append((rule, place))
    return Outbound(tuple(fields), rule_inputs(rules))


def outbound_values(compiled: Outbound, rows: Iterable[Dict[str, Any]], rules: Rules) -> Iterator[OutboundValues]:
    """Yield what the vendor would be sent for each row, given by column as psycopg reads it.

    Raises:
        RulesUnavailable: the process that evaluates rules keeps ending.
    """
    ahead: deque[Dict[str, Any]] = deque()

    def evaluations() -> Iterator[Evaluation]:
        for row in rows:
            ahead.append({column: _json_ready(value) for column, value in row.items()})
            yield compiled.rule_inputs.evaluation(ahead[-1], json_codec.encode(ahead[-1]))

    for evaluated in rules.evaluate(evaluations()):
        row, values, failures = ahead.popleft(), dict[str, str](), dict[str, str]()
        for field, where in compiled.fields:
            if isinstance(where, tuple):
                found = look_up(row, where)
                result = None if found is MISSING else json_codec.encode(found).decode()
            elif where in evaluated.failures:
                failures[field] = evaluated.failures[where]
                continue
            else:
                result = evaluated.results[where]
            if result is not None:
                values[field] = result
        yield OutboundValues(values, failures)


def _row_path(target: str) -> Path:
    """Return the path of a target's value in a row."""
    if target.startswith(CUSTOM_PREFIX):
        return "custom", target.removeprefix(CUSTOM_PREFIX)
    return (target,)


def _json_ready(value: Any) -> Any:
    return format_time(value) if isinstance(value, datetime) else value
