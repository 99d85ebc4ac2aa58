"""Transformation rules: JSONata, compiled once, bounded in time, depth and length.

In a rule `$` is the value of the mapping's field (undefined where the field is missing) and `$record` the whole record.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

import jsonatapy  # here, on the main thread: imported first by a thread that ends, it crashes the process later
import msgspec

from softpro.mapping.paths import MISSING

TIMEOUT_MILLISECONDS = 500
STACK_DEPTH = 500
SEQUENCE_LENGTH = 100_000
SIGNIFICANT_DIGITS = Context(prec=15)  # what JSONata itself prints of a double; the rest is noise of binary fractions

Rule = Callable[[Any, bytes], Any]

_encode = msgspec.json.Encoder(decimal_format="number").encode


def _number(text: str) -> Decimal:
    return SIGNIFICANT_DIGITS.create_decimal(text)


_decode = msgspec.json.Decoder(float_hook=_number).decode


def compile_rule(text: str) -> Rule:
    """The rule as a function of the field's value and the record's JSON bytes. Raises ValueError with the parse error.

    The function returns MISSING where JSONata says undefined, and raises ValueError when the rule fails on this record
    or exceeds its bounds.
    """
    expression = jsonatapy.compile(
        text, timeout=TIMEOUT_MILLISECONDS, max_stack_depth=STACK_DEPTH, max_sequence_length=SEQUENCE_LENGTH
    )
    wants_record = "$record" in text

    def evaluate(value: Any, payload: bytes) -> Any:
        context = None if value is MISSING else _encode(value).decode()
        bindings = {"record": msgspec.json.decode(payload)} if wants_record else None
        try:
            answer = expression.evaluate_json_or_none(context, bindings)
        except OverflowError:
            raise ValueError("the record holds a whole number beyond 64 bits, which $record can't carry") from None
        return MISSING if answer is None else _decode(answer)

    return evaluate
