"""Fetches what a stream owes, page by page, and lands each page; for a slice of time, or to the end of the list."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from softpro.entities import Mode
from softpro.errors import RateLimitError, SoftProAPIError
from softpro.store import logs
from softpro.store.database import Connection
from softpro.store.leases import Run
from softpro.sync import cursors
from softpro.sync.cursors import Cursor
from softpro.sync.land import land
from softpro.sync.paging import SMALLEST_PAGE, Position, advance, hold, horizon
from softpro.vendor.client import Client
from softpro.vendor.records import Key, Record, Unreadable

LEAST_PATIENCE_SECONDS = 10.0
"""Even at the end of a slice the client may wait this long between two tries."""

Progress = Callable[[int, int], None]
"""Called after each page with the records fetched in this slice and the length of the list that is left."""


@dataclass(frozen=True)
class Extracted:
    """What a slice brought: records new to the stream, requests made, and whether there is more to fetch."""

    fetched: int
    requests: int
    backlog: bool


def extract(
    connection: Connection,
    client: Client,
    run: Run,
    *,
    batch_size: int,
    seconds: float,
    first_slice: bool = True,
    progress: Progress = lambda fetched, total: None,
) -> Extracted:
    """Fetches for at most `seconds` (the page under way is finished), landing each page with the cursor.

    A later slice of the same run (`first_slice` false) goes on with the sweep that the first one began.
    Raises LeaseLost, UnsortedList, SoftProAPIError; what was landed before stays.
    """
    limit = max(SMALLEST_PAGE, batch_size)
    deadline = time.monotonic() + seconds
    client.deadline = time.monotonic() + max(seconds, LEAST_PATIENCE_SECONDS)
    cursor = cursors.read(connection, run)
    if first_slice:
        cursor = cursors.begin(cursor, run.mode)
    position, frozen, fetched, pages = cursor.position, False, 0, 0
    requests_before = requests_counted = client.requests_made
    while True:
        try:
            page = client.list_page(
                run.entity_type, updated_from=position.updated_from, limit=limit, offset=position.offset
            )
        except SoftProAPIError as failed:
            logs.add(connection, run.log_id, api_requests=client.requests_made - requests_counted)
            if isinstance(failed, RateLimitError) and pages:
                return Extracted(fetched, client.requests_made - requests_before, True)  # the rest is for another slice
            raise
        step = advance(position, [_key(record) for record in page.records], page.has_more, limit)
        held = cursor.position
        if step.accepted and not frozen:
            held, frozen = hold(held, step.position, horizon(page.answered_at))
        accepted = page.records if step.accepted else []
        new = _beyond(position, accepted)
        again = new if cursor.sweep is Mode.FULL else frozenset()
        cursor = Cursor(held, None if step.done else cursor.sweep, not step.done)
        fetched += land(
            connection,
            run,
            accepted,
            cursor,
            new=len(new),
            again=again,
            requests_made=client.requests_made - requests_counted,
        )
        requests_counted, pages = client.requests_made, pages + 1
        left = max(0, page.total - position.offset - len(page.records)) if page.has_more else 0
        progress(fetched, fetched + left)
        position = step.position
        if step.done or time.monotonic() >= deadline:
            return Extracted(fetched, client.requests_made - requests_before, not step.done)


def _key(record: Record | Unreadable) -> Key | None:
    return record.key if isinstance(record, Record) else None


def _beyond(position: Position, records: Sequence[Record | Unreadable]) -> frozenset[str]:
    """The ids of a page's records that lie beyond the one accepted last: pages overlap on purpose."""
    last = position.last
    return frozenset(r.key.id for r in records if isinstance(r, Record) and (last is None or r.key > last))
