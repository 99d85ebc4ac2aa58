"""Compile and evaluate rules, as the process `python -m softpro.mapping.rules.process FD`.

Only this process imports jsonatapy. A rule that takes all memory, never ends or exhausts the stack ends only this
process. `supervisor` watches it, and `evaluator` starts another one.

It reads a `RuleRequest` from standard input and writes its responses to standard output, each after its length in four
bytes. The file FD is the account of the rules. Its counter grows when a rule starts and when it ends, so it is odd
during an evaluation.
"""

from __future__ import annotations

import gc
import math
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

from softpro import json_codec
from softpro.mapping.rules.account import COUNTER, STOP_SECONDS, charge, is_given_up, open_fields
from softpro.mapping.rules.messages import (
    LENGTH,
    NOT_TRIED,
    Evaluated,
    Evaluation,
    Rule,
    RuleRequest,
    RuleResponse,
)

TIMEOUT_MILLISECONDS = 500
MIN_TIMEOUT_CPU_SECONDS = 0.25
"""CPU time from which a timeout is the rule's fault."""
MAX_TRIES = 5
"""Attempts of an evaluation that timed out by the wall clock, although it used hardly any CPU time."""
STACK_DEPTH = 500
SEQUENCE_LENGTH = 100_000
MEMORY_BYTES = 128 * 1024**2
"""Address space beyond what the process has at its start."""
Evaluator = Callable[[Sequence[str | None]], str | None]

NICENESS = 10
"""The process yields to all other work of the machine, because rules can ask for any amount of CPU time."""

SLOW_SECONDS = 0.02
"""The time from which an evaluation is slow, and counts against the budget of the run."""
MAX_RESULT_CHARACTERS = 1_000_000
MAX_RECORD_CHARACTERS = 4_000_000
"""Characters of one result, and of all results of a record."""
MAX_RESULT_DEPTH = 100
MAX_RESPONSE_CHARACTERS, MAX_RESPONSE_SECONDS = 1_000_000, 0.5
"""The size of one response, and the age from which it is sent, so that little is lost if the process ends."""

TIMEOUT_CODE = "D1012"
"""The code with which jsonatapy's timeout errors begin."""
AMBIGUOUS = ("null", '""')
BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
"""Matches whole texts too, so that brackets inside them do not count."""
MANY_DIGITS = 17  # and a point among them
DIGITS = re.compile(f"[0-9.]{{{MANY_DIGITS}}}")
SIGNIFICANT_DIGITS = Context(prec=15)  # as JSONata prints a double; further digits are noise of binary fractions


def _number(text: str) -> Decimal:
    number = SIGNIFICANT_DIGITS.create_decimal(text)
    whole = number.to_integral_value()
    return whole if whole == number else number.normalize()


_decode = msgspec.json.Decoder(float_hook=_number).decode
_plain = msgspec.json.Decoder().decode


class Worker:
    """The compiled rules, and their account."""

    def __init__(self, account: memoryview) -> None:
        self._account = account
        self._count = 0
        self._compiled: dict[str, Any] = {}
        self._evaluators: list[Evaluator] = []
        self._cpu_seconds = 0.0

    def respond(self, request: RuleRequest) -> Iterator[RuleResponse]:
        """Yield the responses to a request. Large results are split into several responses."""
        if request.rules is not None:
            self._evaluators = [_evaluator(rule, self.compile) for rule in request.rules]
        self._cpu_seconds = process_time()
        if request.check is not None:
            yield RuleResponse(problems=[self.check(text) for text in request.check])
            return
        evaluated: list[Evaluated] = []
        size, began = 0, perf_counter()
        for record in request.records:
            if size > MAX_RESPONSE_CHARACTERS or (evaluated and perf_counter() - began > MAX_RESPONSE_SECONDS):
                yield RuleResponse(evaluated=evaluated, last=False)
                evaluated, size, began = [], 0, perf_counter()
            results, failures = self.evaluate(record)
            evaluated.append(Evaluated(results, failures))
            size += sum(map(len, filter(None, results)))
        yield RuleResponse(evaluated=evaluated)

    def compile(self, text: str) -> Any:
        """Return the compiled rule.

        Raises:
            ValueError: with the parse error.
        """
        if text not in self._compiled:
            self._compiled[text] = jsonatapy.compile(
                text, timeout=TIMEOUT_MILLISECONDS, max_stack_depth=STACK_DEPTH, max_sequence_length=SEQUENCE_LENGTH
            )
        return self._compiled[text]

    def evaluate(self, record: Evaluation) -> tuple[list[str | None], dict[int, str]]:
        """Return the result of every rule for a record, None for skipped ones, and the messages of failed rules."""
        results: list[str | None] = []
        failures: dict[int, str] = {}
        reads, skipped, account, count = record.reads, record.skipped, self._account, self._count
        size = 0
        for number, evaluate in enumerate(self._evaluators):
            result = None
            if number not in skipped:
                account[COUNTER] = count = count + 1
                began = perf_counter()
                try:
                    if is_given_up(account, number):
                        raise ValueError(NOT_TRIED)
                    found = self._evaluate_with_retries(evaluate, reads)
                    if size + len(found or "") > MAX_RECORD_CHARACTERS:
                        raise ValueError(f"the record's results have more than {MAX_RECORD_CHARACTERS:,} characters")
                    result, size = found, size + len(found or "")
                except BaseException as failed:  # noqa: BLE001 - any error, even a panic, is this rule's
                    failures[number] = str(failed) or type(failed).__name__
                if (seconds := perf_counter() - began) > SLOW_SECONDS:
                    self._note_slow(number, seconds, failures.get(number, ""))
                account[COUNTER] = count = count + 1
            results.append(result)
        self._count = count
        return results, failures

    def _evaluate_with_retries(self, evaluate: Evaluator, reads: Sequence[str | None]) -> str | None:
        """Return a rule's result. Retry if the machine was slow, but not the rule."""
        for _ in range(MAX_TRIES - 1):
            try:
                return evaluate(reads)
            except ValueError as failed:
                # An upper bound: it includes the evaluations since the last note.
                worked = process_time() - self._cpu_seconds
                if not str(failed).startswith(TIMEOUT_CODE) or worked > MIN_TIMEOUT_CPU_SECONDS:
                    raise
        return evaluate(reads)

    def _note_slow(self, number: int, seconds: float, failure: str) -> None:
        """Charge at most the CPU time since the last note, because a busy machine is not the rule's fault.

        A timeout that is the rule's fault has a fixed charge.
        """
        cpu_seconds = process_time()
        worked = min(seconds, cpu_seconds - self._cpu_seconds)
        timed_out = failure.startswith(TIMEOUT_CODE) and worked > MIN_TIMEOUT_CPU_SECONDS
        charge(self._account, number, STOP_SECONDS if timed_out else worked)
        self._cpu_seconds = cpu_seconds

    def check(self, text: str) -> str | None:
        """Return why the rule does not compile, or None."""
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
        self._account[COUNTER] = self._count


