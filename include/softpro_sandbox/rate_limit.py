"""The rate limit: so many requests in any 60 s, per grant, refused ones included (contract, Rate limit)."""

import math
from collections import deque
from dataclasses import dataclass, field

WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class Allowance:
    """What the limit says to one request. `retry_after` is None when the request is let in."""

    limit: int
    remaining: int
    retry_after: int | None


@dataclass
class Window:
    """The requests of one grant in the last 60 s, oldest first, and the most that were ever let in together."""

    moments: deque[float] = field(default_factory=deque)
    admitted: deque[float] = field(default_factory=deque)
    busiest: int = 0


def count_request(window: Window, now: float, limit: int) -> Allowance:
    """Count a request at `now` (seconds) and say whether it may pass.

    Waiting `retry_after` whole seconds suffices if no other request is made meanwhile.
    """
    for moments in (window.moments, window.admitted):
        while moments and now - moments[0] >= WINDOW_SECONDS:
            moments.popleft()
    window.moments.append(now)
    used = len(window.moments)
    if used > limit:
        # The next request passes once no more than limit - 1 of the moments, this one among them, are in the window.
        wait = window.moments[used - limit] + WINDOW_SECONDS - now
        return Allowance(limit, 0, max(1, math.ceil(wait)))
    window.admitted.append(now)
    window.busiest = max(window.busiest, len(window.admitted))
    return Allowance(limit, limit - used, None)


def rate_limit_headers(allowance: Allowance) -> dict[str, str]:
    """The headers that tell a grant where it stands."""
    told = {"X-RateLimit-Limit": str(allowance.limit), "X-RateLimit-Remaining": str(allowance.remaining)}
    if allowance.retry_after is not None:
        told["Retry-After"] = str(allowance.retry_after)
    return told
