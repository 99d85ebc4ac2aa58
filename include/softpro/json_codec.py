"""Encode and decode JSON: numbers keep all their digits, and dataclasses become objects with camelCase names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from pydantic.alias_generators import to_camel

from softpro.timestamps import format_milliseconds

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

encode: Callable[[Any], bytes] = msgspec.json.Encoder(decimal_format="number").encode
"""Encode a value as UTF-8 bytes; a `Decimal` becomes a number, a `msgspec.Raw` stays as it is."""

decode: Callable[[bytes | str], Any] = msgspec.json.Decoder(float_hook=Decimal).decode
"""Decode a text; numbers with a fraction become `Decimal`. Raises msgspec.DecodeError."""


def camel_case(record: DataclassInstance, *names: str) -> dict[str, Any]:
    """Return fields of a dataclass as a JSON object.

    Args:
        record: the dataclass; ids become texts, times ISO 8601 with milliseconds, other values stay as they are.
        names: the fields in their order; all of them if left out.
    """
    chosen = names or [field.name for field in dataclasses.fields(record)]
    return {to_camel(name): _plain(getattr(record, name)) for name in chosen}


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    return format_milliseconds(value) if isinstance(value, datetime) else value
