r"""Refuse regular expressions that can keep PostgreSQL busy.

PostgreSQL matches without backtracking, in time proportional to the text, with two exceptions. A back-reference makes
it try every way to divide the text. Nested repetitions such as `((a{1,99}){1,99}){1,99}` make it build a huge
automaton.
"""

from __future__ import annotations

import re

MAX_LENGTH = 1_000
MAX_STATES = 2_000
"""The most states of a pattern: its characters and sets, each counted as often as its repetitions demand it."""

OPTIONS = re.compile(r"\(\?([a-z]+)\)")
SAFE_OPTIONS = frozenset("cimnpstw")
"""The options at the beginning of a pattern that leave its syntax as it is."""

BACK_REFERENCE = "should hold no back-reference such as \\1, because PostgreSQL may need minutes for one"
OTHER_SYNTAX = f"should begin with no *** and with no options besides {', '.join(sorted(SAFE_OPTIONS))}"
TOO_LARGE = f"repeats too much: written out, it should have at most {MAX_STATES} characters and sets"

BOUNDS = re.compile(r"\{(\d+)(,(\d*))?\}")
BRACKETS = re.compile(r"\[\^?\]?(?:\\.|\[:\w+:\]|\[\..*?\.\]|\[=.*?=\]|[^\]\\])*\]", re.DOTALL)
GROUP = re.compile(r"\((?:\?(?::|<?[=!]))?")
COMMENT = re.compile(r"\(\?#[^)]*\)")


def problem(pattern: str) -> str | None:
    """Return why a pattern in PostgreSQL's advanced syntax is refused, or None.

    PostgreSQL itself reports what it can't read.
    """
    options = OPTIONS.match(pattern)
    if pattern.startswith("***") or (options and not SAFE_OPTIONS.issuperset(options[1])):
        return OTHER_SYNTAX
    totals, last, at = [0], 0, options.end() if options else 0
    while at < len(pattern):
        sign = pattern[at]
        if comment := COMMENT.match(pattern, at):
            at = comment.end()
            continue
        if bounds := BOUNDS.match(pattern, at):
            totals[-1] += last * (max(int(bounds[1]), int(bounds[3] or 0), 1) - 1)
            last, at = 0, bounds.end()
        elif sign == "(" and (group := GROUP.match(pattern, at)):
            totals.append(0)
            last, at = 0, group.end()
        elif sign == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] += last
            at += 1
        elif sign in "*+?|^$)":
            at += 1
        else:
            if sign == "\\" and "1" <= pattern[at + 1 : at + 2] <= "9":
                return BACK_REFERENCE
            brackets = BRACKETS.match(pattern, at) if sign == "[" else None
            at = brackets.end() if brackets else at + (2 if sign == "\\" else 1)
            last = 1
            totals[-1] += 1
        if totals[-1] > MAX_STATES:
            return TOO_LARGE
    return None
