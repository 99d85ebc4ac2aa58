"""Fetches what a stream owes, page by page, and lands each page; for a slice of time, or to the end of the list.

A page is landed while the next one is fetched. A list is paged by time; where the vendor turns out not to sort or
filter it, that is noted and it is swept by offset.
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
from softpro.sync.paging import SMALLEST_PAGE, ByTime, Position, UnsortedList, Way
from softpro.sync.sweep import Sweep, resumed

MIN_RETRY_SECONDS = 10.0
"""Even at the end of a slice the client may wait this long between two tries."""

PROMPT_SECONDS = 1.0
"""An answer that takes longer says little about SoftPro's clock."""

Progress = Callable[[int, int], None]
"""Called after each page with the records fetched in this slice and the length of the list that is left."""

log = logging.getLogger(__name__)


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
    Raises LeaseLost, UnsweepableList, SoftProAPIError; what was landed before stays.
    """
    able = capabilities.read(connection, run.integration_id)
    limit = max(SMALLEST_PAGE, min(batch_size, able.page_limit))
    deadline = time.monotonic() + seconds
    client.deadline = deadline + MIN_RETRY_SECONDS
    cursor = cursors.read(connection, run)
    if first_slice:
        cursor = cursors.begin(cursor, run.mode)
    way, pages, fetched = paging_of(cursor, able, first_slice), 0, 0
    requests_before = requests_counted = client.requests_made
    first_load = isinstance(way, ByTime) and cursor.sweep is None and cursors.never_synced(connection, run)
    with landing(connection, run, only_new=first_load) as landed:
        while True:
            asked = way.position
            try:
                began = time.monotonic()
                page = client.list_page(
                    run.entity_type, updated_from=asked.updated_from, limit=limit, offset=asked.offset
                )
                pages += 1
                if pages == 1 and time.monotonic() - began < PROMPT_SECONDS:
                    capabilities.measure_clock(connection, run.integration_id, able, client.asked_at, page.answered_at)
                turn = way.take(page, limit)
            except UnsortedList as told:
                landed.wait()
                landed.start_over()
                able = _learn(connection, run, able, told.lacks)
                way = Sweep(Position())  # from the first record: pages that looked sorted may have skipped some
                continue
            except SoftProError as failed:
                landed.wait()
                requests_made = client.requests_made - requests_counted
                if isinstance(failed, RateLimitError) and (pages or _frees_soon(failed)):  # another slice does the rest
                    landed.put(Batch([], replace(cursor, backlog=True), client.asked_at, requests_made=requests_made))
                    return Extracted(landed.wait(), client.requests_made - requests_before, True)
                sync_logs.add_counts(connection, run.log_id, api_requests=requests_made)
                raise
            if turn.lacks is not None:
                landed.wait()
                able = _learn(connection, run, able, turn.lacks)
            way = turn.way
            again = turn.new if cursor.sweep is Mode.FULL else frozenset()
            begins_full = cursor.sweep is Mode.FULL and asked == Position()
            cursor = Cursor(
                way.held,
                None if turn.ended else cursor.sweep,
                not turn.done,
                way.visible_until,
                page.total if begins_full else cursor.sweep_total,
            )
            records = page.records if turn.accepted else []
            requests_made = client.requests_made - requests_counted
            landed.put(Batch(records, cursor, client.asked_at, len(turn.new), again, requests_made, page.answered_at))
            requests_counted = client.requests_made
            left = max(0, page.total - asked.offset - len(page.records)) if page.has_more else 0
            fetched += len(turn.new)
            progress(fetched, fetched + left)
            if turn.done or time.monotonic() >= deadline:
                return Extracted(landed.wait(), client.requests_made - requests_before, not turn.done)


def paging_of(cursor: Cursor, able: Capabilities, first_slice: bool) -> Way:
    """How the list is paged from the stored cursor on: by time where the vendor sorts and filters, else by offset.

    Neither way goes on with what the other one left: by time it starts where the sweep under way had started; a sweep
    starts from the first record, as what is known now to be unsorted may have looked sorted before.
    """
    position, sweeping = cursor.position, cursor.visible_until
    if able.sorts_by_updated_at and able.filters_updated_from:
        position = position if sweeping is None else Position(position.updated_from)
        return ByTime(position, position)
    if sweeping is None:
        return Sweep(position if position.last is None else Position())
    if first_slice and position.last is None:
        return Sweep(position)  # that sweep had ended: it only had to look for what changed meanwhile
    return resumed(position, sweeping)


def _frees_soon(limit: RateLimitError) -> bool:
    """Our own share is used up as it is in any busy minute: nothing failed."""
    return isinstance(limit, BudgetExhausted) and (limit.retry_after or 0) <= WINDOW_SECONDS


def _learn(connection: Connection, run: Run, able: Capabilities, lacks: str) -> Capabilities:
    """Notes what the vendor turned out not to do, for all runs to come."""
    if getattr(able, lacks):
        capabilities.note(connection, run.integration_id, **{lacks: False})
        log.warning(
            "capability_noted: %s of %s, so its lists are gone through as a whole; a probe asks again",
            f"{lacks}=false",
            run.organization_id,
            extra={
                "integration_id": str(run.integration_id),
                "entity_type": run.entity_type.value,
                "fact": f"{lacks}=false",
            },
        )
    return replace(able, **{lacks: False})
