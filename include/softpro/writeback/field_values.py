"""Values of fields as JSON: exact, told apart, and by the names that mappings have for them.

A field is a column of the roi table, or `custom.<name>`: each name in it is a field of its own.
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
"""By field; a `custom.<name>` that is not there is left out."""


decode = json_codec.decode


def encode(value: Any) -> str | None:
    """JSON; None for MISSING."""
    return None if value is MISSING else json_codec.encode(value).decode()


def decode_value(text: str | None) -> Any:
    """The other way round."""
    return MISSING if text is None else decode(text)


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are one to JSON: `1` is `1.0` and no `true`; a field that is not there is no null."""
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
    """The fields of a roi row, or a staged one, as `softpro.fields_of` in the database has them."""
    fields: Fields = {column: row[column] for column in COLUMNS[entity_type] if column != "custom"}
    custom = row["custom"]
    if isinstance(custom, dict):
        fields |= {CUSTOM_PREFIX + name: value for name, value in custom.items() if name != ROI_SYSTEMS_ID}
    elif custom is not None:
        fields["custom"] = custom
    return fields


def apply_fields(row: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that change where these fields do; MISSING takes a `custom.<name>` away."""
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
