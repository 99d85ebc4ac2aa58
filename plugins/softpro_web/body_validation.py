"""Bodies that PostgreSQL could not hold are refused before a route sees them, with the place of what is wrong."""

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
"""A record of SoftPro's is judged by who reads it: what can't be stored of it is what a preview is asked for."""

Place = tuple[str | int, ...]


async def _require_storable(request: Request) -> None:
    """Raises RequestValidationError for a NUL, half a surrogate pair, a number that is none, or a body too deep."""
    wrong = await run_in_threadpool(_find_problems, await request.body())
    if wrong:
        raise RequestValidationError(wrong)


def _find_problems(body: bytes) -> list[dict[str, Any]]:
    """The first few problems, as FastAPI notes its own."""
    try:
        found = problems(json.loads(body or b"null"))
    except (ValueError, RecursionError):
        return []  # no JSON: the route's own model says so
    return [{"loc": ("body", *place), "msg": message} for place, message in islice(found, MAX_REPORTED)]


Storable = Annotated[None, Depends(_require_storable)]


def problems(body: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Where a body holds what can't be stored, and why."""
    if len(place) > MAX_DEPTH:
        yield place[:3], f"is nested more than {MAX_DEPTH} levels deep"
    elif isinstance(body, str):
        if "\0" in body:
            yield place, "holds a NUL character"
        elif not body.isascii() and any("\ud800" <= character <= "\udfff" for character in body):
            yield place, "holds half a surrogate pair"
    elif isinstance(body, float):
        if not math.isfinite(body):
            yield place, "is no number of JSON"
    elif isinstance(body, list):
        for number, item in enumerate(body):
            yield from problems(item, (*place, number))
    elif isinstance(body, dict):
        for name, value in body.items():
            if not place and name == RECORD:
                continue
            yield from ((place, message) for _, message in problems(name))
            yield from problems(value, (*place, name))
