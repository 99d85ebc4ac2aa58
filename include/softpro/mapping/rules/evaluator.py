"""Evaluate JSONata rules in a separate process, with limits on time and memory.

In a rule, `$` is the value of the mapping's field (undefined if it is missing) and `$record` the whole record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby, islice

from softpro.errors import RulesUnavailable
from softpro.mapping.rules.account import STOP_SECONDS, Account, RuleBudget, charge, is_used_up
from softpro.mapping.rules.messages import NOT_TRIED, Evaluated, Evaluation, Rule, RuleRequest
from softpro.mapping.rules.supervisor import ProcessEnded, RuleProcess

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
    """Rules to evaluate over records. Create it with `evaluating`.

    Attributes:
        ended: the budget's deadline or its cancellation ended the evaluation before the last record.
    """

    def __init__(self, rules: Sequence[Rule], budget: RuleBudget) -> None:
        self.ended = False
        self._rules = list(rules)
        self._budget = budget
        self._account = Account(len(rules), budget)
        self._any_result = False
        self._lost = 0
        self._lost_at: tuple[_PendingRecord, int] | None = None
        self._process: RuleProcess | None = None
        self._waiting: deque[_PendingRecord] = deque()
        self._requests = 0
        self._evaluations = 0  # by this process, in received responses

    def evaluate(self, records: Iterable[Evaluation]) -> Iterator[Evaluated]:
        """Yield the result of each record in order, reading some records ahead.

        Records that skip all rules need no process, so the deadline does not end them. Once the evaluation has ended,
        the first other record is the last one to be read.

        Raises:
            RulesUnavailable: the process keeps ending although no rule is to blame.
        """
        for skips_all, group in groupby(records, lambda record: len(record.skipped) == len(self._rules)):
            if skips_all:
                yield from (Evaluated([None] * len(self._rules), {}) for _ in group)
            elif not self.ended:
                yield from self._evaluate(group)
            if self.ended and not skips_all:
                return

    @property
    def slow(self) -> bool:
        """Return whether the deadline ended the evaluation, or the budget's charges reach that of a stopped one."""
        return self.ended or self._account.spent >= STOP_SECONDS

    def _evaluate(self, records: Iterable[Evaluation]) -> Iterator[Evaluated]:
        for batch in _batches(records):
            added = [_PendingRecord(record) for record in batch]
            self._waiting.extend(added)
            if self._process is None:
                self._start()
            else:
                self._send(added)
            while self._requests >= MAX_REQUESTS_IN_FLIGHT:
                yield from self._answered()
            if self.ended:
                return
        while self._waiting:
            yield from self._answered()

    def close(self) -> None:
        """End the process, if one runs, and close the account."""
        self._end_process()
        self._account.close()

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None

    def _start(self) -> None:
        """Start a new process, and send it every record without a result."""
        self._process = RuleProcess(self._account, self._must_end)
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
            self._end_process()
            if self._must_end():
                self.ended = True
                self._waiting.clear()
                self._requests = 0
                return
            self._look_into(ended)
            self._start()
            return
        self._requests -= response.last
        self._any_result |= bool(response.evaluated)
        for evaluated in response.evaluated:
            waiting = self._waiting.popleft()
            self._evaluations += len(self._rules) - len(waiting.asked.skipped)
            if waiting.failures:
                evaluated.failures.update(waiting.failures)
            yield evaluated

    def _must_end(self) -> bool:
        return self._budget.cancelled() or (self._any_result and self._budget.late)

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
        charge(self._account.fields, rule, STOP_SECONDS)


@contextmanager
def evaluating(rules: Sequence[Rule], budget: RuleBudget | None = None) -> Iterator[Rules]:
    """Yield an evaluator. The first record starts its process, and the end of the block ends it.

    Args:
        budget: the limits, which may be shared with other evaluations of the run. Default: those of a run.
    """
    created = Rules(rules, budget or RuleBudget())
    try:
        yield created
    finally:
        created.close()


def problems(texts: Sequence[str]) -> list[str | None]:
    """Return for each text why it does not compile, or None. Texts that are left once the budget is used up fail.

    Raises:
        RulesUnavailable: the process ended although no text is to blame.
    """
    found: dict[int, str | None] = {}
    with closing(Account(0, RuleBudget())) as account:
        while len(found) < len(texts) and not is_used_up(account.fields):
            found.update(_check(texts, [number for number in range(len(texts)) if number not in found], account))
    return [found.get(number, NOT_TRIED) for number in range(len(texts))]


def _check(texts: Sequence[str], left: Sequence[int], account: Account) -> dict[int, str | None]:
    """Return the problems of these texts by number, or that of the text which ended the process."""
    process = RuleProcess(account)
    try:
        process.send(RuleRequest(check=[texts[number] for number in left]))
        return dict(zip(left, process.receive().problems, strict=True))
    except ProcessEnded as ended:
        if not ended.guilty or ended.evaluation is None:
            raise RulesUnavailable(f"The process that compiles mapping rules ended: {ended.why}") from None
        charge(account.fields, None, STOP_SECONDS)
        return {left[ended.evaluation]: ended.why}
    finally:
        process.end()


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
