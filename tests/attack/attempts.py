"""Define attempts and controls, carry them out, and count the responses."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SEED = 360


@dataclass(frozen=True)
class Verdict:
    """The judgement of one attempt.

    Attributes:
        answer: The response in a word: a status of HTTP, an error of the database.
        problem: Why the attempt got through, or why the control failed; empty otherwise.
    """

    answer: str
    problem: str = ""


@dataclass(frozen=True)
class Attempt:
    """An attack, or with `control` an allowed request of the same form, which has to succeed.

    A suite in which every request is refused proves nothing. The controls show that the same request of a caller with
    the right is carried out.
    """

    kind: str
    name: str
    act: Callable[[], Verdict] = field(repr=False)
    control: bool = False


@dataclass
class Tally:
    """The counts of one suite."""

    suite: str
    attempts: int = 0
    controls: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    through: list[str] = field(default_factory=list)
    failed_controls: list[str] = field(default_factory=list)
    seconds: float = 0

    @property
    def passed(self) -> bool:
        return not self.through and not self.failed_controls and self.attempts > 0

    def count(self, attempt: Attempt, verdict: Verdict) -> None:
        problem = f"{attempt.kind}: {attempt.name}: {verdict.problem}"
        if attempt.control:
            self.controls += 1
            self.failed_controls += [problem] if verdict.problem else []
            return
        self.attempts += 1
        self.answers[verdict.answer] += 1
        self.kinds[attempt.kind] += 1
        self.through += [problem] if verdict.problem else []

    def as_json(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "attempts": self.attempts,
            "answers": dict(sorted(self.answers.items())),
            "kinds": dict(sorted(self.kinds.items())),
            "through": self.through,
            "controls": self.controls,
            "failedControls": self.failed_controls,
            "seconds": round(self.seconds, 1),
        }


def run(suite: str, attempts: Iterable[Attempt], progress: Callable[[Tally], None] = lambda tally: None) -> Tally:
    """Carry out the attempts in order, and return their counts."""
    tally, begun = Tally(suite), time.monotonic()
    for attempt in attempts:
        tally.count(attempt, attempt.act())
        tally.seconds = time.monotonic() - begun
        progress(tally)
    return tally


def sample(attempts: Iterable[Attempt], size: int) -> Iterator[Attempt]:
    """Yield at most `size` attempts and as many controls, chosen with a fixed seed, in their order."""
    listed = list(attempts)
    for control in (False, True):
        yield from _some([each for each in listed if each.control is control], size)


def _some(listed: Sequence[Attempt], size: int) -> list[Attempt]:
    chosen = sorted(random.Random(SEED).sample(range(len(listed)), min(size, len(listed))))
    return [listed[index] for index in chosen]
