"""The process in which rules are compiled and evaluated: `python -m softpro.mapping.rules.process FD`.

Nobody else imports jsonatapy. What a rule does to this process (it takes all memory, it never ends, it nests until the
stack is gone) costs this process alone; `rules` watches it, ends it, and starts another one.

It reads `RuleRequest`s from standard input and writes a response to each to standard output, each after its length in
four bytes. The file FD holds a counter that goes up when a rule begins and when it has ended, so it is odd meanwhile.
"""

from __future__ import annotations

import gc
import math
import mmap
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Context, Decimal
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import perf_counter, process_time
from typing import Any, BinaryIO

import jsonatapy
import msgspec

from softpro.mapping.rules.messages import (
    COUNTER_BYTES,
    LENGTH,
    NOT_TRIED,
    Evaluated,
    Evaluation,
    Rule,
    RuleRequest,
    RuleResponse,
)

TIMEOUT_MILLISECONDS = 500
MOST_TRIES = 5
"""Of an evaluation that is late by jsonatapy's clock, the one on the wall, while the CPU hardly worked on it."""
STACK_DEPTH = 500
SEQUENCE_LENGTH = 100_000
MEMORY_BYTES = 128 * 1024**2
"""Of address space beyond what it has when it begins."""
Evaluator = Callable[[Sequence[str | None]], str | None]

SLOW_SECONDS, SLOW_TOTAL_TIMEOUT_SECONDS = 0.02, 10.0
"""What is slow of one evaluation, and for how long all rules together may be so: a run is to end some day."""
LONGEST_RESULT = 1_000_000
LARGEST_RECORD = 4_000_000
"""Characters of a result, and of all of a record's results."""
DEEPEST_RESULT = 100
LARGEST_ANSWER = 1_000_000
"""Characters of results that are sent together."""

LATE = "D1012"
"""What jsonatapy says of an evaluation that took longer than its timeout begins so."""
AMBIGUOUS = ("null", '""')
BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
"""Texts as wholes, so that brackets in them are none."""
MANY_DIGITS = 17  # and a point among them
DIGITS = re.compile(f"[0-9.]{{{MANY_DIGITS}}}")
SIGNIFICANT_DIGITS = Context(prec=15)  # what JSONata itself prints of a double; the rest is noise of binary fractions

_encode = msgspec.json.Encoder(decimal_format="number").encode


def _number(text: str) -> Decimal:
    number = SIGNIFICANT_DIGITS.create_decimal(text)
    whole = number.to_integral_value()
    return whole if whole == number else number.normalize()


_decode = msgspec.json.Decoder(float_hook=_number).decode
_plain = msgspec.json.Decoder().decode


class Worker:
    """Rules, compiled once each, and the counter of what they do."""

    def __init__(self, counter: memoryview) -> None:
        self._counter = counter
        self._count = 0
        self._compiled: dict[str, Any] = {}
        self._evaluators: list[Evaluator] = []
        self._slow: set[int] = set()
        self._slow_seconds = 0.0
        self._cpu_seconds = 0.0

    def answers(self, request: RuleRequest) -> Iterator[RuleResponse]:
        """What comes of a request, as soon as there is much of it."""
        if request.rules is not None:
            self._evaluators = [_evaluator(rule, self.compile) for rule in request.rules]
        self._cpu_seconds = process_time()
        if request.check is not None:
            yield RuleResponse(problems=[self.check(text) for text in request.check])
            return
        evaluated: list[Evaluated] = []
        size = 0
        for record in request.records:
            if size > LARGEST_ANSWER:
                yield RuleResponse(evaluated=evaluated, last=False)
                evaluated, size = [], 0
            results, failures = self.evaluate(record)
            evaluated.append(Evaluated(results, failures))
            size += sum(map(len, filter(None, results)))
        yield RuleResponse(evaluated=evaluated)

    def compile(self, text: str) -> Any:
        """The rule. Raises ValueError with the parse error."""
        if text not in self._compiled:
            self._compiled[text] = jsonatapy.compile(
                text, timeout=TIMEOUT_MILLISECONDS, max_stack_depth=STACK_DEPTH, max_sequence_length=SEQUENCE_LENGTH
            )
        return self._compiled[text]

    def evaluate(self, record: Evaluation) -> tuple[list[str | None], dict[int, str]]:
        """What every rule comes to for a record, but for skipped ones, and the messages of those that fail."""
        results: list[str | None] = []
        failures: dict[int, str] = {}
        reads, skipped, counter, count = record.reads, record.skipped, self._counter, self._count
        size = 0
        for number, evaluate in enumerate(self._evaluators):
            result = None
            if number not in skipped:
                counter[0] = count = count + 1
                began = perf_counter()
                try:
                    if number in self._slow and self._slow_seconds > SLOW_TOTAL_TIMEOUT_SECONDS:
                        raise ValueError(NOT_TRIED)
                    found = self._patiently(evaluate, reads)
                    if size + len(found or "") > LARGEST_RECORD:
                        raise ValueError(f"the record's results have more than {LARGEST_RECORD:,} characters")
                    result, size = found, size + len(found or "")
                except BaseException as failed:  # noqa: BLE001 - whatever it is, a panic even, it is this rule's
                    failures[number] = str(failed) or type(failed).__name__
                if (seconds := perf_counter() - began) > SLOW_SECONDS:
                    self._note_slow(number, seconds)
                counter[0] = count = count + 1
            results.append(result)
        self._count = count
        return results, failures

    def _patiently(self, evaluate: Evaluator, reads: Sequence[str | None]) -> str | None:
        """What a rule comes to; tried again where the machine, not the rule, was slow."""
        for _ in range(MOST_TRIES - 1):
            try:
                return evaluate(reads)
            except ValueError as failed:
                # Since the last note other evaluations worked as well: it is no less than this one did.
                worked = process_time() - self._cpu_seconds
                if not str(failed).startswith(LATE) or worked > TIMEOUT_MILLISECONDS / 2000:
                    raise
        return evaluate(reads)

    def _note_slow(self, number: int, seconds: float) -> None:
        """Counts no more than the CPU has worked since the last time: a busy machine is not the rule's fault."""
        cpu_seconds = process_time()
        self._slow_seconds += min(seconds, cpu_seconds - self._cpu_seconds)
        self._slow.add(number)
        self._cpu_seconds = cpu_seconds

    def check(self, text: str) -> str | None:
        """What keeps the rule from being compiled."""
        self._tick()
        try:
            self.compile(text)
        except Exception as wrong:  # noqa: BLE001
            return str(wrong) or type(wrong).__name__
        finally:
            self._tick()
        return None

    def _tick(self) -> None:
        self._count += 1
        self._counter[0] = self._count


