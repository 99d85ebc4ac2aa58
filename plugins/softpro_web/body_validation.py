"""Refuse bodies that PostgreSQL could not hold, and name the place of each problem."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError

MAX_DEPTH = 64
MAX_REPORTED = 20
RECORD = "record"
"""The field with a SoftPro record. Its route validates it, because a preview shows what cannot be stored."""

Place = tuple[str | int, ...]


async def _require_storable(request: Request) -> None:
    """Check the request body.

    Raises:
        RequestValidationError: It holds a NUL, half a surrogate pair or a non-finite number, or is nested too deep.
    """
    wrong = await run_in_threadpool(_find_problems, await request.body())
    if wrong:
        raise RequestValidationError(wrong)


def _find_problems(body: bytes) -> list[dict[str, Any]]:
    """Return the first `MAX_REPORTED` problems, in the form of FastAPI's own."""
    try:
        found = problems(json.loads(body or b"null"))
    except (ValueError, RecursionError):
        return []  # not JSON: the route's model reports it
    return [{"loc": ("body", *place), "msg": message} for place, message in islice(found, MAX_REPORTED)]


Storable = Annotated[None, Depends(_require_storable)]


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
