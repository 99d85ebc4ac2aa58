"""Tenants side by side: one that is slow, or fails, keeps nobody else waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar
from uuid import UUID

MAX_TENANTS = 8
"""Organizations that are worked on at the same time."""

MAX_LATE_SECONDS = 60.0
"""So long after its time work is still begun, while a slow organization's is waited for."""

POLL_SECONDS = 0.2


class OfTenant(Protocol):
    """A piece of work, such as a stream."""

    @property
    def integration_id(self) -> UUID: ...


T = TypeVar("T", bound=OfTenant)


def run_by_tenant(
    due: Callable[[], Iterable[T]],
    work: Callable[[list[T]], None],
    deadline: float,
    rests: Callable[[T], bool] = lambda piece: False,
) -> None:
    """Has what is `due` worked on, one tenant's pieces beside the other's, until nothing is or the time is over
    (`deadline`, of `time.monotonic`); what is under way then is finished, and nobody waits for it meanwhile.

    `due` is asked again all the while, and may tell of pieces that are under way; what `rests` is not begun yet.
    """
    under_way: dict[UUID, Future[None]] = {}
    with ThreadPoolExecutor(MAX_TENANTS) as pool:
        while True:
            for integration_id in [each for each, future in under_way.items() if future.done()]:
                under_way.pop(integration_id).result()
            late = time.monotonic() - deadline
            found = list(due()) if late < MAX_LATE_SECONDS else []
            if not under_way and (not found or late >= 0):
                return
            tenants: dict[UUID, list[T]] = {}
            for piece in found:
                if piece.integration_id not in under_way and not rests(piece):
                    tenants.setdefault(piece.integration_id, []).append(piece)
            for integration_id, pieces in list(tenants.items())[: MAX_TENANTS - len(under_way)]:
                under_way[integration_id] = pool.submit(work, pieces)
            time.sleep(POLL_SECONDS)
