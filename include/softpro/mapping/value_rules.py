"""Validate a mapping's `validationRules`: what a value has to satisfy beyond its column's type.

    {"type": "integer", "enum": ["A", "B"], "pattern": "^[A-Z]", "min": 0, "max": 10, "length": {"min": 1, "max": 5}}

Each rule is optional. A value has to satisfy all that are given, and a missing value satisfies every rule.
`softpro.quality` evaluates the rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from softpro.mapping import patterns
from softpro.mapping.columns import Type
from softpro.mapping.convert import NUL, to_number, to_timestamp

# The types that a rule may require, by the column's type. A text is checked by what it can be parsed as.
TYPES: dict[Type, tuple[str, ...]] = {
    Type.TEXT: ("string", "number", "integer", "boolean", "timestamp"),
    Type.NUMBER: ("number", "integer"),
    Type.MONEY: ("number", "integer"),
    Type.TIMESTAMP: ("timestamp",),
    Type.JSON: ("string", "number", "integer", "boolean", "object", "array"),
}
NUMERIC = (Type.NUMBER, Type.MONEY)
MAX_ENUM_VALUES = 1_000


def problems(rules: Any, kind: Type) -> list[str]:
    """Return what is wrong with the rules for a target of this type. PostgreSQL checks the patterns later."""
    if not isinstance(rules, Mapping) or not rules:
        return [f"validationRules should be an object with some of {', '.join(CHECKS)}, or null"]
    if NUL.search(json.dumps(rules)):
        return ["validationRules: a NUL character can't be stored"]
    return [
        f"validationRules.{name}: {problem}"
        for name, value in rules.items()
        if (problem := CHECKS[name](value, kind) if name in CHECKS else f"is none of {', '.join(CHECKS)}")
    ] + _orders(rules)


def _type(value: Any, kind: Type) -> str | None:
    return None if value in TYPES[kind] else f"should be one of {', '.join(TYPES[kind])} for this target"


def _enum(value: Any, kind: Type) -> str | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 0 < len(value) <= MAX_ENUM_VALUES:
        return f"should be a list of 1 to {MAX_ENUM_VALUES} values"
    if kind in NUMERIC:
        return None if all(_number(each) for each in value) else "should hold numbers, as the target does"
    if kind is Type.TIMESTAMP:
        return "is not for timestamps; use min and max"
    allowed = (str,) if kind is Type.TEXT else (str, int, float)
    return None if all(isinstance(each, allowed) for each in value) else "should hold texts, as the target does"


def _pattern(value: Any, kind: Type) -> str | None:
    if kind not in (Type.TEXT, Type.JSON):
        return "is for texts only"
    if not isinstance(value, str) or not 0 < len(value) <= patterns.MAX_LENGTH:
        return f"should be a regular expression of 1 to {patterns.MAX_LENGTH} characters"
    return patterns.problem(value)


def _bound(value: Any, kind: Type) -> str | None:
    if kind is Type.TIMESTAMP:
        try:
            to_timestamp(value)
        except ValueError:
            return "should be a timestamp, as the target is"
        return None
    return None if _number(value) else "should be a number"


def _length(value: Any, kind: Type) -> str | None:
    if kind not in (Type.TEXT, Type.JSON):
        return "is for texts only"
    bounds = value if isinstance(value, Mapping) else {"min": value}
    if bounds and set(bounds) <= {"min", "max"} and all(_count(each) for each in bounds.values()):
        return None
    return 'should be a number of characters, or {"min": …, "max": …}'


CHECKS: dict[str, Callable[[Any, Type], str | None]] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "min": _bound,
    "max": _bound,
    "length": _length,
}


def _orders(rules: Mapping[str, Any]) -> list[str]:
    """Return the pairs of bounds that no value can satisfy."""
    pairs = [("validationRules", rules)]
    if isinstance(rules.get("length"), Mapping):
        pairs.append(("validationRules.length", rules["length"]))
    found = []
    for name, bounds in pairs:
        if _above(bounds.get("min"), bounds.get("max")):
            found.append(f"{name}: min is above max")
    return found


def _above(low: Any, high: Any) -> bool:
    if _number(low) and _number(high):
        return bool(low > high)
    try:
        return to_timestamp(low) > to_timestamp(high)
    except ValueError:
        return False


def _number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        to_number(str(value))
    except ValueError:
        return False
    return True


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
