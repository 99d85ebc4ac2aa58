"""Where to ask next, decided from one page at a time; no I/O.

Lists are live: a record that changes while we page moves to the end and slides the others forward, so plain offsets
skip records. So each page is asked from the last accepted `updatedAt`, at offset 0; only when a whole page carries one
timestamp is it paged by offset inside it, overlapping one record. Changes also surface late, by up to `lag`,
so the stored cursor is held back: once a page reaches past what is certain to be visible, it stays there for this run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from softpro.errors import SoftProError
from softpro.vendor.records import Key

LAG = timedelta(seconds=5)
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
    """The list does not keep `sortBy=updatedAt` or `updatedFrom`; paging it by timestamps would skip records."""


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
        raise UnsortedList(
            "SoftPro did not sort the list by updatedAt, so a sync would skip records: nothing was taken"
        )
    if times and position.updated_from is not None and times[0] < position.updated_from:
        raise UnsortedList("SoftPro ignored updatedFrom, so a sync would skip records: nothing was taken")