def _evaluator(rule: Rule, compiled: Callable[[str], Any]) -> Evaluator:
    """Return the rule as a function of a record's reads. The function raises ValueError if the rule fails."""
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
            bound[""] = _plain(value)  # otherwise $exists($) is always false
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
        if len(result) > MAX_RESULT_CHARACTERS:
            raise ValueError(f"its result has more than {MAX_RESULT_CHARACTERS:,} characters")
        if result in AMBIGUOUS or "[null" in result or ",null" in result or ":null" in result:
            _require_json(result, expression, value, bound)
        if result.count("[") + result.count("{") > MAX_RESULT_DEPTH:
            _require_flat(result)
        return _rounded(result) if len(result) >= MANY_DIGITS and DIGITS.search(result) else result

    return evaluate


def _require_json(written: str, expression: Any, value: str | None, bound: dict[str, Any] | None) -> None:
    """Check that a result is JSON. jsonatapy writes infinite numbers as null and functions as an empty text.

    Raises:
        ValueError: the result is a function or an infinite number.
    """
    try:
        result = expression.evaluate(None if value is None else _plain(value), bound)
    except OverflowError:  # an integer beyond 64 bits is neither
        return
    if result is None and written != "null":
        raise ValueError("its result is a function")
    if not _finite(result):
        raise ValueError("D1001: Number out of range")


def _require_flat(result: str) -> None:
    """Check the depth of a result, because other readers refuse deep nesting.

    Raises:
        ValueError: the result nests too deeply.
    """
    depth = 0
    for sign in BRACKETS.findall(result):
        depth += 1 if sign in "[{" else -1 if sign in "]}" else 0
        if depth > MAX_RESULT_DEPTH:
            raise ValueError(f"its result nests more than {MAX_RESULT_DEPTH} levels")


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, list) or all(map(_finite, value))


def _rounded(result: str) -> str:
    """Return the JSON with numbers rounded to the digits that JSONata shows."""
    return json_codec.encode(_decode(result)).decode()


def _read(stream: BinaryIO, into: SimpleQueue[RuleRequest | None]) -> None:
    """Queue requests while earlier ones are evaluated, so that the sender does not have to wait."""
    decoder = msgspec.msgpack.Decoder(RuleRequest)
    while length := stream.read(LENGTH.size):
        into.put(decoder.decode(stream.read(*LENGTH.unpack(length))))
    into.put(None)


def main() -> None:
    """Read requests and write responses until standard input ends."""
    account = open_fields(int(sys.argv[1]))
    os.nice(NICENESS)
    _limit()
    gc.disable()  # nothing here has reference cycles, and collecting took a tenth of the time
    requests: SimpleQueue[RuleRequest | None] = SimpleQueue()
    Thread(target=_read, args=(sys.stdin.buffer, requests), daemon=True).start()
    worker, encode = Worker(account), msgspec.msgpack.Encoder().encode
    while (request := requests.get()) is not None:
        for response in worker.respond(request):
            body = encode(response)
            sys.stdout.buffer.write(LENGTH.pack(len(body)) + body)
            sys.stdout.buffer.flush()


def _limit() -> None:
    """Limit the memory of this process, and disable core dumps."""
    statm = Path("/proc/self/statm")
    if not statm.exists():  # macOS, which does not enforce such a limit either
        return
    used = int(statm.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
