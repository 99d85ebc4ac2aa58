"""Skip no record in lists that cannot be paged by time: unsorted by `updatedAt`, unfiltered, or both.

The random histories are those of `test_paging.py`, against lists in other orders.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from softpro.entities import Mode
from softpro.softpro360.capabilities import Capabilities
from softpro.softpro360.client import Page
from softpro.softpro360.records import Key, Record, Unreadable
from softpro.sync.cursors import Cursor
from softpro.sync.extract import choose_pager
from softpro.sync.paging import ByTime, Pager, Position, UnsortedList, horizon
from softpro.sync.sweep import MAX_CONSECUTIVE_SWEEPS, Sweep, UnsweepableList, resume_sweep

from .test_paging import EVENTS, History, Vendor, at, key, moment

HISTORIES = int(os.environ.get("SOFTPRO_TEST_HISTORIES", "200"))  # `make stress` runs more
ORDERS: dict[str, Callable[[Key], object]] = {
    "by id": lambda key: key.id,
    "oldest first": lambda key: key,
    "newest first": lambda key: (-key.updated_at.timestamp(), key.id),
}


# Examples


def page(*records: Key | bytes, has_more: bool = True, answered: float = 100, total: int = 99) -> Page:
    made = [Record(r, b"{}") if isinstance(r, Key) else Unreadable(r, "broken") for r in records]
    return Page(made, total, has_more, at(answered))


A, B, C, D, E, F = (key(second, record) for second, record in zip([5, 2, 8, 1, 9, 3], "abcdef", strict=True))
SWEPT = Sweep(Position(None, 3, D), at(50), frozenset([A, B, C, D]))


def test_the_next_page_overlaps_the_one_before_and_the_first_says_how_far_the_sweep_will_have_come() -> None:
    outcome = Sweep(Position()).take(page(A, B, C, D), 4)
    assert (outcome.accepted, outcome.ended, outcome.new) == (True, False, frozenset("abcd"))
    assert (outcome.pager.position, outcome.pager.visible_until) == (Position(None, 3, D), horizon(at(100)))
    wide = Sweep(Position()).take(page(*(key(1, f"{n:03}") for n in range(50))), 50)
    assert wide.pager.position.offset == 45


def test_a_page_that_holds_a_record_of_the_one_before_counts_and_only_what_follows_it_is_new() -> None:
    outcome = SWEPT.take(page(D, E, F, key(1, "g"), answered=200), 4)
    assert (outcome.accepted, outcome.new) == (True, frozenset("efg"))
    assert (outcome.pager.position, outcome.pager.visible_until) == (Position(None, 6, key(1, "g")), at(50))


def test_a_sweep_resumes_from_its_stored_state() -> None:
    assert resume_sweep(SWEPT.position, at(50)).take(page(C, D, E, F), 4).new == frozenset("ef")


def test_a_record_that_changed_proves_nothing() -> None:
    outcome = replace(SWEPT, anchors=frozenset([D])).take(page(key(99, "d"), E, F), 4)
    assert (outcome.accepted, outcome.pager.position.offset) == (False, 1)


def test_a_list_that_slid_goes_back_half_a_page_then_a_page_then_twice_as_far() -> None:
    pager: Pager = replace(SWEPT, position=Position(None, 100, D))
    offsets = []
    while pager.position.offset:
        pager = pager.take(page(E, F), 8).pager
        offsets.append(pager.position.offset)
    assert offsets == [96, 88, 72, 40, 0]
    assert pager.held == Position(None, 0, D)
    outcome = pager.take(page(*(key(1, record) for record in "ghijklmn")), 8)
    assert outcome.accepted
    assert outcome.pager.position.offset == 4  # with more overlap from now on


def test_an_empty_page_behind_the_end_of_a_list_that_shrank_is_not_the_end() -> None:
    outcome = SWEPT.take(page(has_more=False), 4)
    assert (outcome.accepted, outcome.done, outcome.pager.position.offset) == (False, False, 1)


def test_an_empty_list_is_the_end() -> None:
    outcome = Sweep(Position()).take(page(has_more=False), 4)
    assert (outcome.accepted, outcome.ended, outcome.done) == (True, True, True)


def test_one_answer_that_holds_all_is_the_end_and_the_cursor_follows_its_date() -> None:
    outcome = Sweep(Position(at(40))).take(page(key(50, "a"), has_more=False), 4)
    assert (outcome.ended, outcome.done, outcome.lacks) == (True, True, None)
    assert (outcome.pager.held, outcome.pager.visible_until) == (Position(horizon(at(100))), None)


def test_the_cursor_never_goes_back() -> None:
    assert Sweep(Position(at(98))).take(page(has_more=False), 4).pager.held == Position(at(98))


def test_a_sweep_of_several_pages_is_complete_if_the_list_did_not_change() -> None:
    pager = Sweep(Position()).take(page(A, B, C, D, total=6), 4).pager
    assert pager.take(page(D, E, F, has_more=False, total=6), 4).done


@pytest.mark.parametrize(
    "last",
    [
        page(D, E, has_more=False, total=5),  # the total fell
        page(C, D, E, has_more=False, total=6),  # all moved by one
        page(D, E, key(95, "f"), has_more=False, total=6),  # changed since the first page, or just before
    ],
)
def test_a_sweep_of_a_changing_list_is_followed_by_the_changes(last: Page) -> None:
    pager = Sweep(Position(at(5))).take(page(A, B, C, D, total=6), 4).pager
    outcome = pager.take(last, 4)
    assert (outcome.accepted, outcome.ended, outcome.done) == (True, True, False)
    assert (outcome.pager.position, outcome.pager.visible_until) == (Position(horizon(at(100))), horizon(at(100)))
    end = outcome.pager.take(page(has_more=False, answered=110), 4)
    assert (end.done, end.pager.held, end.pager.visible_until) == (True, Position(horizon(at(110))), None)


def test_recent_changes_are_swept_twice() -> None:
    tied, pager = [key(99, record) for record in "abcdef"], Sweep(Position())
    for done in (False, True):
        outcome = pager.take(page(*tied[:4], total=6), 4).pager.take(page(*tied[3:], has_more=False, total=6), 4)
        assert outcome.done is done
        assert isinstance(outcome.pager, Sweep)
        pager = outcome.pager


def test_a_list_that_never_holds_still_is_not_swept_for_ever() -> None:
    pager, sweeps, done = Sweep(Position()), 0, False
    while not done:
        first, last = page(key(98, "a"), key(99, "b")), page(key(99, "b"), key(100 + sweeps, "c"), has_more=False)
        outcome = pager.take(first, 2).pager.take(last, 2)
        assert isinstance(outcome.pager, Sweep)
        pager, done, sweeps = outcome.pager, outcome.done, sweeps + 1
    assert sweeps == MAX_CONSECUTIVE_SWEEPS


def test_changes_during_a_sweep_are_searched_only_at_the_head_of_an_unfiltered_list() -> None:
    after = Sweep(Position(at(50)), since=at(50))
    outcome = after.take(page(key(60, "a"), key(40, "b")), 2)
    assert (outcome.accepted, outcome.done, outcome.new, outcome.lacks) == (
        True,
        True,
        frozenset("a"),
        "filters_updated_from",
    )
    assert outcome.pager.held == Position(at(50))  # the rest of the list was not seen


def test_an_unreadable_record_is_recognized_by_its_bytes() -> None:
    outcome = Sweep(Position()).take(page(b"[1]", b"[2]"), 2)
    stored = resume_sweep(outcome.pager.held, at(50))
    assert stored.take(page(b"[2]", A), 2).new == frozenset("a")
    assert not stored.take(page(b"[3]", A), 2).accepted


def test_a_list_that_never_holds_still_or_comes_one_record_at_a_time_is_given_up() -> None:
    def never_still(pager: Pager, second: int = 0) -> None:
        never_still(pager.take(page(key(second, "a"), key(second, "b")), 2).pager, second + 1)

    with pytest.raises(UnsweepableList, match="changes faster than it can be read"):
        never_still(Sweep(Position()))
    with pytest.raises(UnsweepableList, match="one record at a time"):
        Sweep(Position()).take(page(A), 200)


def test_neither_paging_mode_resumes_the_others_state() -> None:
    sorted_, unsorted = Capabilities(), Capabilities(sorts_by_updated_at=False)
    by_time, swept = Position(at(9), 3, A), Position(at(9), 3, A)
    assert choose_pager(Cursor(by_time, None, True), sorted_, True) == ByTime(by_time, by_time)
    assert choose_pager(Cursor(by_time, None, True), unsorted, True) == Sweep(Position())
    assert choose_pager(Cursor(swept, None, True, at(12)), unsorted, True) == resume_sweep(swept, at(12))
    assert choose_pager(Cursor(swept, None, True, at(12)), sorted_, True).position == Position(at(9))
    ended = Position(at(9))
    assert choose_pager(Cursor(ended, None, False), unsorted, True) == Sweep(ended)
    assert choose_pager(Cursor(ended, None, True, at(12)), unsorted, True) == Sweep(ended)
    assert choose_pager(Cursor(ended, None, True, at(12)), unsorted, False) == Sweep(ended, at(12), since=at(12))
    delta = choose_pager(Cursor(Position(None, 3, A), Mode.DELTA, True, at(12)), Capabilities(), False)
    assert delta.position == Position()


def test_a_page_that_looked_sorted_by_chance_is_found_out() -> None:
    # The list is sorted by id, and the last record of the page changed last: all between would be skipped.
    pager: Pager = ByTime(Position(), Position())
    pager = pager.take(page(key(1, "a"), key(90, "b"), total=4), 2).pager
    assert pager.position == Position(at(90), 0, key(90, "b"))
    outcome = pager.take(page(key(90, "b"), has_more=False, total=1), 2)
    assert (outcome.accepted, outcome.pager.position) == (False, Position(None, 1, key(90, "b")))
    with pytest.raises(UnsortedList) as refused:
        outcome.pager.take(page(key(90, "b"), key(2, "c"), total=4), 2)
    assert refused.value.lacks == "sorts_by_updated_at"


def test_a_step_back_is_stored_so_that_slices_of_one_page_get_on() -> None:
    tied = Position(at(2), 9, key(2, "j"))
    outcome = ByTime(tied, tied).take(page(key(2, "k"), key(2, "l")), 8)
    assert (outcome.accepted, outcome.pager.held) == (False, replace(tied, offset=5))
    behind = Position(at(1))
    assert ByTime(tied, behind, frozen=True).take(page(key(2, "k")), 8).pager.held == behind


# Random histories


@dataclass
class Odd(Vendor):
    """A vendor whose list has another order and may ignore `updatedFrom`."""

    sorting: str = "by id"
    filters: bool = True

    def answer(self, position: Position) -> Page:
        """Return the page of the list in its current state."""
        self.requests += 1
        keys = [Key(moment(updated), record) for record, updated in self.visible().items()]
        if self.filters and position.updated_from is not None:
            keys = [key for key in keys if key.updated_at >= position.updated_from]
        keys.sort(key=ORDERS[self.sorting])  # type: ignore[arg-type]
        end = position.offset + self.limit
        shown = [Record(key, b"{}") for key in keys[position.offset : end]]
        return Page(list(shown), len(keys), len(keys) > end, moment(self.now - self.now % 1_000))


@dataclass
class Odds(History):
    """A history at such a vendor, with the lengths of our slices in pages."""

    slices: int = 1_000

    @property
    def odd(self) -> Odd:
        assert isinstance(self.vendor, Odd)
        return self.vendor


def able(odd: Odd) -> Capabilities:
    """Return capabilities that describe the vendor; it never has both."""
    return Capabilities(odd.filters, odd.sorting == "oldest first" and not odd.filters)


def run(history: Odds, stored: Cursor, known: Capabilities) -> tuple[Cursor, bool, Capabilities]:
    """Run once as `sync.extract` does, slice by slice. Return the last stored state, and whether the run ended well."""
    vendor, first_slice, cursor = history.odd, True, stored
    bound = vendor.requests + 3_000
    while True:
        pager = choose_pager(cursor, known, first_slice)
        for _ in range(history.slices):
            answer = vendor.answer(pager.position)
            assert vendor.requests < bound, "an endless loop"
            try:
                outcome = pager.take(answer, vendor.limit)
            except UnsweepableList:
                return cursor, False, known
            except UnsortedList as refused:
                known, pager = replace(known, **{refused.lacks: False}), Sweep(Position())
                continue
            known = replace(known, **{outcome.lacks: False}) if outcome.lacks else known
            pager = outcome.pager
            cursor = Cursor(pager.held, None, not outcome.done, pager.visible_until)
            if outcome.accepted:
                history.accept([record.key for record in answer.records if isinstance(record, Record)])
            if outcome.done:
                return cursor, True, known
            if history.happen():
                return cursor, False, known
        first_slice = False


@st.composite
def histories(draw: st.DrawFn) -> Odds:
    seed = draw(st.integers(0, 2**16))
    vendor = Odd(
        draw(st.sampled_from([2, 3, 5, 10, 20])),
        Random(seed),
        sorting=draw(st.sampled_from(sorted(ORDERS))),
        filters=draw(st.booleans()),
    )
    events = iter(draw(st.lists(EVENTS, max_size=40)))
    history = Odds(vendor, events, Random(seed), slices=draw(st.sampled_from([1, 2, 5, 1_000])))
    for size in draw(st.lists(st.integers(1, 25), max_size=4)):
        history.create(size)
        vendor.now += draw(st.sampled_from([1, 700, 9_000]))
    return history


def loses_nothing(history: Odds, known: Capabilities, runs: int) -> bool:
    """Return whether no record is missing after some runs with events and a last one without."""
    cursor, standing = Cursor(Position(), None, False), dict[str, int]()
    for _ in range(runs):
        # A run that resumes a sweep through an unfiltered list by id sees that list as it has been since the sweep
        # began. Any other run shows what changed before it began.
        if cursor.visible_until is None or history.odd.filters or history.odd.sorting != "by id":
            standing = history.odd.visible()
        cursor, ended_well, known = run(history, cursor, known)
        if ended_well and history.missed(standing):
            return False
        history.happen()
    history.events = iter([])
    history.vendor.now += 10_000
    while not ended_well:
        cursor, ended_well, known = run(history, cursor, known)
    run(history, cursor, known)
    return not history.missed(history.vendor.visible())


@settings(max_examples=HISTORIES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories(), runs=st.integers(1, 6))
def test_no_history_of_changes_ties_delays_deletes_and_crashes_loses_a_record(history: Odds, runs: int) -> None:
    assert loses_nothing(history, able(history.odd), runs)


def test_these_histories_would_catch_plain_offset_paging() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softpro.sync.sweep.mark", lambda record: key(0, "any"))
        try:
            find(
                st.tuples(histories(), st.integers(1, 6)),
                lambda drawn: not loses_nothing(drawn[0], able(drawn[0].odd), drawn[1]),
                settings=settings(
                    max_examples=600, derandomize=True, deadline=None, database=None, phases=[Phase.generate]
                ),
            )
        except NoSuchExample:
            pytest.fail("plain offsets lost nothing: the histories are too easy")


@settings(max_examples=HISTORIES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories(), count=st.integers(1, 12))
def test_a_vendor_that_is_believed_at_first_is_found_out_and_loses_nothing(history: Odds, count: int) -> None:
    history.events, history.slices = iter([]), 1_000
    for record in history.choices.sample(sorted(history.vendor.versions), len(history.vendor.versions)):
        history.vendor.now += 1  # no ties: a list of them would be in every order at once
        history.vendor.change([record])
    cursor, known = Cursor(Position(), None, False), Capabilities()
    for _ in range(3):
        history.vendor.now += 10_000
        cursor, ended_well, known = run(history, cursor, known)
        assert ended_well
        assert not history.missed(history.vendor.visible())
        for record in history.choices.sample(sorted(history.vendor.versions), min(count, len(history.vendor.versions))):
            history.vendor.now += 1
            history.vendor.change([record])


@settings(max_examples=HISTORIES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories(), flips=st.lists(st.tuples(st.sampled_from(sorted(ORDERS)), st.booleans()), max_size=6))
def test_a_vendor_that_changes_its_ways_between_runs_loses_nothing(
    history: Odds, flips: list[tuple[str, bool]]
) -> None:
    # A probe reports each change, and the vendor finally follows the contract.
    cursor, ended_well = Cursor(Position(), None, False), False
    for order, filters in [*flips, ("oldest first", True)]:
        history.odd.sorting, history.odd.filters = order, filters
        known = Capabilities(filters, order == "oldest first")
        standing = history.odd.visible()
        fresh = cursor.visible_until is None
        cursor, ended_well, known = run(history, cursor, known)
        assert not (ended_well and fresh and history.missed(standing))
        history.happen()
    history.events = iter([])
    history.vendor.now += 10_000
    run(history, cursor, known)
    assert not history.missed(history.vendor.visible())


@settings(max_examples=100, derandomize=True, deadline=None)
@given(size=st.integers(0, 200), limit=st.integers(2, 20), order=st.sampled_from(sorted(ORDERS)))
def test_a_sweep_in_quiet_takes_about_one_request_a_page(size: int, limit: int, order: str) -> None:
    odd = Odd(limit, Random(0), sorting=order, filters=False)
    history = Odds(odd, iter([]), Random(0))
    history.create(size)
    odd.now += 20_000
    run(history, Cursor(Position(), None, False), able(odd))
    assert not history.missed(odd.visible())
    assert odd.requests <= 3 + size // (limit - max(1, limit // 10))
