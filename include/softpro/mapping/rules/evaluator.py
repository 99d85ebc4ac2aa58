"""Evaluate JSONata rules in a separate process, with limits on time and memory.

In a rule, `$` is the value of the mapping's field (undefined if it is missing) and `$record` the whole record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from threading import Event

from softpro.errors import RulesUnavailable
from softpro.mapping.rules.messages import NOT_TRIED, Evaluated, Evaluation, Rule, RuleRequest
from softpro.mapping.rules.supervisor import ProcessEnded, RuleProcess

MAX_STOPS = 10
"""A rule that was stopped this often is not tried again, so that a run ends."""

MAX_LOSSES = 3
"""How often the process may end for other reasons than a rule, such as a system without memory."""
PROCESS_KEEPS_ENDING = "The process that evaluates mapping rules keeps ending; the next run retries"

BATCH_RECORDS, BATCH_CHARACTERS = 250, 1_000_000
MAX_REQUESTS_IN_FLIGHT = 2
"""Requests that may wait for a response at the same time."""


@dataclass(slots=True, eq=False)
class _PendingRecord:
    """A record that was sent and has no result yet, with `failures` of its skipped rules by index."""

    asked: Evaluation
    failures: dict[int, str] | None = None

    def leave_out(self, rule: int, why: str) -> None:
        """Skip the rule for this record, and record why."""
        if rule not in self.asked.skipped:
            self.failures = {**(self.failures or {}), rule: why}
            self.asked.skipped.append(rule)


class Rules:
    """Rules to evaluate over records. Create it with `evaluating`."""

    def __init__(self, rules: Sequence[Rule], stop: Event | None = None) -> None:
        self._rules = list(rules)
        self._stop = stop
        self._stopped = [0] * len(rules)
        self._lost = 0
        self._lost_at: tuple[_PendingRecord, int] | None = None
        self._process: RuleProcess | None = None
        self._waiting: deque[_PendingRecord] = deque()
        self._requests = 0
        self._evaluations = 0  # by this process, in received responses

    def evaluate(self, records: Iterable[Evaluation]) -> Iterator[Evaluated]:
        """Yield the result of each record in order, reading some records ahead.

        Raises:
            RulesUnavailable: the process keeps ending although no rule is to blame.
        """
        if not self._rules:
            yield from (Evaluated([], {}) for _ in records)
            return
        for batch in _batches(records):
            added = [_PendingRecord(record) for record in batch]
            self._waiting.extend(added)
            for rule, times in enumerate(self._stopped):
                if times >= MAX_STOPS:
                    self._give_up(rule)
            if self._process is None:
                self._start()
            else:
                self._send(added)
            while self._requests >= MAX_REQUESTS_IN_FLIGHT:
                yield from self._answered()
        while self._waiting:
            yield from self._answered()

    def end(self) -> None:
        """End the process, if one runs."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _start(self) -> None:
        """Start a new process, and send it every record without a result."""
        if self._stop is not None and self._stop.is_set():
            raise RulesUnavailable("The evaluation of mapping rules was stopped")
        self._process = RuleProcess(self._stop)
        self._requests = self._evaluations = 0
        self._send(list(self._waiting), self._rules)

    def _send(self, waiting: Sequence[_PendingRecord], rules: list[Rule] | None = None) -> None:
        assert self._process is not None
        self._process.send(RuleRequest(rules=rules, records=[each.asked for each in waiting]))
        self._requests += 1

    def _answered(self) -> Iterator[Evaluated]:
        """Yield the results of the next response; nothing if the process ended instead."""
        assert self._process is not None
        try:
            response = self._process.receive()
        except ProcessEnded as ended:
            self.end()
            self._look_into(ended)
            self._start()
            return
        self._requests -= response.last
        for evaluated in response.evaluated:
            waiting = self._waiting.popleft()
            self._evaluations += len(self._rules) - len(waiting.asked.skipped)
            if waiting.failures:
                evaluated.failures.update(waiting.failures)
            yield evaluated

    def _look_into(self, ended: ProcessEnded) -> None:
        """Skip the rule for the record that ended the process, or at which the process was lost twice.

        Raises:
            RulesUnavailable: the process was lost too often, and no rule is to blame.
        """
        at = None if ended.evaluation is None else self._at(ended.evaluation - self._evaluations)
        if at is not None and (ended.guilty or at == self._lost_at):
            self._leave_out(*at, ended.why)
            return
        self._lost, self._lost_at = self._lost + 1, at
        if self._lost > MAX_LOSSES:
            raise RulesUnavailable(f"{PROCESS_KEEPS_ENDING}: {ended.why}") from None

    def _at(self, number: int) -> tuple[_PendingRecord, int] | None:
        """Return the pending record and the rule of an evaluation, counted from the first pending one."""
        for waiting in self._waiting:
            tried = [rule for rule in range(len(self._rules)) if rule not in waiting.asked.skipped]
            if number < len(tried):
                return waiting, tried[number]
            number -= len(tried)
        return None

    def _leave_out(self, waiting: _PendingRecord, rule: int, why: str) -> None:
        waiting.leave_out(rule, why)
        self._stopped[rule] += 1
        if self._stopped[rule] >= MAX_STOPS:
            self._give_up(rule)

    def _give_up(self, rule: int) -> None:
        for waiting in self._waiting:
            waiting.leave_out(rule, NOT_TRIED)


@contextmanager
def evaluating(rules: Sequence[Rule], stop: Event | None = None) -> Iterator[Rules]:
    """Yield an evaluator. The first record starts its process, and the end of the block ends it.

    Args:
        stop: once another thread sets it, the process ends, and the evaluation raises RulesUnavailable.
    """
    created = Rules(rules, stop)
    try:
        yield created
    finally:
        created.end()


def problems(texts: Sequence[str]) -> list[str | None]:
    """Return for each text why it does not compile, or None.

    Raises:
        RulesUnavailable: the process ended although no text is to blame.
    """
    found: dict[int, str | None] = {}
    while len(found) < len(texts):
        left = [number for number in range(len(texts)) if number not in found]
        process = RuleProcess()
        try:
            process.send(RuleRequest(check=[texts[number] for number in left]))
            found.update(zip(left, process.receive().problems, strict=True))
        except ProcessEnded as ended:
            if not ended.guilty or ended.evaluation is None:
                raise RulesUnavailable(f"The process that compiles mapping rules ended: {ended.why}") from None
            found[left[ended.evaluation]] = ended.why
        finally:
            process.end()
    return [found[number] for number in range(len(texts))]


def _batches(records: Iterable[Evaluation]) -> Iterator[list[Evaluation]]:
    """Yield batches of records, limited by number and by characters."""
    remaining = iter(records)
    while batch := list(islice(remaining, 1)):
        size = _size(batch[0])
        while len(batch) < BATCH_RECORDS and size < BATCH_CHARACTERS and (record := next(remaining, None)) is not None:
            batch.append(record)
            size += _size(record)
        yield batch


def _size(record: Evaluation) -> int:
    return sum(len(read) for read in record.reads if read is not None)
