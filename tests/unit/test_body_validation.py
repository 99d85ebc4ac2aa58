"""Refuse bodies that PostgreSQL could not store, and name the place of the error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from softpro_web.body_validation import MAX_DEPTH, problems


def refused(body: str) -> list[tuple[tuple[str | int, ...], str]]:
    return list(problems(json.loads(body)))


@pytest.mark.parametrize(
    ("body", "place", "why"),
    [
        (r'{"reason": "a\u0000b"}', ("reason",), "holds a NUL character"),
        (r'{"mappings": [{"defaultValue": "\ud800"}]}', ("mappings", 0, "defaultValue"), "holds half a surrogate pair"),
        ('{"rules": {"min": NaN}}', ("rules", "min"), "is not a JSON number"),
        ('{"limit": 1e999}', ("limit",), "is not a JSON number"),
        (r'{"rules": {"a\u0000": 1}}', ("rules",), "holds a NUL character"),
    ],
)
def test_an_unstorable_value_is_named(body: str, place: tuple[str | int, ...], why: str) -> None:
    assert refused(body) == [(place, why)]


def test_a_body_has_a_depth_that_everything_behind_it_can_bear() -> None:
    deep: Any = 0
    for _ in range(900):
        deep = [deep]
    assert list(problems({"rules": deep})) == [(("rules", 0, 0), f"is nested more than {MAX_DEPTH} levels deep")]


def test_any_other_text_is_taken_and_a_record_is_left_to_its_readers() -> None:
    assert refused(r'{"reason": "José 😀 😀", "limit": 1e300, "record": {"notes": "\u0000"}}') == []
