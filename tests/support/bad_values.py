"""Generate a bad value for each column that a mapping can fill, each with the reasons that its case must name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS, Type
from softpro.mapping.defaults import FIELDS, default_mappings
from softpro.mapping.mapping import Mapping

from .bad_transactions import Reason, Tree, set_path, to_json

BETWEEN = "expect_column_values_to_be_between"
TYPE, ENUM, PATTERN = "validationRules.type", "validationRules.enum", "validationRules.pattern"
MIN, MAX, LENGTH = "validationRules.min", "validationRules.max", "validationRules.length"

# The rules for each kind of column, a value that keeps them, and values that break them with the broken rules. They are
# chosen so that each rule can be broken alone.
RULES: dict[str, dict[str, Any]] = {
    "text": {
        "type": "integer",
        "enum": ["15", "12.5", "+20", "5", "250", "000025"],
        "pattern": "^[0-9.]+$",
        "min": 10,
        "max": 100,
        "length": {"min": 1, "max": 5},
    },
    "number": {"type": "integer", "enum": [15, 12.5, -500, 500], "min": -100, "max": 100},
    "money": {"type": "integer", "enum": [15, 12.5, 1, 5000], "min": 10, "max": 1000},
    "timestamp": {"min": "2020-01-01", "max": "2030-01-01T00:00:00Z"},
    "custom.word": {
        "type": "string",
        "enum": ["Yes", "low", "Far too long", 7],
        "pattern": "^[A-Z7]",
        "length": {"max": 5},
    },
    "custom.amount": {"type": "integer", "enum": [15, 12.5, 5, 250], "min": 10, "max": 100},
}
GOOD = {
    "text": '"15"',
    "number": "15",
    "money": "15.00",
    "timestamp": '"2025-03-09T02:30:00.007-07:00"',
    "custom.word": '"Yes"',
    "custom.amount": "15",
}
BROKEN: dict[str, dict[str, list[str]]] = {
    "text": {
        '"17"': [ENUM],
        '"12.5"': [TYPE],
        '"+20"': [PATTERN],
        '"5"': [MIN],
        '"250"': [MAX],
        '"000025"': [LENGTH],
        "{}": ["type"],
        '["15"]': ["type"],
    },
    "number": {
        "17": [ENUM],
        "12.5": [TYPE],
        "-500": [MIN],
        "500": [MAX],
        "true": ["type"],
        "{}": ["type"],
        '"north"': ["type"],
        "1e400": ["type"],
    },
    "money": {
        "17": [ENUM],
        "12.5": [TYPE],
        "1": [MIN],
        "5000": [MAX],
        "false": ["type"],
        "[]": ["type"],
        '"a lot"': ["type"],
        "15.005": ["type"],
        "-15": [ENUM, MIN, BETWEEN],  # the rule's bound and the suite's
        "1000000000000": [ENUM, MAX, BETWEEN],
        "123456789012345678901234567890.5": [TYPE, ENUM, MAX, BETWEEN],
    },
    "timestamp": {
        '"2019-12-31T23:59:59.999Z"': [MIN],
        '"2030-01-01T00:00:00.001Z"': [MAX],
        '"2025-02-30"': ["type"],
        '"soon"': ["type"],
        '""': ["type"],
        "17": ["type"],
        "{}": ["type"],
    },
    "custom.word": {
        '"Seven"': [ENUM],
        '"low"': [PATTERN],
        '"Far too long"': [LENGTH],
        "7": [TYPE],
        "{}": [TYPE, ENUM, PATTERN, LENGTH],
    },
    "custom.amount": {
        "17": [ENUM],
        "12.5": [TYPE],
        "5": [MIN],
        "250": [MAX],
        '"x"': [TYPE, ENUM, MIN, MAX],
    },
}
CUSTOM = {"[1]": ["type"], '"x"': ["type"]}
"""Bad values for the whole of `custom`: a name can only be added to an object."""
UNSTORABLE = ['"a\\u0000b"', '"half \\ud83c"']
KEYS = {EntityType.TRANSACTION: "orderId", EntityType.CONTACT: "contactId"}
MOMENT = '"2025-06-01T00:00:00.000Z"'


@dataclass(frozen=True)
class BadRecord:
    """A record with a bad value.

    Attributes:
        id: SoftPro's id of the record.
        payload: The record as SoftPro sends it.
        reasons: The rules and columns that its quarantine case must name.
        landed: True if its payload is kept as jsonb writes it, False if byte for byte.
    """

    id: str
    payload: bytes
    reasons: list[Reason]
    landed: bool = True


def mappings(entity: EntityType) -> list[Mapping]:
    """Return the default set with rules for each column, and two custom fields."""
    ruled = [
        replace(mapping, validation_rules=RULES.get(_kind(entity, mapping.roi_systems_field)))
        for mapping in default_mappings(entity)
    ]
    return ruled + [
        Mapping(entity, f"more.{name}", f"custom.{name}", validation_rules=RULES[f"custom.{name}"])
        for name in ("word", "amount")
    ]


def good_record(entity: EntityType, record_id: str) -> Tree:
    """Return a record that keeps all rules."""
    tree: Tree = {KEYS[entity]: json.dumps(record_id), "createdAt": MOMENT, "updatedAt": MOMENT}
    for path, kind in _fields(entity).items():
        _add_parents(tree, path)
        set_path(tree, path, GOOD.get(kind, '{"a": 1}'))
    return tree


def one_at_a_time(entity: EntityType) -> Iterator[BadRecord]:
    """Yield a record for each column and each bad value of it; all other values are good."""
    targets = _targets(entity)
    for path, kind in _fields(entity).items():
        column = targets[path]
        for number, (value, rules) in enumerate(BROKEN.get(kind, CUSTOM).items()):
            yield _bad_record(entity, f"{column} {number}", {path: value}, [(rule, column) for rule in rules])
        for number, value in enumerate(UNSTORABLE):
            record = _bad_record(entity, f"{column} unstorable {number}", {path: value}, [("readable", None)])
            yield replace(record, landed=False)


def all_together(entity: EntityType) -> Iterator[BadRecord]:
    """Yield records in which every column is bad: in one no column can be mapped, in the other all break the rules."""
    fields, targets = _fields(entity), _targets(entity)
    for name, wrong in (("mapped", lambda rules: rules == ["type"]), ("kept", lambda rules: "type" not in rules)):
        values: dict[str, str] = {}
        reasons: list[Reason] = []
        for path, kind in fields.items():
            ways = BROKEN.get(kind, CUSTOM)
            found = next(((value, rules) for value, rules in ways.items() if wrong(rules)), None)
            # If `custom` is no object, the fields for it are not checked.
            if found is not None:
                values[path] = found[0]
                reasons.extend((rule, targets[path]) for rule in found[1])
        yield _bad_record(entity, f"nothing can be {name}", values, reasons)


def _bad_record(entity: EntityType, name: str, values: dict[str, str], reasons: list[Reason]) -> BadRecord:
    tree = deepcopy(good_record(entity, name))
    for path, value in values.items():
        set_path(tree, path, value)
    return BadRecord(name, to_json(tree).encode(), reasons)


def _fields(entity: EntityType) -> dict[str, str]:
    """Return the kind of value for each field of the vendor."""
    return {path: _kind(entity, target) for path, target in _targets(entity).items()}


def _targets(entity: EntityType) -> dict[str, str]:
    return {**FIELDS[entity], "more.word": "custom.word", "more.amount": "custom.amount"}


def _kind(entity: EntityType, target: str) -> str:
    return COLUMNS[entity].get(target, target)


def _add_parents(tree: Tree, path: str) -> None:
    """Create the objects along a path."""
    *parents, _ = path.split(".")
    for parent in parents:
        inner = tree.setdefault(parent, {})
        assert isinstance(inner, dict)
        tree = inner


assert all(kind in {*GOOD, Type.JSON.value} for entity in EntityType for kind in COLUMNS[entity].values())
