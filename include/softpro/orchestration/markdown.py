"""Show text of others in Airflow's questions, which render Markdown and HTML."""

from __future__ import annotations

import re

MAX_CHARACTERS = 500
BREAKERS = re.compile(r"[`\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that end a code span or a line, or reverse the direction of text."""


def code(text: object) -> str:
    """Return the text as a Markdown code span, in which neither Markdown nor HTML has an effect.

    Args:
        text: the text of a customer or the vendor; cut after `MAX_CHARACTERS`.
    """
    shown = BREAKERS.sub(lambda found: "'" if found[0] == "`" else " ", str(text))
    cut = shown if len(shown) <= MAX_CHARACTERS else f"{shown[: MAX_CHARACTERS - 1]}…"
    return f"`{cut.strip() or ' '}`"
