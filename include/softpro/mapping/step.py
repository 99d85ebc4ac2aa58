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
from softpro.mapping.set_validation import target_type

Reason = dict[str, str | None]
"""Why a record is rejected: {column, rule, message}; no column where the record as a whole is to blame."""


PLAIN_NAME = re.compile(r"""[^"\\\x00-\x1f]+""")
PLAIN_DEPTH = 20


@dataclass(frozen=True)
class Step:
    """Looks a field up, applies the rule, falls back to the default, and converts to what the column holds.

    `rule`: its number among the rules of the set.
    """

    column: str
    path: paths.Path
    rule: int | None
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
        names_only = all(isinstance(name, str) for name in self.path)
        return self.rule is None and not self.custom and names_only and self.simple

    @property
    def simple(self) -> bool:
        """Nothing of its path is only for a patient reader."""
        names = [name for name in self.path if isinstance(name, str)]
        return len(self.path) <= PLAIN_DEPTH and all(map(PLAIN_NAME.fullmatch, names))


# The one timestamp of the vendor's that is kept whatever the mappings say, and is not part of a record's key.
CREATED_AT = Step("softpro_created_at", ("createdAt",), None, "createdAt", None, False, Type.TIMESTAMP)


def compile_step(mapping: Mapping, rules: list[tuple[str, paths.Path]]) -> Step:
    """Adds the mapping's rule, and the path of its field, to the others. Raises ValueError on an invalid mapping."""
    rule, path = mapping.rules.get(FROM_SOFTPRO), paths.parse(mapping.softpro_field)
    if rule is not None:
        rules.append((rule, path))
    return Step(
        column=mapping.roi_systems_field,
        path=path,
        rule=len(rules) - 1 if rule is not None else None,
        rule_name=mapping.softpro_field,
        default=mapping.default_value,
        required=mapping.required,
        kind=target_type(mapping),
    )


def value(step: Step, found: Any, reasons: list[Reason]) -> Any:
    """The column's value for what the path, or the rule, found; None, and a reason more, where there can be none.

    MISSING: nothing was found. Under a name in `custom`, a null that was found is one; else it is nothing, too.
    """
    if found is MISSING or (found is None and (step.default is not None or step.required or not step.custom)):
        if step.default is None:
            if step.required:
                message = f"{step.rule_name} is missing or null"
                reasons.append({"column": step.column, "rule": "required", "message": message})
            return None
        found = step.default
    try:
        return step.convert(found)
    except ValueError as wrong:
        reasons.append({"column": step.column, "rule": "type", "message": f"{step.rule_name}: {wrong}"})
        return None
