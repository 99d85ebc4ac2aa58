"""Decide from one page at a time where to ask next, for a list paged by time; no I/O.

Lists are live: a record that changes during paging moves to the end, and plain offsets then skip others. So each page
starts at the last accepted `updatedAt`, at offset 0. Changes surface late, by up to `lag`, so the stored cursor never
passes the time up to which every change is visible.

The list has to honour `sortBy=updatedAt` and `updatedFrom`; `sweep.py` pages the others. See docs/design/paging.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Protocol

from softpro.errors import SoftProError
from softpro.softpro360.client import Page
from softpro.softpro360.contract import LAG
from softpro.softpro360.records import Key, Record, Unreadable

DATE_RESOLUTION = timedelta(seconds=1)  # `Date` carries whole seconds (RFC 9110 section 5.6.7)
MIN_PAGE_SIZE = 2  # pages overlap by one record, so pages of one record would never advance
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNREADABLE = "payload "


@dataclass(frozen=True)
class Position:
    """Where a page starts.

    Attributes:
        updated_from: ask for records updated at this time or later; None for all.
        offset: the offset within that list.
        last: the record accepted last.
    """

    updated_from: datetime | None = None
    offset: int = 0
    last: Key | None = None


@dataclass(frozen=True)
class Step:
    """The judgement on a page: it counts if `accepted`, `position` comes next, and `done` ends the list."""

    accepted: bool
    position: Position
    done: bool


class UnsortedList(SoftProError):
    """The list does not honour `sortBy=updatedAt` or `updatedFrom`; sweep it, as paging by time would skip records.

    Attributes:
        lacks: the field of `Capabilities` that turned out to be false.
    """

    def __init__(self, message: str, lacks: str) -> None:
        self.lacks = lacks
        super().__init__(message)


class Pager(Protocol):
    """A strategy for reading a list page by page, with a stored state from which any run can continue.

    Attributes:
        position: the page to ask for next.
        held: the position to store.
        visible_until: stored as well, while a sweep by offset is in progress.
    """

    @property
    def position(self) -> Position: ...
    @property
    def held(self) -> Position: ...
    @property
    def visible_until(self) -> datetime | None: ...

    def take(self, page: Page, limit: int) -> PageOutcome:
        """Judge the page requested at `position`, of at most `limit` records. Raises UnsortedList."""


@dataclass(frozen=True)
class PageOutcome:
    """A pager's judgement on a page.

    Attributes:
        pager: the pager that continues.
        accepted: the page counts.
        new: ids of the records that are new to the run.
        ended: the end of the list was reached, so a delta or full sweep is complete.
        done: no more requests are needed.
        lacks: a field of `Capabilities` that turned out to be false.
    """

    pager: Pager
    accepted: bool
    new: frozenset[str] = frozenset()
    ended: bool = False
    done: bool = False
    lacks: str | None = None


@dataclass(frozen=True)
class ByTime:
    """A pager for a list that is sorted and filtered by `updatedAt`.

    Attributes:
        position: the page to ask for next.
        anchors: the marks of the page accepted last. By default, of the record accepted last.
        held: the cursor to store; it follows `position` until it is frozen.
        frozen: the cursor stays behind `position` for the rest of the run.
        min_total: the number of records that the next page's list should hold at least.
        previous_end: where the previous page ended.
    """

    position: Position
    held: Position
    frozen: bool = False
    min_total: int = 0
    previous_end: Position = Position()
    anchors: frozenset[Key] | None = None
    visible_until: None = None

    def take(self, page: Page, limit: int) -> PageOutcome:
        """Judge the page requested at `position`; see `Pager.take`."""
        if page.total < self.min_total:
            # Records were deleted, or the previous page was sorted by chance and its last time skips unsorted records.
            # Continue behind that page by offset, which proves one or the other.
            return PageOutcome(replace(self, position=self.previous_end, min_total=0), False)
        marks, anchors = [mark(record) for record in page.records], _anchors(self.position, self.anchors)
        step = advance(self.position, marks, page.has_more, limit, anchors)
        if not step.accepted:
            # Store the step back too, unless the cursor is behind anyway: the slice may end here.
            held = step.position if self.held == self.position else self.held
            return PageOutcome(replace(self, position=step.position, held=held), False)
        held, frozen = (
            (self.held, True) if self.frozen else hold_back(self.held, step.position, horizon(page.answered_at))
        )
        onward = ByTime(step.position, held, frozen, anchors=frozenset(marks) or anchors)
        asked, since = self.position.offset, step.position.updated_from
        if since is not None and since != self.position.updated_from:
            passed = asked + sum(each.updated_at < since for each in marks)
            behind = Position(self.position.updated_from, asked + len(marks) - 1, step.position.last)
            onward = replace(onward, min_total=page.total - passed, previous_end=behind)
        seen = max((place + 1 for place, each in enumerate(marks) if each in anchors), default=0)
        new = frozenset(each.id for each in marks[seen:] if is_readable(each))
        return PageOutcome(onward, True, new, ended=step.done, done=step.done)


def advance(
    position: Position, marks: Sequence[Key], has_more: bool, limit: int, anchors: frozenset[Key] | None = None
) -> Step:
    """Judge the page requested at `position`. Raises UnsortedList.

    Ids are only compared for equality: the contract orders ties by id, but not in which order of ids.

    Args:
        position: where the page starts.
        marks: the marks of the page's records in order.
        has_more: what the page says.
        limit: the number of records that were asked for.
        anchors: the marks of the page accepted last. By default, of the record accepted last.
    """
    readable = [each for each in marks if is_readable(each)]
    _check_order(position, readable)
    if position.offset > 0 and _anchors(position, anchors).isdisjoint(marks):
        # The list slid or shrank during paging: look half a page back for a record of the page accepted last.
        return Step(False, replace(position, offset=max(0, position.offset - limit // 2)), False)
    last = readable[-1] if readable else position.last
    if last is not None and (position.updated_from is None or last.updated_at > position.updated_from):
        onward = Position(last.updated_at, 0, last)
    else:
        # The whole page carries one timestamp: page by offset within it.
        step = max(1 if has_more and marks else 0, len(marks) - 1)
        onward = Position(position.updated_from, position.offset + step, last)
    return Step(True, onward, not (has_more and marks))


def horizon(answered_at: datetime, lag: timedelta = LAG) -> datetime:
    """Return the time up to which all changes are visible in a response that carries this `Date` header."""
    return answered_at - DATE_RESOLUTION - lag


def hold_back(cursor: Position, reached: Position, visible_until: datetime) -> tuple[Position, bool]:
    """Return the cursor to store after an accepted page, and whether it is frozen there for the rest of the run."""
    if reached.last is None or reached.last.updated_at <= visible_until:
        return reached, False
    if cursor.updated_from is not None and cursor.updated_from >= visible_until:
        return cursor, True
    return Position(visible_until, 0, cursor.last), True


def mark(record: Record | Unreadable) -> Key:
    """Return what identifies a version of a record; a digest of the payload if it is unreadable."""
    return record.key if isinstance(record, Record) else Key(EPOCH, UNREADABLE + record.payload_hash.hex())


def is_readable(mark: Key) -> bool:
    """Return whether the mark is that of a readable record."""
    return mark.updated_at != EPOCH or not mark.id.startswith(UNREADABLE)


def _anchors(position: Position, anchors: frozenset[Key] | None) -> frozenset[Key]:
    if anchors is not None:
        return anchors
    return frozenset() if position.last is None else frozenset([position.last])


def _check_order(position: Position, keys: Sequence[Key]) -> None:
    times = [key.updated_at for key in keys]
    if any(later < earlier for earlier, later in pairwise(times)):
        raise UnsortedList("SoftPro did not sort the list by updatedAt", "sorts_by_updated_at")
    if times and position.updated_from is not None and times[0] < position.updated_from:
        raise UnsortedList("SoftPro ignored updatedFrom", "filters_updated_from")
