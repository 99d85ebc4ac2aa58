"""Show organization ids and findings in Airflow's questions as text, whatever they contain."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from softpro.orchestration.markdown import MAX_CHARACTERS, code

ORCHESTRATION = Path(__file__).resolve().parents[2] / "include" / "softpro" / "orchestration"
ATTACKS = [
    "[pay here](https://evil.example)",
    "![x](https://evil.example/log)",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "`** <b>out** `",
    "``` \n# Approve this",
    "a\r\n\r\n# heading\n* item",
    "a\u2028# heading\u2029",
    "\u202eevorppA",
    "**Approve**: safe",
    "| a | b |\n|---|---|",
    "",
    "   ",
    "`" * 50,
    "x" * 5_000,
]


@pytest.mark.parametrize("text", ATTACKS)
def test_a_text_stays_in_its_code_span(text: str) -> None:
    span = code(text)
    assert re.fullmatch(r"`[^`\r\n\u2028\u2029\u202a-\u202e]+`", span)
    assert len(span) <= MAX_CHARACTERS + 2


@pytest.mark.parametrize("module", ["holds.py", "reconcile.py"])
def test_every_text_of_others_in_a_question_is_quoted(module: str) -> None:
    tree = ast.parse((ORCHESTRATION / module).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    questions = [node for node in functions if node.name in ("questions", "_body")]
    assert len(questions) == 2
    shown = [
        ast.unparse(part.value)
        for function in questions
        for part in ast.walk(function)
        if isinstance(part, ast.FormattedValue)
    ]
    foreign = [each for each in shown if re.search(r"organization_id|message|\beach\b", each)]
    assert foreign
    assert [each for each in foreign if not each.startswith("code(")] == []
