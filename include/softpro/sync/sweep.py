"""Decide from one page at a time where to ask next, for a list paged by offset; no I/O.

A sweep reads the whole list in SoftPro's own order. Each page overlaps the previous one, and counts only if it holds an
unchanged record of that page (an anchor). Unchanged records keep their order. Without an anchor, the sweep steps back.

A record that changes can move behind the sweep. So if the list changed during a sweep, another one reads the changes
since it began. The sweeps end once a response holds all changes, or nothing moves. See docs/design/paging.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from softpro.errors import SoftProError
from softpro.softpro360.client import Page
from softpro.softpro360.records import Key, Record
from softpro.sync.paging import MIN_PAGE_SIZE, PageOutcome, Position, horizon, mark

MAX_PAGES_FACTOR = 10
"""A slice gives up after this many times the number of pages in the list, plus a few."""
MAX_CONSECUTIVE_SWEEPS = 5
"""The most sweeps in a row over a list that keeps changing; the next run fetches the records that moved back."""


class UnsweepableList(SoftProError):
    """The list changes faster than it can be read, or its pages can't overlap. The landed pages stay."""


@dataclass(frozen=True)
class Sweep:
    """A pager for a list read by offset. `resume_sweep` continues it from `position` and `visible_until` alone.

    Attributes:
        position: the page to ask for next.
        visible_until: changes up to this time are included once the sweep ends.
        anchors: the records of the page accepted last.
        tail: the records that the next page should begin with.
        overlap: the number of records in the tail.
        back: the size of the last step back.
        asked: the number of pages requested so far.
        number: the number of this sweep among sweeps in a row.
        since: the sweep only looks for changes after this time.
        still: the list has not moved: its total stayed, each page began with the tail, and the previous sweep had
            already seen the recent changes.
        total: the length of the list.
        recent: the records seen that changed after `visible_until`.
        recent_before: the same, of the previous sweep.
    """

    position: Position
    visible_until: datetime | None = None
    anchors: frozenset[Key] = frozenset()
    tail: tuple[Key, ...] = ()
    overlap: int = 1
    back: int = 0
    asked: int = 0
    number: int = 1
    since: datetime | None = None
    still: bool = False
    total: int = 0
    recent: frozenset[Key] = frozenset()
    recent_before: frozenset[Key] = frozenset()

    @property
    def held(self) -> Position:
        """Return the position to store: the next page, from which the next run can step back."""
        return self.position

    def take(self, page: Page, limit: int) -> PageOutcome:
        """Judge the page requested at `position`; see `Pager.take`. Raises UnsweepableList."""
        marks = [mark(record) for record in page.records]
        keys = [record.key for record in page.records if isinstance(record, Record)]
        first = self.position.offset == 0
        if self.asked > MAX_PAGES_FACTOR * (5 + page.total // limit):
            raise UnsweepableList("SoftPro's list changes faster than it can be read: a later run tries it again")
        if not first and self.anchors.isdisjoint(marks):
            return PageOutcome(self._stepped_back(limit), False)
        seen = max((place + 1 for place, each in enumerate(marks) if each in self.anchors), default=0)
        new = [record.key for record in page.records[seen:] if isinstance(record, Record)]
        swept = self._watched(page, marks, keys)
        unchanged = self.since is not None and any(key.updated_at < self.since for key in keys)
        if page.has_more and not unchanged:
            onward, ended, done = swept._onward(marks, limit), False, False
        else:
            ended, done = True, first or swept.still or self.number == MAX_CONSECUTIVE_SWEEPS
            onward = swept._after(unchanged, done)
        return PageOutcome(
            onward,
            True,
            frozenset(key.id for key in new if self.since is None or key.updated_at >= self.since),
            ended=ended,
            done=done,
            lacks="filters_updated_from" if _any_before(self.position.updated_from, keys) else None,
        )

    def _watched(self, page: Page, marks: Sequence[Key], keys: Sequence[Key]) -> Sweep:
        """Return the sweep with what this page shows about the list's movement; a page at offset 0 starts over.

        A record that moves behind the sweep shifts all others by one. Another record that leaves can hide that, but
        then the total falls. A record that joins or moves ahead can hide it too, but such a record is recent.
        """
        if self.position.offset == 0:
            visible_until, still, recent = horizon(page.answered_at), True, frozenset[Key]()
        else:
            assert self.visible_until is not None  # the page at offset 0 set it, in this run or before
            visible_until, recent = self.visible_until, self.recent
            still = self.still and page.total == self.total and tuple(marks[: len(self.tail)]) == self.tail
        changed = frozenset(key for key in keys if key.updated_at > visible_until)
        still = still and changed <= self.recent_before
        return replace(self, visible_until=visible_until, still=still, total=page.total, recent=recent | changed)

    def _stepped_back(self, limit: int) -> Sweep:
        """Return the sweep stepped back by half a page, then twice as far each time, and with more overlap."""
        back = self.back * 2 or max(1, limit // 2)
        position = replace(self.position, offset=max(0, self.position.offset - back))
        overlap = min(2 * max(self.overlap, limit // 10), max(1, limit // 2))
        return replace(self, position=position, overlap=overlap, back=back, asked=self.asked + 1)

    def _onward(self, marks: Sequence[Key], limit: int) -> Sweep:
        """Return the sweep at its next page, which overlaps this one."""
        if len(marks) < MIN_PAGE_SIZE:
            raise UnsweepableList("SoftPro sends its list one record at a time, so pages can't overlap")
        step = len(marks) - min(max(self.overlap, limit // 10), len(marks) - 1)
        return replace(
            self,
            position=Position(self.position.updated_from, self.position.offset + step, marks[-1]),
            anchors=frozenset(marks),
            tail=tuple(marks[step:]),
            back=0,
            asked=self.asked + 1,
        )

    def _after(self, unchanged: bool, done: bool) -> Sweep:
        """Return the sweep of the changes since this one began or, when done, the start of the next run.

        A sweep that stopped at an `unchanged` record did not see the whole list, so its cursor does not move.
        """
        assert self.visible_until is not None
        reached = max(self.visible_until, self.position.updated_from or self.visible_until)
        position = Position(self.position.updated_from if unchanged else reached)
        if done:
            return Sweep(position)
        return Sweep(position, reached, since=reached, number=self.number + 1, recent_before=self.recent)


def resume_sweep(position: Position, visible_until: datetime) -> Sweep:
    """Return the sweep that was in progress when these values were stored."""
    if position.last is None:  # it had no page yet of the changes since the previous sweep
        return Sweep(position, visible_until, since=visible_until)
    return Sweep(position, visible_until, frozenset([position.last]))


def _any_before(moment: datetime | None, keys: Sequence[Key]) -> bool:
    return moment is not None and any(key.updated_at < moment for key in keys)
