"""What the process that evaluates rules is asked, and what it answers: MessagePack, each after its length."""

from __future__ import annotations

import struct

import msgspec

LENGTH = struct.Struct("<I")
COUNTER_BYTES = 8
NOT_TRIED = "it was not tried: it had taken too long too often in this run"


class Rule(msgspec.Struct, array_like=True, gc=False):
    """A rule, and where among a record's reads it finds what it asks for.

    `value`: its `$`. `whole`: all of `$record`; else `names`: the fields of `$record` that it names.
    """

    text: str
    value: int
    whole: int | None
    names: dict[str, int]


class Evaluation(msgspec.Struct, array_like=True, gc=False):
    """A record's reads, as JSON; None where there is nothing. The rules that are `skipped` are not evaluated."""

    reads: list[str | None]
    skipped: list[int] = []


class Evaluated(msgspec.Struct, array_like=True, gc=False):
    """Of each rule its result, as JSON; None where that is undefined. `failures`: messages, by the rule's number."""

    results: list[str | None]
    failures: dict[int, str]


class RuleRequest(msgspec.Struct, array_like=True, gc=False):
    """Records to evaluate all rules over, after the rules themselves; or texts, to see whether they compile."""

    rules: list[Rule] | None = None
    records: list[Evaluation] = []
    check: list[str] | None = None


class RuleResponse(msgspec.Struct, array_like=True, gc=False):
    """What came of the request's next records, `last` of all; or what keeps each text from being compiled."""

    evaluated: list[Evaluated] = []
    problems: list[str | None] = []
    last: bool = True
