"""Parse bodies, refuse what PostgreSQL could not hold, and name the place of each problem."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

MAX_DEPTH = 64
MAX_REPORTED = 20
RECORD = "record"
"""The field with a SoftPro record. Its route validates it, because a preview shows what cannot be stored."""

Place = tuple[str | int, ...]


def parse(body: bytes) -> tuple[Any, list[dict[str, Any]]]:
    """Return the parsed body, and the first `MAX_REPORTED` problems in the form of FastAPI's own.

    A problem is a NUL, half a surrogate pair, a non-finite number, or nesting that is too deep. A body that is no JSON
    is returned as its error, which FastAPI reports in the route's form.
    """
    if not body:
        return None, []
    try:
        parsed = json.loads(body)
        found = islice(problems(parsed), MAX_REPORTED)
        return parsed, [{"loc": ("body", *place), "msg": message} for place, message in found]
    except json.JSONDecodeError as broken:
        return broken, []
    except (ValueError, RecursionError) as broken:  # no UTF-8, or too deep to parse
        return json.JSONDecodeError(type(broken).__name__, "", 0), []


def problems(body: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield the place and the reason of each value that cannot be stored."""
    if len(place) > MAX_DEPTH:
        yield place[:3], f"is nested more than {MAX_DEPTH} levels deep"
    elif isinstance(body, str):
        if "\0" in body:
            yield place, "holds a NUL character"
        elif not body.isascii() and any("\ud800" <= character <= "\udfff" for character in body):
            yield place, "holds half a surrogate pair"
    elif isinstance(body, float):
        if not math.isfinite(body):
            yield place, "is not a JSON number"
    elif isinstance(body, list):
        for number, item in enumerate(body):
            yield from problems(item, (*place, number))
    elif isinstance(body, dict):
        for name, value in body.items():
            if not place and name == RECORD:
                continue
            yield from ((place, message) for _, message in problems(name))
            yield from problems(value, (*place, name))
