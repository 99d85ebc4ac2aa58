"""Evaluate rules as the product does, many at once in one process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softpro.mapping.rules.evaluator import evaluating
from softpro.mapping.rules.messages import Evaluation, Rule

UNDEFINED = object()
"""The result of a rule without a value, and a field that does not exist."""


@dataclass(frozen=True)
class Failed:
    """The message of a rule that fails."""

    message: str


def evaluate(cases: Sequence[tuple[str, Any]]) -> list[Any]:
    """Return each rule's result over its own value: a value, UNDEFINED or Failed."""
    rules = [Rule(text, 0, 1, {}) for text, _ in cases]
    asked = []
    for number, (_, value) in enumerate(cases):
        written = None if value is UNDEFINED else json.dumps(value)
        asked.append(Evaluation([written, written], [other for other in range(len(cases)) if other != number]))
    with evaluating(rules) as evaluator:
        evaluated = list(evaluator.evaluate(asked))
    return [_outcome(each.results[number], each.failures.get(number)) for number, each in enumerate(evaluated)]


def _outcome(result: str | None, failure: str | None) -> Any:
    if failure is not None:
        return Failed(failure)
    return UNDEFINED if result is None else json.loads(result)
