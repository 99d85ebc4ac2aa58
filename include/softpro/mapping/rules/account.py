"""Count the seconds that rules waste in a run: slow evaluations, and evaluations that were stopped.

The account is a shared file, so it outlives the processes that evaluate the rules.
"""

from __future__ import annotations

import mmap
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

RUN_SECONDS = 10.0
"""The budget of slow and stopped evaluations of a run, over all its rules and all restarts of the process."""
STOP_SECONDS = 2.5
"""The charge for an evaluation that timed out or was stopped. It exceeds the time used, so that few are tried."""

COUNTER, SPENT, LIMIT, FIRST_RULE = range(4)
"""The fields of an account: evaluations begun and ended, microseconds spent in all, their limit, and of each rule."""
FIELD_BYTES = 8
MICROSECONDS = 1_000_000


def never() -> bool:
    """Return False: nothing cancels the evaluation."""
    return False


@dataclass
class RuleBudget:
    """The limits of the rules of a run or a preview, shared by all its evaluations.

    Attributes:
        seconds: the limit of slow and stopped evaluations together.
        deadline: a time of `time.monotonic` after which the evaluation ends without the remaining records, once at
            least one has its results. None for no limit.
        cancelled: returns whether the evaluation must end at once. A thread calls it repeatedly.
        spent: the seconds charged so far.
    """

    seconds: float = RUN_SECONDS
    deadline: float | None = None
    cancelled: Callable[[], bool] = never
    spent: float = 0.0

    @property
    def late(self) -> bool:
        """Return whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline


class Account:
    """The shared file with the account of some rules."""

    def __init__(self, rules: int, budget: RuleBudget) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the account
        self.file.truncate(FIELD_BYTES * (FIRST_RULE + rules))
        self.fields = open_fields(self.file.fileno())
        self._budget = budget
        self.fields[LIMIT] = int(budget.seconds * MICROSECONDS)
        self.fields[SPENT] = int(budget.spent * MICROSECONDS)

    @property
    def spent(self) -> float:
        """Return the seconds charged so far."""
        return self.fields[SPENT] / MICROSECONDS

    def close(self) -> None:
        """Close the file, and update the budget."""
        self._budget.spent = self.spent
        self.file.close()


def open_fields(descriptor: int) -> memoryview:
    """Return the fields of an account from its file descriptor."""
    return memoryview(mmap.mmap(descriptor, 0)).cast("Q")


def charge(fields: memoryview, rule: int | None, seconds: float) -> None:
    """Add seconds to the sum, and to those of a rule."""
    fields[SPENT] += int(seconds * MICROSECONDS)
    if rule is not None:
        fields[FIRST_RULE + rule] += int(seconds * MICROSECONDS)


def is_used_up(fields: memoryview) -> bool:
    """Return whether the budget is used up."""
    return bool(fields[SPENT] >= fields[LIMIT])


def is_given_up(fields: memoryview, rule: int) -> bool:
    """Return whether a rule must not be tried again.

    Once the budget is used up, the rules that used it are not tried again. Once it is used up twice, none is.
    """
    spent, limit = fields[SPENT], fields[LIMIT]
    return bool(spent >= limit and (fields[FIRST_RULE + rule] or spent >= 2 * limit))
