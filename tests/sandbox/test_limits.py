"""Test the rate limit: 100 requests in any 60 s, per grant."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from softpro_sandbox.rate_limit import Window, count_request

from .conftest import Sandbox


def test_the_hundred_and_first_request_in_a_minute_is_refused(start: Callable[..., Sandbox]) -> None:
    sandbox = start(rate_limit=100).connect()
    remaining = [int(sandbox.get("/user/profile").headers["x-ratelimit-remaining"]) for _ in range(100)]
    refused = sandbox.get("/user/profile")
    assert remaining == list(range(99, -1, -1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "RATE_LIMIT_ERROR")
    assert refused.headers["retry-after"] == "60"
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == (
        "100",
        "0",
    )
    assert sandbox.stats()["rateLimited"] == 1


def test_hammering_a_closed_door_keeps_it_closed(start: Callable[..., Sandbox]) -> None:
    sandbox = start(rate_limit=5).connect()
    statuses = []
    for _ in range(100):
        statuses.append(sandbox.get("/user/profile").status_code)
        sandbox.clock.advance(1)
    assert statuses == [200] * 5 + [429] * 95


def test_errors_cost_budget_but_control_calls_and_strangers_do_not(start: Callable[..., Sandbox]) -> None:
    sandbox = start(rate_limit=10).connect()
    sandbox.get("/nowhere")
    sandbox.get("/transactions", limit=0)
    sandbox.stats()
    sandbox.http.get("/api/v1/user/profile", headers={"authorization": "Bearer other"})
    assert sandbox.get("/user/profile").headers["x-ratelimit-remaining"] == "7"


def test_each_grant_has_its_own_budget(start: Callable[..., Sandbox]) -> None:
    sandbox = start(rate_limit=2, organizations=2).connect(organization=0)
    assert [sandbox.get("/user/profile").status_code for _ in range(3)] == [200, 200, 429]
    sandbox.connect(organization=1)
    assert sandbox.get("/user/profile").status_code == 200


@given(
    limit=st.integers(1, 8),
    gaps=st.lists(st.floats(0, 40, allow_subnormal=False), min_size=1, max_size=40),
)
def test_waiting_as_long_as_retry_after_says_always_suffices(limit: int, gaps: list[float]) -> None:
    window, now, admitted = Window(), 1_000_000.0, []
    for gap in gaps:
        now += gap
        allowance = count_request(window, now, limit)
        if allowance.retry_after is None:
            admitted.append(now)
        else:
            quiet = Window(window.moments.copy())
            assert count_request(quiet, now + allowance.retry_after, limit).retry_after is None
    for moment in admitted:
        assert sum(moment <= other < moment + 60 for other in admitted) <= limit
