"""Convert a JSON value to a column's type. Numbers arrive as int or Decimal, never as float."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from softpro import json_codec
from softpro.mapping.columns import Type
from softpro.timestamps import parse_time

SHOWN_CHARACTERS = 60

NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL character as JSON escapes it, but not an escaped backslash followed by these letters."""

NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?\s*", re.ASCII)
"""A number as text. Decimal alone would also accept 1_000, NaN and the digits of other scripts."""

MAX_EXPONENT, MAX_DECIMALS = 300, 1000
CENT = Decimal("0.01")
_ORDINARY = Context(prec=28)
_EXACT = Context(prec=MAX_EXPONENT + 10)


def to_text(value: Any) -> str:
    """Return a text, a boolean or a number as text. Raises ValueError."""
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("a text with a NUL character can't be stored")
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"  # all digits, as PostgreSQL prints them
    raise ValueError(f"{_shown(value)} is not a text")


def to_number(value: Any) -> Decimal:
    """Return a number, or a text that holds one. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise ValueError(f"{_shown(value)} is not a number")
    try:
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            raise InvalidOperation
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{_shown(value)} is not a number") from None
    if not number.is_finite() or abs(number.adjusted()) > MAX_EXPONENT or _decimals(number) > MAX_DECIMALS:
        raise ValueError(f"{_shown(value)} is not a number that can be stored")
    return number


def to_money(value: Any) -> Decimal:
    """Return a number of at most two decimals. Raises ValueError."""
    amount = to_number(value)
    if _EXACT.quantize(amount, CENT) != amount:
        raise ValueError(f"{_shown(value)} has more than two decimals")
    return amount


def _decimals(number: Decimal) -> int:
    """Return the decimals without trailing zeros. Numbers of at most 28 digits can't have too many, and return 0."""
    if _ORDINARY.plus(number) == number:
        return 0
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # finite
    written = "".join(map(str, digits)).rstrip("0")
    return -exponent - (len(digits) - len(written))


def to_timestamp(value: Any) -> datetime:
    """Return an aware datetime in UTC. Raises ValueError."""
    try:
        return parse_time(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{_shown(value)} is not a timestamp") from None


def to_json(value: Any) -> str:
    """Return the value as JSON text. Raises ValueError."""
    text = json_codec.encode(value).decode()
    if NUL.search(text):
        raise ValueError("a text with a NUL character can't be stored")
    return text


CONVERTERS: dict[Type, Callable[[Any], Any]] = {
    Type.TEXT: to_text,
    Type.NUMBER: to_number,
    Type.MONEY: to_money,
    Type.TIMESTAMP: to_timestamp,
    Type.JSON: to_json,
}


def _shown(value: Any) -> str:
    text = json_codec.encode(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
