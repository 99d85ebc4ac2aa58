"""From a JSON value to what a column holds, or a reason why not. Numbers arrive as int or Decimal, never as float."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from softpro.mapping.columns import Type
from softpro.timestamps import parse_time

_encode = msgspec.json.Encoder(decimal_format="number").encode

SHOWN_CHARACTERS = 60

NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL character as JSON writes it, and not a backslash followed by these letters."""

NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?\s*", re.ASCII)
"""Of a text. Decimal itself would read other things, too: 1_000, NaN, the digits of other scripts."""

LARGEST_EXPONENT, MOST_DECIMALS = 300, 1000
CENT = Decimal("0.01")
_ORDINARY = Context(prec=28)
_EXACT = Context(prec=LARGEST_EXPONENT + 10)


def to_text(value: Any) -> str:
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("a text with a NUL character can't be stored")
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"  # all its digits, as PostgreSQL writes it
    raise ValueError(f"{_shown(value)} is not a text")


def to_number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise ValueError(f"{_shown(value)} is not a number")
    try:
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            raise InvalidOperation
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{_shown(value)} is not a number") from None
    if not number.is_finite() or abs(number.adjusted()) > LARGEST_EXPONENT or _decimals(number) > MOST_DECIMALS:
        raise ValueError(f"{_shown(value)} is not a number that can be stored")
    return number


def to_money(value: Any) -> Decimal:
    amount = to_number(value)
    if _EXACT.quantize(amount, CENT) != amount:
        raise ValueError(f"{_shown(value)} has more than two decimals")
    return amount


def _decimals(number: Decimal) -> int:
    """Digits after the point, trailing zeros left out; 0 for a number of few digits, which has few of these too."""
    if _ORDINARY.plus(number) == number:
        return 0
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # finite
    written = "".join(map(str, digits)).rstrip("0")
    return -exponent - (len(digits) - len(written))


def to_timestamp(value: Any) -> datetime:
    try:
        return parse_time(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{_shown(value)} is not a timestamp") from None


def to_json(value: Any) -> str:
    text = _encode(value).decode()
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
    text = _encode(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
