"""Run work of several tenants in parallel, so that a slow or failing tenant does not delay the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar
from uuid import UUID

from softpro.entities import Stream

MAX_TENANTS = 8
"""The number of organizations that are worked on at the same time; each waits for its own vendor responses."""

MAX_LATE_SECONDS = 60.0
"""How long after the deadline new work still starts while a slow organization's work is in progress."""

POLL_SECONDS = 0.5
"""How long new work of an idle tenant may go unnoticed while others work."""

MIN_PAUSE_SECONDS = 0.05
"""The pause between two looks for due work, however fast a piece is done."""


class TenantWork(Protocol):
    """A piece of a tenant's work, such as a stream."""

    @property
    def integration_id(self) -> UUID: ...


W = TypeVar("W", bound=TenantWork)
P = TypeVar("P")
K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


def group_by_tenant(pieces: Iterable[P], tenant: Callable[[P], K]) -> dict[K, list[P]]:
    """Group pieces of work by their tenant, tenants and pieces in the order they come."""
    groups: dict[K, list[P]] = {}
    for piece in pieces:
        groups.setdefault(tenant(piece), []).append(piece)
    return groups


def shards(streams: Sequence[Stream], most: int, least_streams: int, apart: Container[UUID] = ()) -> list[list[Stream]]:
    """Distribute streams over at most `most` shards, each of at least `least_streams` if there are enough.

    An integration's streams stay together, because they share its budget and would only wait for each other. The
    integrations in `apart` share no shard with the others, and have up to `most` shards of their own.
    """
    groups = group_by_tenant(streams, lambda stream: stream.integration_id in apart)
    return [shard for group in groups.values() for shard in _deal(group, most, least_streams)]


def _deal(streams: Sequence[Stream], most: int, least_streams: int) -> list[list[Stream]]:
    tenants = group_by_tenant(streams, lambda stream: stream.integration_id)
    count = min(most, max(1, len(streams) // least_streams), len(tenants))
    dealt: list[list[Stream]] = [[] for _ in range(count)]
    for group in sorted(tenants.values(), key=len, reverse=True):
        min(dealt, key=len).extend(group)
    return dealt


def map_tenants(
    pieces: Iterable[P],
    work: Callable[[list[P]], list[R]],
    tenant: Callable[[P], Hashable],
    most: int = MAX_TENANTS,
) -> list[R]:
    """Work on all pieces, `most` tenants in parallel and a tenant's pieces in order, and return all results."""
    with ThreadPoolExecutor(most) as pool:
        return [each for results in pool.map(work, group_by_tenant(pieces, tenant).values()) for each in results]


def run_by_tenant(
    due: Callable[[], Iterable[W]],
    work: Callable[[list[W]], None],
    deadline: float,
    rests: Callable[[W], bool] = lambda piece: False,
) -> None:
    """Work on the due pieces of all tenants in parallel until none is due or the deadline has passed.

    Work in progress at the deadline is finished, and other tenants continue during that time.

    Args:
        due: returns the due pieces; called repeatedly, and may return pieces in progress.
        work: works on the pieces of one tenant.
        deadline: a time of `time.monotonic`.
        rests: returns whether a piece must not start yet.
    """
    working: dict[UUID, Future[None]] = {}
    with ThreadPoolExecutor(MAX_TENANTS) as pool:
        while True:
            for integration_id in [each for each, future in working.items() if future.done()]:
                working.pop(integration_id).result()
            late = time.monotonic() - deadline
            found = list(due()) if late < MAX_LATE_SECONDS else []
            if not working and (not found or late >= 0):
                return
            ready = [piece for piece in found if piece.integration_id not in working and not rests(piece)]
            tenants = group_by_tenant(ready, lambda piece: piece.integration_id)
            for integration_id, pieces in list(tenants.items())[: MAX_TENANTS - len(working)]:
                working[integration_id] = pool.submit(work, pieces)
            if working:
                wait(working.values(), POLL_SECONDS, FIRST_COMPLETED)
                time.sleep(MIN_PAUSE_SECONDS)
            else:
                time.sleep(POLL_SECONDS)
