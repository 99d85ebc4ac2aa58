"""Transformation rules: JSONata, compiled once, evaluated in a process of their own, bounded in time and memory.

In a rule `$` is the value of the mapping's field (undefined where the field is missing) and `$record` the whole record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from softpro.errors import RulesUnavailable
from softpro.mapping.rules.messages import NOT_TRIED, Evaluated, Evaluation, Rule, RuleRequest
from softpro.mapping.rules.supervisor import Ended, RuleProcess

MOST_STOPPED = 10
"""Times that a rule had to be stopped, after which it is not tried any more: a run is to end some day."""

MOST_LOST = 3
"""Times that the process may end without a rule's doing, as when the system is out of memory."""
GONE = "The process that evaluates mapping rules ended again and again, and the next run tries again"

BATCH_RECORDS, BATCH_CHARACTERS = 250, 1_000_000
AT_ONCE = 2
"""Requests that are sent before the first of them is answered."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A record that was sent and not answered yet; `failures`: of rules that are left out for it, by their number."""

    asked: Evaluation
    failures: dict[int, str] | None = None

    def leave_out(self, rule: int, why: str) -> None:
        if rule not in self.asked.skipped:
            self.failures = {**(self.failures or {}), rule: why}
            self.asked.skipped.append(rule)


class Rules:
    """Rules that are evaluated over records; made by `evaluating`."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = list(rules)
        self._stopped = [0] * len(rules)
        self._lost = 0
        self._lost_at: tuple[_Waiting, int] | None = None
        self._process: RuleProcess | None = None
        self._waiting: deque[_Waiting] = deque()
        self._requests = 0
        self._evaluations = 0  # of the process, in what it has answered

    def evaluate(self, records: Iterable[Evaluation]) -> Iterator[Evaluated]:
        """What becomes of each record, in their order. Some are taken ahead, so that nobody waits for the others.

        Raises RulesUnavailable.
        """
        if not self._rules:
            yield from (Evaluated([], {}) for _ in records)
            return
        for batch in _batches(records):
            added = [_Waiting(record) for record in batch]
            self._waiting.extend(added)
            for rule, times in enumerate(self._stopped):
                if times >= MOST_STOPPED:
                    self._give_up(rule)
            if self._process is None:
                self._start()
            else:
                self._send(added)
            while self._requests >= AT_ONCE:
                yield from self._answered()
        while self._waiting:
            yield from self._answered()

    def end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None

    def _start(self) -> None:
        """A new process, which is asked for all that waits."""
        self._process = RuleProcess()
        self._requests = self._evaluations = 0
        self._send(list(self._waiting), self._rules)

    def _send(self, waiting: Sequence[_Waiting], rules: list[Rule] | None = None) -> None:
        assert self._process is not None
        self._process.send(RuleRequest(rules=rules, records=[each.asked for each in waiting]))
        self._requests += 1

    def _answered(self) -> Iterator[Evaluated]:
        """What the process says next; nothing where it ended instead."""
        assert self._process is not None
        try:
            answer = self._process.receive()
        except Ended as ended:
            self.end()
            self._look_into(ended)
            self._start()
            return
        self._requests -= answer.last
        for evaluated in answer.evaluated:
            waiting = self._waiting.popleft()
            self._evaluations += len(self._rules) - len(waiting.asked.skipped)
            if waiting.failures:
                evaluated.failures.update(waiting.failures)
            yield evaluated

    def _look_into(self, ended: Ended) -> None:
        """Leaves out the rule, for the record, that ended the process, or at which it was lost twice.

        Raises RulesUnavailable where it was lost again and again, and nobody knows why.
        """
        at = None if ended.evaluation is None else self._at(ended.evaluation - self._evaluations)
        if at is not None and (ended.guilty or at == self._lost_at):
            self._leave_out(*at, ended.why)
            return
        self._lost, self._lost_at = self._lost + 1, at
        if self._lost > MOST_LOST:
            raise RulesUnavailable(f"{GONE}: {ended.why}") from None

    def _at(self, number: int) -> tuple[_Waiting, int] | None:
        """The record and the rule of the evaluation of this number among those that wait."""
        for waiting in self._waiting:
            tried = [rule for rule in range(len(self._rules)) if rule not in waiting.asked.skipped]
            if number < len(tried):
                return waiting, tried[number]
            number -= len(tried)
        return None

    def _leave_out(self, waiting: _Waiting, rule: int, why: str) -> None:
        waiting.leave_out(rule, why)
        self._stopped[rule] += 1
        if self._stopped[rule] >= MOST_STOPPED:
            self._give_up(rule)

    def _give_up(self, rule: int) -> None:
        for waiting in self._waiting:
            waiting.leave_out(rule, NOT_TRIED)


@contextmanager
def evaluating(rules: Sequence[Rule]) -> Iterator[Rules]:
    """Rules to be evaluated; their process is started by the first record, and ended with the block."""
    made = Rules(rules)
    try:
        yield made
    finally:
        made.end()


def problems(texts: Sequence[str]) -> list[str | None]:
    """What keeps each text from being compiled, or None. Raises RulesUnavailable."""
    found: dict[int, str | None] = {}
    while len(found) < len(texts):
        left = [number for number in range(len(texts)) if number not in found]
        process = RuleProcess()
        try:
            process.send(RuleRequest(check=[texts[number] for number in left]))
            found.update(zip(left, process.receive().problems, strict=True))
        except Ended as ended:
            if not ended.guilty or ended.evaluation is None:
                raise RulesUnavailable(f"The process that compiles mapping rules ended: {ended.why}") from None
            found[left[ended.evaluation]] = ended.why
        finally:
            process.end()
    return [found[number] for number in range(len(texts))]


def _batches(records: Iterable[Evaluation]) -> Iterator[list[Evaluation]]:
    """Records that are sent together: some, but not too many characters."""
    remaining = iter(records)
    while batch := list(islice(remaining, 1)):
        size = _size(batch[0])
        while len(batch) < BATCH_RECORDS and size < BATCH_CHARACTERS and (record := next(remaining, None)) is not None:
            batch.append(record)
            size += _size(record)
        yield batch


def _size(record: Evaluation) -> int:
    return sum(len(read) for read in record.reads if read is not None)
