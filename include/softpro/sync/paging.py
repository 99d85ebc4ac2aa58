"""Paging by time: where to ask next, decided from one page at a time; no I/O.

Lists are live: a record that changes while we page moves to the end and slides the others forward, so plain offsets
skip records. So each page is asked from the last accepted `updatedAt`, at offset 0; only when a whole page carries one
timestamp is it paged by offset inside it, overlapping one record. Changes also surface late, by up to `lag`,
so the stored cursor is held back: once a page reaches past what is certain to be visible, it stays there for this run.

This takes a list that keeps `sortBy=updatedAt` and `updatedFrom`; `sweep.py` pages the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Protocol

from softpro.errors import SoftProError
from softpro.softpro360.client import Page
from softpro.softpro360.contract import LAG
from softpro.softpro360.records import Key, Record

DATE_RESOLUTION = timedelta(seconds=1)  # `Date` carries whole seconds (RFC 9110 section 5.6.7)
SMALLEST_PAGE = 2  # a page overlaps the one before by a record, so one of 1 would never get on


@dataclass(frozen=True)
class Position:
    """What to ask for: records from `updated_from` on (None: from the first), at `offset`; `last` was accepted last."""

    updated_from: datetime | None = None
    offset: int = 0
    last: Key | None = None


@dataclass(frozen=True)
class Step:
    """What became of a page: whether it counts, where to go on, and whether that was the end of the list."""

    accepted: bool
    position: Position
    done: bool


class UnsortedList(SoftProError):
    """The list does not keep `sortBy=updatedAt` or `updatedFrom`; paging it by time would skip records: sweep it.

    `lacks` names the field of `Capabilities` that turned out to be false.
    """

    def __init__(self, message: str, lacks: str) -> None:
        self.lacks = lacks
        super().__init__(message)


class Way(Protocol):
    """A way through a list: the page it asks for next, and what is stored of it, so that any run can go on from there.

    `position` is asked for, `held` and `visible_until` (of a sweep by offset under way) are stored.
    """

    @property
    def position(self) -> Position: ...
    @property
    def held(self) -> Position: ...
    @property
    def visible_until(self) -> datetime | None: ...

    def take(self, page: Page, limit: int) -> Turn:
        """Judges the page asked for at `position`, of at most `limit` records. Raises UnsortedList."""


@dataclass(frozen=True)
class Turn:
    """What a way makes of a page: whether it counts, which of its records are new to the run (ids), and how to go on.

    `ended`: the end of the list was reached, so a delta or full sweep is complete; `done`: there is nothing more to
    ask; `lacks`: a field of `Capabilities` that turned out to be false.
    """

    way: Way
    accepted: bool
    new: frozenset[str] = frozenset()
    ended: bool = False
    done: bool = False
    lacks: str | None = None


@dataclass(frozen=True)
class ByTime:
    """The way through a list that is sorted and filtered: the cursor follows `position`, or is `frozen` behind it.

    The next page's list should hold `least_total` records; `came_from` is where the page before it ended.
    """

    position: Position
    held: Position
    frozen: bool = False
    least_total: int = 0
    came_from: Position = Position()
    visible_until: None = None

    def take(self, page: Page, limit: int) -> Turn:
        """See `Way`."""
        if page.total < self.least_total:
            # More is missing than was taken: records were deleted, or the page before was sorted by mere chance and
            # the time it led to skips what is not sorted. Go on behind that page by offset, which proves either.
            return Turn(replace(self, position=self.came_from, least_total=0), False)
        keys = [record.key if isinstance(record, Record) else None for record in page.records]
        step = advance(self.position, keys, page.has_more, limit)
        if not step.accepted:
            # Stored as well, where the cursor has not stayed behind: the slice may end here.
            held = step.position if self.held == self.position else self.held
            return Turn(replace(self, position=step.position, held=held), False)
        held, frozen = (self.held, True) if self.frozen else hold(self.held, step.position, horizon(page.answered_at))
        onward = ByTime(step.position, held, frozen)
        asked, since, last = self.position.offset, step.position.updated_from, self.position.last
        if since is not None and since != self.position.updated_from:
            passed = asked + sum(key is None or key.updated_at < since for key in keys)
            behind = Position(self.position.updated_from, asked + len(keys) - 1, step.position.last)
            onward = replace(onward, least_total=page.total - passed, came_from=behind)
        new = frozenset(key.id for key in keys if key is not None and (last is None or key > last))
        return Turn(onward, True, new, ended=step.done, done=step.done)


def advance(position: Position, keys: Sequence[Key | None], has_more: bool, limit: int) -> Step:
    """Judges the page asked for at `position`: the keys of its records in order, None for one that can't be read.

    Raises UnsortedList.
    """
    readable = [key for key in keys if key is not None]
    _check_order(position, readable)
    if position.offset > 0 and not _overlaps(position, keys):
        # The list slid under us, or shrank: look half a page back for the record accepted last.
        return Step(False, replace(position, offset=max(0, position.offset - limit // 2)), False)
    last = max([*readable[-1:], *([position.last] if position.last else [])], default=None)
    if last is not None and (position.updated_from is None or last.updated_at > position.updated_from):
        onward = Position(last.updated_at, 0, last)
    else:
        # The whole page carries one timestamp: go on inside it.
        step = max(1 if has_more and keys else 0, len(keys) - 1)
        onward = Position(position.updated_from, position.offset + step, last)
    return Step(True, onward, not (has_more and keys))


def horizon(answered_at: datetime, lag: timedelta = LAG) -> datetime:
    """Changes up to this instant are all visible in an answer that carries this `Date`."""
    return answered_at - DATE_RESOLUTION - lag


def hold(cursor: Position, reached: Position, visible_until: datetime) -> tuple[Position, bool]:
    """The cursor to store after an accepted page, and whether it is frozen there for the rest of the run."""
    if reached.last is None or reached.last.updated_at <= visible_until:
        return reached, False
    if cursor.updated_from is not None and cursor.updated_from >= visible_until:
        return cursor, True
    return Position(visible_until, 0, cursor.last), True


def _overlaps(position: Position, keys: Sequence[Key | None]) -> bool:
    """The page begins no later than the record accepted last. An unreadable record can't tell: it gets the benefit."""
    return bool(keys) and (keys[0] is None or position.last is None or keys[0] <= position.last)


def _check_order(position: Position, keys: Sequence[Key]) -> None:
    times = [key.updated_at for key in keys]
    if any(later < earlier for earlier, later in pairwise(times)):
        raise UnsortedList("SoftPro did not sort the list by updatedAt", "sorts_by_updated_at")
    if times and position.updated_from is not None and times[0] < position.updated_from:
        raise UnsortedList("SoftPro ignored updatedFrom", "filters_updated_from")
