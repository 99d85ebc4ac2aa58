"""Paging by offset, for a list that can't be paged by time: decided from one page at a time; no I/O.

The whole list (what `updatedFrom` leaves of it, if it is heeded) is gone through in whatever order the vendor keeps.
Lists are live, so each page overlaps the one before, and counts only if it holds one of that page's records as it was
(an anchor): what did not change keeps its order, so all that stood up to the anchor was seen, and nothing lies
between. Otherwise the list slid, and the sweep steps back until an anchor is found, at worst to the first page.

What changes meanwhile can move to where the sweep has been. So a sweep of several pages in which the list stirred is
followed by another of what changed since it began, until one answer holds all of that, or nothing stirs. It ends early
at a record that did not change: that list is not filtered. Is it newest first, all that changed came before; in any
other order, what moved to where the sweep had been is left to the next run, which sees the whole list again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from softpro.errors import SoftProError
from softpro.softpro360.client import Page
from softpro.softpro360.records import Key, Record, Unreadable
from softpro.sync.paging import SMALLEST_PAGE, Position, Turn, horizon

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_PAGES_FACTOR = 10
"""A slice asks for up to so many times the pages that the list has, and a few more, before it gives the list up."""
MAX_CONSECUTIVE_SWEEPS = 5
"""So many sweeps follow one another where the list never holds still; what moved back in each is the next run's."""


class UnsweepableList(SoftProError):
    """The list changes faster than it can be read, or comes in pages that can't overlap. What was landed stays."""


@dataclass(frozen=True)
class Sweep:
    """A sweep under way. `visible_until`: changes up to then are in once it ends.

    `anchors`: the records of the page accepted last, `tail` those that the next one should begin with; `overlap`: how
    many those are; `back`: the last step back; `asked`: pages so far. `number`: of sweeps in a row; `since`: it only
    looks for what changed after that. `still`: nothing stirred so far: every page was of a list of `total` records and
    began as it should, and what was `recent` (changed after `visible_until`) the sweep before had seen too.
    The stored `position` and `visible_until` are enough to go on from: see `resumed`.
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
        """What is stored is where it asks next: the next run steps back from there, if it has to."""
        return self.position

    def take(self, page: Page, limit: int) -> Turn:
        """See `Way`. Raises UnsweepableList."""
        marks = [_mark(record) for record in page.records]
        keys = [record.key for record in page.records if isinstance(record, Record)]
        first = self.position.offset == 0
        if self.asked > MAX_PAGES_FACTOR * (5 + page.total // limit):
            raise UnsweepableList("SoftPro's list changes faster than it can be read: it is tried again later")
        if not first and self.anchors.isdisjoint(marks):
            return Turn(self._stepped_back(limit), False)
        seen = max((place + 1 for place, mark in enumerate(marks) if mark in self.anchors), default=0)
        new = [record.key for record in page.records[seen:] if isinstance(record, Record)]
        swept = self._watched(page, marks, keys)
        unchanged = self.since is not None and any(key.updated_at < self.since for key in keys)
        if page.has_more and not unchanged:
            onward, ended, done = swept._onward(marks, limit), False, False
        else:
            ended, done = True, first or swept.still or self.number == MAX_CONSECUTIVE_SWEEPS
            onward = swept._after(unchanged, done)
        return Turn(
            onward,
            True,
            frozenset(key.id for key in new if self.since is None or key.updated_at >= self.since),
            ended=ended,
            done=done,
            lacks="filters_updated_from" if _any_before(self.position.updated_from, keys) else None,
        )

    def _watched(self, page: Page, marks: Sequence[Key], keys: Sequence[Key]) -> Sweep:
        """What this page tells of the sweep as a whole; the one at offset 0 begins it anew.

        Had a record moved from where the sweep has yet to come to where it had been, all others would come one later:
        unless another one left, so that the total fell; unless one joined, or went the other way, and so is recent.
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
        """Half a page, then a page, then twice as far each time; and from now on with more overlap."""
        back = self.back * 2 or max(1, limit // 2)
        position = replace(self.position, offset=max(0, self.position.offset - back))
        overlap = min(2 * max(self.overlap, limit // 10), max(1, limit // 2))
        return replace(self, position=position, overlap=overlap, back=back, asked=self.asked + 1)

    def _onward(self, marks: Sequence[Key], limit: int) -> Sweep:
        """The next page, overlapping this one."""
        if len(marks) < SMALLEST_PAGE:
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
        """The sweep of what changed since this one began, or, where that is done, where the next run starts.

        A sweep that stopped at the `unchanged` did not see the whole list, so the cursor stays where it was.
        """
        assert self.visible_until is not None
        reached = max(self.visible_until, self.position.updated_from or self.visible_until)
        position = Position(self.position.updated_from if unchanged else reached)
        if done:
            return Sweep(position)
        return Sweep(position, reached, since=reached, number=self.number + 1, recent_before=self.recent)


def resumed(position: Position, visible_until: datetime) -> Sweep:
    """The sweep that was under way when these were stored."""
    if position.last is None:  # nothing yet of what changed since the one before
        return Sweep(position, visible_until, since=visible_until)
    return Sweep(position, visible_until, frozenset([position.last]))


def _mark(record: Record | Unreadable) -> Key:
    """What tells a version of a record from all others; of an unreadable one, its bytes."""
    if isinstance(record, Record):
        return record.key
    return Key(EPOCH, f"payload {hashlib.blake2b(record.payload, digest_size=16).hexdigest()}")


def _any_before(moment: datetime | None, keys: Sequence[Key]) -> bool:
    return moment is not None and any(key.updated_at < moment for key in keys)
