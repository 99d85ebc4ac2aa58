"""Define the messages to and from the process that evaluates rules: MessagePack, each after its length."""

from __future__ import annotations

import struct

import msgspec

LENGTH = struct.Struct("<I")
NOT_TRIED = "it was not tried: it took too long too often in this run"


class Rule(msgspec.Struct, array_like=True, gc=False):
    """A rule, and the indexes of its inputs among a record's reads.

    Attributes:
        text: the JSONata.
        value: the index of `$`.
        whole: the index of the whole `$record`, or None.
        names: the indexes of the fields of `$record` that the rule names, if `whole` is None.
    """

    text: str
    value: int
    whole: int | None
    names: dict[str, int]


class Evaluation(msgspec.Struct, array_like=True, gc=False):
    """A record to evaluate: its reads as JSON, None if missing, and the indexes of the rules to skip."""

    reads: list[str | None]
    skipped: list[int] = []


class Evaluated(msgspec.Struct, array_like=True, gc=False):
    """The result of each rule as JSON, None if undefined, and `failures`: messages by the rule's index."""

    results: list[str | None]
    failures: dict[int, str]


class RuleRequest(msgspec.Struct, array_like=True, gc=False):
    """Records to evaluate, preceded by the rules on the first request, or texts to compile as a check."""

    rules: list[Rule] | None = None
    records: list[Evaluation] = []
    check: list[str] | None = None


class RuleResponse(msgspec.Struct, array_like=True, gc=False):
    """Results for the request's next records (`last` ends them), or the compile error of each text."""

    evaluated: list[Evaluated] = []
    problems: list[str | None] = []
    last: bool = True