def _evaluator(rule: Rule, compiled: Callable[[str], Any]) -> Evaluator:
    """The rule as a function of a record's reads, which raises ValueError where it fails on them."""
    text, place, whole, names = rule.text, rule.value, rule.whole, list(rule.names.items())
    asks_existence = "$exists" in text
    expression: Any = None

    def bindings(value: str | None, reads: Sequence[str | None]) -> dict[str, Any] | None:
        bound: dict[str, Any] = {}
        if whole is not None:
            bound["record"] = _plain(reads[whole] or "null")
        elif names:
            bound["record"] = {name: _plain(read) for name, at in names if (read := reads[at]) is not None}
        if asks_existence and value is not None:
            bound[""] = _plain(value)  # else $exists($) is false, whatever $ is
        return bound or None

    def evaluate(reads: Sequence[str | None]) -> str | None:
        nonlocal expression
        if expression is None:
            expression = compiled(text)
        value = reads[place]
        bound = bindings(value, reads) if names or whole is not None or asks_existence else None
        try:
            result: str | None = expression.evaluate_json_or_none(value, bound)
        except OverflowError:
            raise ValueError("the record holds a whole number beyond 64 bits, which $record can't carry") from None
        if result is None:
            return None
        if len(result) > LONGEST_RESULT:
            raise ValueError(f"its result has more than {LONGEST_RESULT:,} characters")
        if result in AMBIGUOUS or "[null" in result or ",null" in result or ":null" in result:
            _require_json(result, expression, value, bound)
        if result.count("[") + result.count("{") > DEEPEST_RESULT:
            _require_flat(result)
        return _rounded(result) if len(result) >= MANY_DIGITS and DIGITS.search(result) else result

    return evaluate


def _require_json(written: str, expression: Any, value: str | None, bound: dict[str, Any] | None) -> None:
    """Raises ValueError for a result that is no JSON: jsonatapy writes one as null, functions as an empty text."""
    try:
        result = expression.evaluate(None if value is None else _plain(value), bound)
    except OverflowError:  # a whole number beyond 64 bits is none of these
        return
    if result is None and written != "null":
        raise ValueError("its result is a function")
    if not _finite(result):
        raise ValueError("D1001: Number out of range")


def _require_flat(result: str) -> None:
    """Raises ValueError for what nests so deeply that others can't read it."""
    depth = 0
    for sign in BRACKETS.findall(result):
        depth += 1 if sign in "[{" else -1 if sign in "]}" else 0
        if depth > DEEPEST_RESULT:
            raise ValueError(f"its result nests more than {DEEPEST_RESULT} levels")


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, list) or all(map(_finite, value))


def _rounded(result: str) -> str:
    """JSON whose numbers have no more digits than JSONata shows."""
    return _encode(_decode(result)).decode()


def _read(stream: BinaryIO, into: SimpleQueue[RuleRequest | None]) -> None:
    """Takes requests off the pipe while earlier ones are answered, so that who sends them need not wait."""
    decoder = msgspec.msgpack.Decoder(RuleRequest)
    while length := stream.read(LENGTH.size):
        into.put(decoder.decode(stream.read(*LENGTH.unpack(length))))
    into.put(None)


def main() -> None:
    counter = memoryview(mmap.mmap(int(sys.argv[1]), COUNTER_BYTES)).cast("Q")
    _limit()
    gc.disable()  # nothing here refers to itself, and a tenth of the time went into finding that out
    requests: SimpleQueue[RuleRequest | None] = SimpleQueue()
    Thread(target=_read, args=(sys.stdin.buffer, requests), daemon=True).start()
    worker, encode = Worker(counter), msgspec.msgpack.Encoder().encode
    while (request := requests.get()) is not None:
        for answer in worker.answers(request):
            body = encode(answer)
            sys.stdout.buffer.write(LENGTH.pack(len(body)) + body)
            sys.stdout.buffer.flush()


def _limit() -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():  # macOS, which has no such limit either
        return
    used = int(statm.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
