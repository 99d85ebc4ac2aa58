"""Refuse patterns that can keep PostgreSQL busy, and accept those that customers write."""

from __future__ import annotations

import time

import pytest

from softpro.db.database import Database
from softpro.mapping.columns import Type
from softpro.mapping.patterns import MAX_STATES, problem
from softpro.mapping.value_rules import problems

from ..support.databases import one


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(.*)(.*)(.*)\1\2\3$",
        r"(a)\\\1",
        r"(?i)(a)\1",
        r"(?b)\(a\)\1",
        r"(?x)(a) \ 1 # comment",
        "***=a",
        "***:(a)",
        r"((a{1,99}){1,99}){1,99}",
        r"(?:[a-z]{1,200}){1,200}",
        r"([]{]{1,99}){1,99}",
        rf"(a|b{{0,{MAX_STATES}}}|c)+",
        r"((((((((((a{2}){2}){2}){2}){2}){2}){2}){2}){2}){2}){2}",
        r"(?#comment)(a{99}(?#comment){1}b{99}){99}",
    ],
)
def test_an_expensive_pattern_is_refused(pattern: str) -> None:
    assert problem(pattern)
    [message] = problems({"pattern": pattern}, Type.TEXT)
    assert message.startswith("validationRules.pattern: ")


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{2}$",
        r"^\d{3}-\d{4}$",
        r"^[\w.+-]+@[\w-]+\.[\w.]+$",
        r"(?i)^(yes|no)$",
        r"^\\1$",
        r"[\]1]",
        r"^(?=.*\d)(?!.*x).{8,200}$",
        r"^(?:[0-9]{1,3}\.){3}[0-9]{1,3}$",
        r"(a+)+$",
        "^[[:alpha:]]{1,64}$",
        "{2}",
        "(",
        ")a",
        "[",
        "\\",
    ],
)
def test_a_usual_pattern_is_accepted_or_left_to_postgresql(pattern: str) -> None:
    assert problem(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [r"^(a+)+$", r"^(a|a)*$", r"^(a*)*b$", r"^(.*)(.*)(.*)(.*)(.*)(.*)c$", r"^((a{1,40}){1,40})+$", "(a?){200}b"],
)
def test_an_accepted_pattern_is_fast_on_a_long_text(database: Database, pattern: str) -> None:
    assert problem(pattern) is None
    begun = time.monotonic()
    one(database, "select repeat('a', 10000) || '!' ~ %s", pattern)
    assert time.monotonic() - begun < 5
