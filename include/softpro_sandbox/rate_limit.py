"""Limit requests per grant in any 60 s; rejected requests count too (contract, Rate limit)."""

import math
from collections import deque
from dataclasses import dataclass, field

WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class Allowance:
    """The rate limit's decision on one request. `retry_after` is None when the request is admitted."""

    limit: int
    remaining: int
    retry_after: int | None


@dataclass
class Window:
    """The requests of one grant in the last 60 s, oldest first.

    Attributes:
        moments: the times of all requests, in seconds.
        admitted: the times of the requests that were admitted.
        busiest: the most requests that were ever admitted in one window.
    """

    moments: deque[float] = field(default_factory=deque)
    admitted: deque[float] = field(default_factory=deque)
    busiest: int = 0


def count_request(window: Window, now: float, limit: int) -> Allowance:
    """Count a request at `now` (seconds) and decide whether to admit it.

    Waiting `retry_after` whole seconds is enough if the grant makes no other request until then.
    """
    for moments in (window.moments, window.admitted):
        while moments and now - moments[0] >= WINDOW_SECONDS:
            moments.popleft()
    window.moments.append(now)
    used = len(window.moments)
    if used > limit:
        # The next request passes once at most limit - 1 of the moments, including this one, are in the window.
        wait = window.moments[used - limit] + WINDOW_SECONDS - now
        return Allowance(limit, 0, max(1, math.ceil(wait)))
    window.admitted.append(now)
    window.busiest = max(window.busiest, len(window.admitted))
    return Allowance(limit, limit - used, None)


def rate_limit_headers(allowance: Allowance) -> dict[str, str]:
    """Return the rate limit headers of a response."""
    headers = {"X-RateLimit-Limit": str(allowance.limit), "X-RateLimit-Remaining": str(allowance.remaining)}
    if allowance.retry_after is not None:
        headers["Retry-After"] = str(allowance.retry_after)
    return headers
