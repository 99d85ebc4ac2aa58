"""Share the rate limit: bounds of every window, priorities, and behavior on errors."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from uuid import UUID

import pytest

from softpro.db import integrations
from softpro.errors import BudgetExhausted, DatabaseUnavailable
from softpro.services import Services
from softpro.softpro360.budget import Budget, Slot, budget_for

from ..support.databases import execute
from ..support.fixture_types import Connected
from ..support.sandbox import Sandbox

WINDOW = 0.5
HOLD = 5.0
LATE = 3.0  # a busy machine wakes a sleeper late, but earlier than a wait for HOLD ends


def integration_of(services: Services, organization: str) -> UUID:
    """Create an integration without requests and return its id."""
    with services.database.connect() as connection:
        return integrations.ensure(
            connection,
            services.vault,
            organization,
            client_id="client",
            client_secret="a secret",
            environment="SANDBOX",
            sync_frequency=300,
        ).id


@pytest.fixture
def integration_id(services: Services) -> UUID:
    return integration_of(services, "acme")


@pytest.fixture
def budget(services: Services, integration_id: UUID) -> Iterator[Callable[..., Budget]]:
    """Return a function that creates budgets of that integration, each as in its own process.

    The window is half a second by default.
    """
    with ExitStack() as stack:

        def make(
            limit: int, window: float = WINDOW, reserve: float = 0.0, *, bulk: bool = False, of: UUID = integration_id
        ) -> Budget:
            connection = stack.enter_context(services.database.connect())
            return Budget(connection, of, limit, timedelta(seconds=window), reserve, bulk)

        yield make


def limit_headers(limit: int, remaining: int) -> dict[str, str]:
    """Return the rate limit headers of a response."""
    return {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(remaining)}


def free_now(budget: Budget) -> int:
    """Return how many requests could be sent now. Their slots are given back."""
    slots: list[Slot] = []
    try:
        while True:
            slots.append(budget.take(HOLD, 0))
    except BudgetExhausted:
        return len(slots)
    finally:
        for slot in slots:
            budget.give_back(slot)


def test_a_slot_is_free_a_window_after_its_answer_arrived(budget: Callable[..., Budget]) -> None:
    ours = budget(1)
    slot = ours.take(HOLD, 0)
    assert slot.wait <= 0
    time.sleep(0.3)
    began = time.monotonic()
    ours.settle(slot, {}, None)
    ours.take(HOLD, None)
    assert WINDOW <= time.monotonic() - began < WINDOW + LATE


def test_a_request_without_an_answer_keeps_its_slot_until_none_can_come(budget: Callable[..., Budget]) -> None:
    ours = budget(1)
    began = time.monotonic()
    ours.take(1.0, 0)
    with pytest.raises(BudgetExhausted, match="used up"):
        ours.take(HOLD, 1.2)
    ours.take(HOLD, None)
    assert 1.0 + WINDOW <= time.monotonic() - began < 1.0 + WINDOW + LATE


@pytest.mark.parametrize(("limit", "workers"), [(1, 3), (3, 8), (10, 14)])
def test_more_waiting_callers_than_slots_still_use_nearly_all_of_the_limit(
    budget: Callable[..., Budget], limit: int, workers: int
) -> None:
    seconds, sent = 2.5, []
    end = time.monotonic() + seconds

    def work(ours: Budget) -> None:
        while True:
            slot = ours.take(HOLD, None)
            if time.monotonic() >= end:
                ours.give_back(slot)  # the others would otherwise wait until no response can arrive any more
                return
            sent.append(time.monotonic())
            time.sleep(0.02)
            ours.settle(slot, limit_headers(limit, 0), None)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, [budget(limit) for _ in range(workers)]))
    sent.sort()
    assert min((later - earlier for earlier, later in zip(sent, sent[limit:], strict=False)), default=9) > WINDOW
    assert len(sent) >= limit * seconds / WINDOW * 0.6


def test_a_waiting_caller_is_not_overtaken_within_its_class(budget: Callable[..., Budget]) -> None:
    ours, first, second = budget(1), budget(1), budget(1)
    ours.settle(ours.take(HOLD, 0), {}, None)
    order: list[str] = []

    def wait(name: str, waiter: Budget) -> None:
        slot = waiter.take(HOLD, None)
        order.append(name)
        waiter.settle(slot, {}, None)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(wait, "first", first)
        time.sleep(0.2)
        pool.submit(wait, "second", second)
    assert order == ["first", "second"]


def test_retry_after_and_a_moving_limit_under_load_starve_no_caller(budget: Callable[..., Budget]) -> None:
    end = time.monotonic() + 3

    def work(ours: Budget) -> int:
        rounds = 0
        while time.monotonic() < end:
            slot = ours.take(HOLD, None)
            ours.settle(slot, limit_headers(1 + rounds % 3, 0), 0.001)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, [budget(3, window=0.05) for _ in range(6)])) > 10


@pytest.mark.parametrize(("limit", "bulk"), [(2, 1), (5, 4), (9, 8), (10, 9), (25, 22), (100, 90)])
def test_a_reserve_is_never_rounded_to_nothing(budget: Callable[..., Budget], limit: int, bulk: int) -> None:
    assert free_now(budget(limit, window=60, reserve=0.1, bulk=True)) == bulk


def test_an_unsent_request_returns_its_slot(budget: Callable[..., Budget]) -> None:
    ours = budget(2)
    ours.give_back(ours.take(HOLD, 0))
    assert free_now(ours) == 2


@pytest.mark.parametrize("seed", range(3))
def test_no_window_of_the_vendors_holds_more_than_the_limit(budget: Callable[..., Budget], seed: int) -> None:
    """The vendor counts a request at any moment between its sending and the arrival of its response."""
    limit, seconds, draws = 12, 2.5, random.Random(seed)
    counted: list[float] = []
    budgets = [budget(limit) for _ in range(6)]
    end = time.monotonic() + seconds

    def work(ours: Budget) -> None:
        while time.monotonic() < end:
            slot = ours.take(HOLD, None)
            sent = time.monotonic()
            time.sleep(draws.uniform(0, 0.05))
            counted.append(draws.uniform(sent, time.monotonic()))
            ours.settle(slot, {}, None)

    with ThreadPoolExecutor(len(budgets)) as pool:
        list(pool.map(work, budgets))
    counted.sort()
    windows = zip(counted, counted[limit:], strict=False)
    assert min(later - earlier for earlier, later in windows) > WINDOW
    assert len(counted) >= limit * seconds / WINDOW / 2  # tests/faults measures how much of the limit is used


def test_bulk_work_leaves_the_reserve_to_other_calls(budget: Callable[..., Budget]) -> None:
    bulk, others = budget(10, reserve=0.2, bulk=True), budget(10, reserve=0.2)
    for _ in range(8):
        bulk.take(HOLD, 0)
    with pytest.raises(BudgetExhausted):
        bulk.take(HOLD, 0)
    assert free_now(others) == 2
    for _ in range(2):
        others.take(HOLD, 0)
    with pytest.raises(BudgetExhausted):
        others.take(HOLD, 0)


def test_usage_by_others_beyond_the_reserve_does_not_shrink_it(budget: Callable[..., Budget]) -> None:
    bulk, others = budget(10, reserve=0.2, bulk=True), budget(10, reserve=0.2)
    for _ in range(5):
        others.take(HOLD, 0)
    for _ in range(5):
        bulk.take(HOLD, 0)
    assert free_now(others) == 0
    assert free_now(bulk) == 0


def test_retry_after_also_applies_to_callers_that_already_wait(budget: Callable[..., Budget]) -> None:
    ours, sleeper, other = budget(2), budget(2), budget(2)
    first = ours.take(HOLD, 0)
    ours.settle(ours.take(HOLD, 0), {}, None)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(sleeper.take, HOLD, None)
        time.sleep(0.2)
        ours.settle(first, {}, 1.5)
        with pytest.raises(BudgetExhausted) as asked:
            other.take(HOLD, 0)
        assert (asked.value.retry_after or 0) > 1
        woken.result()
    assert 1.7 <= time.monotonic() - began < 1.7 + LATE


def test_a_sleeper_that_may_not_wait_so_long_gives_its_slot_back(budget: Callable[..., Budget]) -> None:
    ours, sleeper = budget(2), budget(2)
    first = ours.take(HOLD, 0)
    ours.settle(ours.take(HOLD, 0), {}, None)
    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(sleeper.take, HOLD, 1.0)
        time.sleep(0.2)
        ours.settle(first, {}, 2)
        with pytest.raises(BudgetExhausted):
            woken.result()
    time.sleep(2)
    assert free_now(ours) == 2


def test_a_lower_limit_of_the_vendor_is_kept_and_a_higher_one_is_not_ours_to_use(
    budget: Callable[..., Budget],
) -> None:
    ours = budget(8, window=60)
    ours.settle(ours.take(HOLD, 0), limit_headers(3, 2), None)
    assert free_now(ours) == 2
    ours.settle(ours.take(HOLD, 0), limit_headers(500, 498), None)
    assert free_now(ours) == 6


def test_fewer_remaining_than_we_believe_means_that_others_use_the_grant(budget: Callable[..., Budget]) -> None:
    ours = budget(10, window=60)
    ours.settle(ours.take(HOLD, 0), limit_headers(10, 4), None)
    assert free_now(ours) == 4
    ours.settle(ours.take(HOLD, 0), limit_headers(10, 0), None)
    assert free_now(ours) == 0


def test_requests_in_flight_are_not_counted_as_foreign_usage(budget: Callable[..., Budget]) -> None:
    ours, other = budget(10, window=60), budget(10, window=60)
    slot = ours.take(HOLD, 0)
    for _ in range(3):
        other.take(HOLD, 0)
    ours.settle(slot, limit_headers(10, 6), None)
    assert free_now(ours) == 6


def test_headers_that_are_no_numbers_are_ignored(budget: Callable[..., Budget]) -> None:
    ours = budget(4, window=60)
    ours.settle(ours.take(HOLD, 0), {"X-RateLimit-Limit": "lots", "X-RateLimit-Remaining": "-1"}, None)
    assert free_now(ours) == 3


def test_each_integration_has_a_budget_of_its_own(budget: Callable[..., Budget], services: Services) -> None:
    ours, theirs = budget(1), budget(1, of=integration_of(services, "other"))
    ours.take(HOLD, 0)
    theirs.take(HOLD, 0)
    with pytest.raises(BudgetExhausted):
        ours.take(HOLD, 0)


def test_a_limit_below_one_a_minute_is_one_in_a_longer_window(services: Services, integration_id: UUID) -> None:
    slow = services.vendor.model_copy(update={"rate_limit": 0.5})
    with services.database.connect() as connection:
        made = budget_for(connection, integration_id, slow, bulk=False)
    assert (made.requests, made.window) == (1, timedelta(seconds=120))


def test_after_a_crash_of_the_database_the_window_counts_as_full(budget: Callable[..., Budget]) -> None:
    """A crash empties unlogged tables; here the table is truncated, and `tests/faults` crashes a server."""
    ours = budget(5)
    ours.settle(ours.take(HOLD, 0), {}, None)
    execute_now(ours, "truncate softpro.budget_requests")
    with pytest.raises(BudgetExhausted) as full:
        ours.take(HOLD, 1)
    assert full.value.retry_after == pytest.approx(HOLD + WINDOW, abs=LATE)


def test_a_crash_restarts_the_wait_of_a_caller(budget: Callable[..., Budget]) -> None:
    ours, sleeper = budget(1), budget(1)
    ours.settle(ours.take(0.2, 0), {}, None)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(sleeper.take, 0.2, None)
        time.sleep(0.3)
        execute_now(ours, "truncate softpro.budget_requests")
        woken.result()
    assert WINDOW + 0.2 + WINDOW <= time.monotonic() - began < WINDOW + 0.2 + WINDOW + LATE


def test_without_the_database_nothing_is_sent(
    services: Services, connected: Connected, sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    before = sandbox.requests_of(vendor_organization)

    def ask_twice() -> None:
        with services.client(integration) as client:
            client.profile()
            execute(
                services.database,
                """
                select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()
                """,
            )
            client.profile()

    with pytest.raises(DatabaseUnavailable):
        ask_twice()
    assert sandbox.requests_of(vendor_organization) - before == 1


def execute_now(budget: Budget, statement: str) -> None:
    budget.connection.execute(statement)
