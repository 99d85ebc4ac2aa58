"""One mapping, compiled: from a record to the value of one column."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from softpro.mapping import paths
from softpro.mapping.columns import CUSTOM_PREFIX, Type
from softpro.mapping.convert import CONVERTERS
from softpro.mapping.mapping import FROM_SOFTPRO, Mapping
from softpro.mapping.paths import MISSING
from softpro.mapping.rules import Rule, compile_rule
from softpro.mapping.validate import target_type

Reason = dict[str, str | None]
"""Why a record is rejected: {column, rule, message}; no column where the record as a whole is to blame."""


PLAIN_NAME = re.compile(r"""[^"\\\x00-\x1f]+""")
PLAIN_DEPTH = 20


@dataclass(frozen=True)
class Step:
    """Looks a field up, applies the rule, falls back to the default, and converts to what the column holds."""

    column: str
    path: paths.Path
    rule: Rule | None
    rule_name: str
    default: str | None
    required: bool
    kind: Type

    @cached_property
    def convert(self) -> Callable[[Any], Any]:
        """Makes what the column holds of a value that was found. It raises ValueError."""
        return CONVERTERS[self.kind]

    @property
    def custom(self) -> bool:
        """The value goes into the column `custom`, under a name."""
        return self.column.startswith(CUSTOM_PREFIX)

    @property
    def plain(self) -> bool:
        """It takes a field as it is: no rule, no place in a list, no name that only a patient reader takes."""
        return (
            self.rule is None
            and not self.custom
            and len(self.path) <= PLAIN_DEPTH
            and all(isinstance(name, str) and PLAIN_NAME.fullmatch(name) for name in self.path)
        )


# The one timestamp of the vendor's that is kept whatever the mappings say, and is not part of a record's key.
CREATED_AT = Step("softpro_created_at", ("createdAt",), None, "createdAt", None, False, Type.TIMESTAMP)


def compile_step(mapping: Mapping) -> Step:
    """Raises ValueError on an invalid mapping."""
    rule = mapping.rules.get(FROM_SOFTPRO)
    return Step(
        column=mapping.roi_systems_field,
        path=paths.parse(mapping.softpro_field),
        rule=compile_rule(rule) if rule is not None else None,
        rule_name=mapping.softpro_field,
        default=mapping.default_value,
        required=mapping.required,
        kind=target_type(mapping),
    )


def value(step: Step, record: Any, payload: bytes, reasons: list[Reason]) -> Any:
    """The column's value for a record, given decoded and as JSON; None, and a reason more, where there can be none."""
    found = paths.look_up(record, step.path)
    if step.rule is not None:
        try:
            found = step.rule(found, payload)
        except ValueError as failed:
            reasons.append({"column": step.column, "rule": "transformation", "message": f"{step.rule_name}: {failed}"})
            return None
    if found is MISSING or found is None:
        found = step.default
    if found is None:
        if step.required:
            reasons.append(
                {"column": step.column, "rule": "required", "message": f"{step.rule_name} is missing or null"}
            )
        return None
    try:
        return step.convert(found)
    except ValueError as wrong:
        reasons.append({"column": step.column, "rule": "type", "message": f"{step.rule_name}: {wrong}"})
        return None
