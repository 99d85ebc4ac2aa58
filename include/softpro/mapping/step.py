"""Compile one mapping to a step that turns a record into the value of one column."""

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
"""Why a record is rejected: {column, rule, message}. `column` is None if the whole record is at fault."""


PLAIN_NAME = re.compile(r"""[^"\\\x00-\x1f]+""")
PLAIN_DEPTH = 20


@dataclass(frozen=True)
class Step:
    """One compiled mapping: look the field up, apply the rule, fall back to the default, convert to the column's type.

    Attributes:
        column: a column, or `custom.<name>`.
        path: where the field is in a record.
        rule: the index of the mapping's rule among the rules of the set, or None.
        rule_name: the vendor's field, as messages name it.
        default: the text to use for a field that is missing or null.
        required: a record without a value is rejected.
        kind: the type of the column.
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
        """Return the converter of the column's type. It raises ValueError for a value that does not fit."""
        return CONVERTERS[self.kind]

    @property
    def custom(self) -> bool:
        """Return whether the value becomes a name in the column `custom`."""
        return self.column.startswith(CUSTOM_PREFIX)

    @property
    def plain(self) -> bool:
        """Return whether the fast path can read the field as it is: no rule, no list index, a simple path."""
        names_only = all(isinstance(name, str) for name in self.path)
        return self.rule is None and not self.custom and names_only and self.simple

    @property
    def simple(self) -> bool:
        """Return whether the path is short and its names need no escaping, so that the fast readers accept it."""
        names = [name for name in self.path if isinstance(name, str)]
        return len(self.path) <= PLAIN_DEPTH and all(map(PLAIN_NAME.fullmatch, names))


# Loaded regardless of the mappings. The vendor's other timestamp, updatedAt, is part of a record's key.
CREATED_AT = Step("softpro_created_at", ("createdAt",), None, "createdAt", None, False, Type.TIMESTAMP)


def compile_step(mapping: Mapping, rules: list[tuple[str, paths.Path]]) -> Step:
    """Compile a mapping, and append its rule with the path of its field to `rules`.

    Raises:
        ValueError: the mapping is invalid.
    """
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
    """Convert a found value to the column's value. Return None, and append to `reasons`, if that is impossible.

    Args:
        step: the compiled mapping.
        found: the value at the path, or the result of the rule; MISSING if there was none.
        reasons: receives the reason if the value is required or can't be converted.

    A null counts as missing, except for a target in `custom` that has no default and is not required.
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
