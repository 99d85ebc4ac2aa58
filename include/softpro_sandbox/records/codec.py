"""Encode records as JSON bytes and decode them, with every number exact."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

Record = dict[str, Any]

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def encode(record: Mapping[str, Any]) -> bytes:
    """Encode a record as compact UTF-8 JSON; Decimals keep their digits."""
    try:
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        # A raw record can contain a lone surrogate. JSON can escape it, UTF-8 cannot encode it.
        return json.dumps(record, default=float).encode()


def decode(body: bytes) -> Record:
    """Decode a record from JSON, with fractions as Decimal. Raise ValueError for anything but an object."""
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError:
        record = json.loads(body, parse_float=Decimal, parse_constant=_refuse)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
