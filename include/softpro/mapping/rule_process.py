"""The process in which rules are compiled and evaluated: `python -m softpro.mapping.rule_process FD`.

Nobody else imports jsonatapy. What a rule does to this process (it takes all memory, it never ends, it nests until the
stack is gone) costs this process alone; `rules` watches it, ends it, and starts another one.

It reads `Request`s from standard input and writes an answer to each to standard output, each after its length in four
bytes. The file FD holds a counter that goes up when a rule begins and when it has ended, so it is odd meanwhile.
"""

from __future__ import annotations

import math
import mmap
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from decimal import Context, Decimal
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

import jsonatapy
import msgspec

from softpro.mapping.rule_messages import COUNTER_BYTES, LENGTH, Answer, Asked, Evaluated, Request, Rule

TIMEOUT_MILLISECONDS = 500
STACK_DEPTH = 500
SEQUENCE_LENGTH = 100_000
MEMORY_BYTES = 128 * 1024**2
"""Of address space beyond what it has when it begins."""
LONGEST_RESULT = 1_000_000
LARGEST_ANSWER = 1_000_000
"""Characters of results that are sent together."""

SIGNIFICANT_DIGITS = Context(prec=15)  # what JSONata itself prints of a double; the rest is noise of binary fractions

_encode = msgspec.json.Encoder(decimal_format="number").encode


def _number(text: str) -> Decimal:
    return SIGNIFICANT_DIGITS.create_decimal(text)


_decode = msgspec.json.Decoder(float_hook=_number).decode


class Worker:
    """Rules, compiled once each, and the counter of what they do."""

    def __init__(self, counter: memoryview) -> None:
        self._compiled: dict[str, Any] = {}
        self._counter = counter

    def compile(self, text: str) -> Any:
        """The rule. Raises ValueError with the parse error."""
        if text not in self._compiled:
            self._compiled[text] = jsonatapy.compile(
                text, timeout=TIMEOUT_MILLISECONDS, max_stack_depth=STACK_DEPTH, max_sequence_length=SEQUENCE_LENGTH
            )
        return self._compiled[text]

    def evaluate(self, rules: Sequence[Rule], record: Asked) -> Evaluated:
        """Every rule over a record, but for those that are skipped."""
        results: list[str | None] = []
        failures: dict[int, str] = {}
        for number, rule in enumerate(rules):
            result = None
            if number not in record.skipped:
                self._counter[0] += 1
                try:
                    result = self._evaluate(rule, record.reads)
                except Exception as failed:  # noqa: BLE001 - whatever it is, it is this rule's
                    failures[number] = str(failed) or type(failed).__name__
                self._counter[0] += 1
            results.append(result)
        return Evaluated(results, failures)

    def check(self, text: str) -> str | None:
        """What keeps the rule from being compiled."""
        self._counter[0] += 1
        try:
            self.compile(text)
        except Exception as wrong:  # noqa: BLE001
            return str(wrong) or type(wrong).__name__
        finally:
            self._counter[0] += 1
        return None

    def _evaluate(self, rule: Rule, reads: Sequence[str | None]) -> str | None:
        expression, value = self.compile(rule.text), reads[rule.value]
        bindings: dict[str, Any] = {}
        if rule.whole is not None:
            bindings["record"] = msgspec.json.decode(reads[rule.whole] or "null")
        elif rule.names:
            named = ((name, reads[place]) for name, place in rule.names.items())
            bindings["record"] = {name: msgspec.json.decode(read) for name, read in named if read is not None}
        if value is not None and "$exists" in rule.text:
            bindings[""] = msgspec.json.decode(value)  # else $exists($) is false, whatever $ is
        try:
            result: str | None = expression.evaluate_json_or_none(value, bindings)
        except OverflowError:
            raise ValueError("the record holds a whole number beyond 64 bits, which $record can't carry") from None
        if result is None:
            return None
        if "null" in result or result == '""':
            _require_json(result, expression, value, bindings)
        if len(result) > LONGEST_RESULT:
            raise ValueError(f"its result has more than {LONGEST_RESULT:,} characters")
        return _rounded(result) if "." in result else result


def _require_json(written: str, expression: Any, value: str | None, bindings: dict[str, Any]) -> None:
    """Raises ValueError for a result that is no JSON: jsonatapy writes one as null, functions as an empty text."""
    result = expression.evaluate(None if value is None else msgspec.json.decode(value), bindings)
    if result is None and written != "null":
        raise ValueError("its result is a function")
    if not _finite(result):
        raise ValueError("D1001: Number out of range")


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, list) or all(map(_finite, value))


def _rounded(result: str) -> str:
    """JSON whose numbers have no more digits than JSONata shows."""
    return _encode(_decode(result)).decode()


def answers(worker: Worker, request: Request) -> Iterator[Answer]:
    """What comes of a request, as soon as there is much of it."""
    if request.check is not None:
        yield Answer(problems=[worker.check(text) for text in request.check])
        return
    evaluated: list[Evaluated] = []
    size = 0
    for record in request.records:
        if size > LARGEST_ANSWER:
            yield Answer(evaluated=evaluated, last=False)
            evaluated, size = [], 0
        evaluated.append(worker.evaluate(request.rules, record))
        size += sum(len(result) for result in evaluated[-1].results if result)
    yield Answer(evaluated=evaluated)


def _read(stream: BinaryIO, into: SimpleQueue[Request | None]) -> None:
    """Takes requests off the pipe while earlier ones are answered, so that who sends them need not wait."""
    decoder = msgspec.msgpack.Decoder(Request)
    while length := stream.read(LENGTH.size):
        into.put(decoder.decode(stream.read(*LENGTH.unpack(length))))
    into.put(None)


def main() -> None:
    counter = memoryview(mmap.mmap(int(sys.argv[1]), COUNTER_BYTES)).cast("Q")
    _limit()
    requests: SimpleQueue[Request | None] = SimpleQueue()
    Thread(target=_read, args=(sys.stdin.buffer, requests), daemon=True).start()
    worker, encoder = Worker(counter), msgspec.msgpack.Encoder()
    while (request := requests.get()) is not None:
        for answer in answers(worker, request):
            body = encoder.encode(answer)
            sys.stdout.buffer.write(LENGTH.pack(len(body)) + body)
            sys.stdout.buffer.flush()


def _limit() -> None:
    with open("/proc/self/statm", encoding="ascii") as pages:
        used = int(pages.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
