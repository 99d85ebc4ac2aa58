"""Encode, compare and apply values of fields as exact JSON.

A field is a column of the roi table, or `custom.<name>`: each name in `custom` is a separate field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softpro import json_codec
from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS, CUSTOM_PREFIX
from softpro.mapping.paths import MISSING
from softpro.softpro360.contract import ROI_SYSTEMS_ID

Fields = dict[str, Any]
"""Values by field. A `custom.<name>` that does not exist is omitted."""


decode = json_codec.decode


def encode(value: Any) -> str | None:
    """Return a value as JSON text, or None for MISSING."""
    return None if value is MISSING else json_codec.encode(value).decode()


def decode_value(text: str | None) -> Any:
    """Return the value of a JSON text, or MISSING for None."""
    return MISSING if text is None else decode(text)


def same_json(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal. `1` equals `1.0` but not `true`; MISSING does not equal null."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same_json(value, other[name]) for name, value in one.items())
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def fields_of(entity_type: EntityType, row: Mapping[str, Any]) -> Fields:
    """Return the fields of a roi row or a staged row, like `softpro.fields_of` in the database."""
    fields: Fields = {column: row[column] for column in COLUMNS[entity_type] if column != "custom"}
    custom = row["custom"]
    if isinstance(custom, dict):
        fields |= {CUSTOM_PREFIX + name: value for name, value in custom.items() if name != ROI_SYSTEMS_ID}
    elif custom is not None:
        fields["custom"] = custom
    return fields


def apply_fields(row: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that change with these fields. MISSING removes a `custom.<name>`."""
    columns: dict[str, Any] = {}
    custom = row["custom"]
    for field, value in changes.items():
        if not field.startswith(CUSTOM_PREFIX):
            columns[field] = None if value is MISSING else value
            continue
        name = field.removeprefix(CUSTOM_PREFIX)
        before = columns.get("custom", custom)
        kept = {key: each for key, each in before.items() if key != name} if isinstance(before, dict) else {}
        columns["custom"] = kept if value is MISSING else {**kept, name: value}
    if columns.get("custom") == {} and not custom:
        columns["custom"] = custom
    return columns
