"""Records as JSON bytes and back, with every number exact."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

Record = dict[str, Any]

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as compact UTF-8 JSON; Decimals become numbers with the digits they have."""
    try:
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        # A lone surrogate, which only a raw record brings in: JSON can say it as an escape, UTF-8 cannot.
        return json.dumps(record, default=float).encode()


def decode(body: bytes) -> Record:
    """A record from JSON, fractions as Decimal. Raises ValueError for anything but an object."""
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError:
        record = json.loads(body, parse_float=Decimal, parse_constant=_refuse)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
