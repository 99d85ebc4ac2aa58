"""Fetch a stream page by page and land each page, for a slice of time or to the end of the list.

A page is landed while the next one is fetched. A list is paged by time. If SoftPro turns out not to sort or filter it,
that fact is stored and the list is swept by offset. See docs/design/paging.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from softpro.db import sync_logs
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import Mode
from softpro.errors import BudgetExhausted, RateLimitError, SoftProError
from softpro.softpro360 import capabilities
from softpro.softpro360.capabilities import Capabilities
from softpro.softpro360.client import Client
from softpro.softpro360.contract import WINDOW_SECONDS
from softpro.sync import cursors
from softpro.sync.cursors import Cursor
from softpro.sync.land import Batch, landing
from softpro.sync.paging import MIN_PAGE_SIZE, ByTime, Pager, Position, UnsortedList
from softpro.sync.sweep import Sweep, resume_sweep

MIN_RETRY_SECONDS = 10.0
"""The client may wait this long between two attempts, even at the end of a slice."""

MAX_CLOCK_SAMPLE_SECONDS = 1.0
"""A response that takes longer is not used to measure SoftPro's clock."""

Progress = Callable[[int, int], None]
"""Called after each page with the records fetched in this slice, and the same plus the records left in the list."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extracted:
    """The result of a slice.

    Attributes:
        fetched: the number of records that are new to the stream.
        requests: the number of requests made.
        backlog: more records are left to fetch.
    """

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
    """Fetch for at most `seconds`, landing each page together with the cursor.

    A page that is being fetched when the time ends is finished. After an error, the pages landed before stay.

    Args:
        batch_size: the number of records to ask for in a page, within SoftPro's limit.
        seconds: the length of the slice.
        first_slice: false for a later slice of the same run, which continues the sweep that the first one began.
        progress: called after each page.

    Raises:
        LeaseLost: another run took over the stream.
        UnsweepableList: the list can be paged neither by time nor by offset.
        SoftProAPIError: SoftPro refused a request or did not answer.
    """
    supported = capabilities.read(connection, run.integration_id)
    limit = max(MIN_PAGE_SIZE, min(batch_size, supported.page_limit))
    deadline = time.monotonic() + seconds
    client.deadline = deadline + MIN_RETRY_SECONDS
    cursor = cursors.read(connection, run)
    if first_slice:
        cursor = cursors.start_cursor(cursor, run.mode)
    pager, pages, fetched = choose_pager(cursor, supported, first_slice), 0, 0
    requests_before = requests_counted = client.requests_made
    first_load = isinstance(pager, ByTime) and cursor.sweep is None and cursors.never_synced(connection, run)
    with landing(connection, run, only_new=first_load) as landed:
        while True:
            asked = pager.position
            try:
                began = time.monotonic()
                page = client.list_page(
                    run.entity_type, updated_from=asked.updated_from, limit=limit, offset=asked.offset
                )
                pages += 1
                if pages == 1 and time.monotonic() - began < MAX_CLOCK_SAMPLE_SECONDS:
                    capabilities.measure_clock(
                        connection, run.integration_id, supported, client.asked_at, page.answered_at
                    )
                outcome = pager.take(page, limit)
            except UnsortedList as unsorted:
                landed.wait()
                landed.start_over()
                supported = _record_missing_capability(connection, run, supported, unsorted.lacks)
                pager = Sweep(Position())  # from the first record: pages that looked sorted may have skipped some
                continue
            except SoftProError as failed:
                landed.wait()
                requests_made = client.requests_made - requests_counted
                # Another slice continues once the rate limit allows it.
                if isinstance(failed, RateLimitError) and (pages or _frees_soon(failed)):
                    landed.put(Batch([], replace(cursor, backlog=True), client.asked_at, requests_made=requests_made))
                    return Extracted(landed.wait(), client.requests_made - requests_before, True)
                sync_logs.add_counts(connection, run.log_id, api_requests=requests_made)
                raise
            if outcome.lacks is not None:
                landed.wait()
                supported = _record_missing_capability(connection, run, supported, outcome.lacks)
            pager = outcome.pager
            again = outcome.new if cursor.sweep is Mode.FULL else frozenset()
            begins_full = cursor.sweep is Mode.FULL and asked == Position()
            cursor = Cursor(
                pager.held,
                None if outcome.ended else cursor.sweep,
                not outcome.done,
                pager.visible_until,
                page.total if begins_full else cursor.sweep_total,
            )
            records = page.records if outcome.accepted else []
            requests_made = client.requests_made - requests_counted
            landed.put(
                Batch(records, cursor, client.asked_at, len(outcome.new), again, requests_made, page.answered_at)
            )
            requests_counted = client.requests_made
            left = max(0, page.total - asked.offset - len(page.records)) if page.has_more else 0
            fetched += len(outcome.new)
            progress(fetched, fetched + left)
            if outcome.done or time.monotonic() >= deadline:
                return Extracted(landed.wait(), client.requests_made - requests_before, not outcome.done)


def choose_pager(cursor: Cursor, supported: Capabilities, first_slice: bool) -> Pager:
    """Return the pager that continues from the stored cursor: by time if SoftPro sorts and filters, else by offset.

    Neither pager continues a position of the other. Paging by time restarts where the sweep in progress had started. A
    sweep starts from the first record, because a list now known to be unsorted may have looked sorted before.
    """
    position, sweeping = cursor.position, cursor.visible_until
    if supported.sorts_by_updated_at and supported.filters_updated_from:
        position = position if sweeping is None else Position(position.updated_from)
        return ByTime(position, position)
    if sweeping is None:
        return Sweep(position if position.last is None else Position())
    if first_slice and position.last is None:
        return Sweep(position)  # that sweep had ended: it only had to look for changes made during it
    return resume_sweep(position, sweeping)


def _frees_soon(limit: RateLimitError) -> bool:
    """Return whether our own share of the budget is used up for now, which is normal in a busy minute."""
    return isinstance(limit, BudgetExhausted) and (limit.retry_after or 0) <= WINDOW_SECONDS


def _record_missing_capability(connection: Connection, run: Run, supported: Capabilities, lacks: str) -> Capabilities:
    """Store what SoftPro turned out not to support, so that later runs know it, and return the capabilities left."""
    if getattr(supported, lacks):
        capabilities.note(connection, run.integration_id, **{lacks: False})
        log.warning(
            "capability_noted: %s of %s, so its lists are read as a whole; a probe checks it again",
            f"{lacks}=false",
            run.organization_id,
            extra={
                "integration_id": str(run.integration_id),
                "entity_type": run.entity_type.value,
                "fact": f"{lacks}=false",
            },
        )
    return replace(supported, **{lacks: False})
